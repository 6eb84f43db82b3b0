"""The relay's loop over `sketches.v1`: hours and days merged, late answers taken in, and what has expired deleted.

Decisions are serving/relay/sketch_levels; this reads, sends and leads. One process leads, by an advisory lock on its
connection to Postgres; a predecessor that still writes is fenced by the transactional id. A pass: 1 read both topics
to their ends, 2 decide, 3 send records and tombstones, 4 commit. A crash before 4 leaves nothing for readers of
committed records, after 4 all of it; the next pass reads what the last one wrote.

Nothing is deleted that QuestDB or the lake has not taken: the one's position is its consumer group's, the other's a row
of `deployment` that spark_jobs/ingest_sketches writes after its commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from contracts import names
from contracts.errors import LakeboardError, SystemMissing
from contracts.sketched import SketchKey, SketchRecord
from serving.relay.sketch_levels import Levels

LOG = logging.getLogger(__name__)
# An hour's sketch may be this much later than it could be, and a late answer counted this much later.
EVERY_S = 10.0
_RETRY_S = 5.0
# Tombstones and records of one transaction: a day of minutes of ten kinds. What is left goes in the next.
MOST_TOMBSTONES = 13_000
_LEASE = 0x736B7463
_TIMEOUT_S = 30
# Records of a day are 150 kB in base64, and a pass may write one of each kind.
_MOST_BYTES = 4 * 1024 * 1024
# Reading both topics whole takes seconds; a broker that needs longer is away.
_CATCH_UP_S = 120.0
_SKETCHES, _LATE = TopicPartition(names.SKETCHES, 0), TopicPartition(names.LATE, 0)


class SketchLoop(threading.Thread):
    """Runs until `stopping` is set. questdb_group: the consumer group that writes to QuestDB; None where there is none."""

    def __init__(
        self,
        postgres_url: str,
        bootstrap: str,
        questdb_group: str | None,
        stopping: threading.Event,
        ready: Callable[[], bool] = lambda: True,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(name="sketches", daemon=True)
        self._postgres_url = postgres_url
        self._brokers = bootstrap.split(",")
        self._group = questdb_group
        self._stopping = stopping
        self._ready = ready
        self._now_us = now_us
        self._after = after
        self._sql: psycopg.Connection | None = None
        self._consumer: KafkaConsumer | None = None
        self._ends: KafkaConsumer | None = None
        self._producer: KafkaProducer | None = None
        self.levels = Levels()

    def run(self) -> None:
        """A pass every EVERY_S while leading; after an error, give the lease up and begin again."""
        while not self._stopping.is_set():
            pause = EVERY_S
            try:
                if self._ready() and self.lead():
                    self.step()
            except (LakeboardError, KafkaError, psycopg.Error, OSError) as error:
                LOG.warning("sketch_levels_wait pause_s=%.1f error=%r", _RETRY_S, error)
                self.stop_leading()
                pause = _RETRY_S
            self._stopping.wait(pause)
        self.stop_leading()

    def lead(self) -> bool:
        """Whether this process leads; takes the lease and opens its clients if it is free."""
        if self._producer is not None:
            return True
        if self._sql is None:
            self._sql = psycopg.connect(self._postgres_url, autocommit=True, connect_timeout=5)
        leased = self._sql.execute("SELECT pg_try_advisory_lock(%s)", (_LEASE,)).fetchone()
        if not leased or not leased[0]:
            return False
        producer = KafkaProducer(
            bootstrap_servers=self._brokers,
            transactional_id=names.SKETCHES_TRANSACTIONS,
            acks="all",
            compression_type="gzip",
            max_request_size=_MOST_BYTES,
            max_block_ms=_TIMEOUT_S * 1000,
        )
        # Before anything is read: what a predecessor has open is aborted and what it sends next is refused.
        producer.init_transactions()
        self._producer = producer
        self._consumer = KafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=self._group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        self._ends = KafkaConsumer(bootstrap_servers=self._brokers, group_id=None)
        self._consumer.assign([_SKETCHES, _LATE])
        self._consumer.seek_to_beginning(_SKETCHES, _LATE)
        self.levels = Levels()
        LOG.info("sketch_levels_led")
        return True

    def stop_leading(self) -> None:
        """Give up the lease and the clients; an open transaction is aborted by the next leader."""
        producer, self._producer = self._producer, None
        consumers, self._consumer, self._ends = (self._consumer, self._ends), None, None
        sql, self._sql = self._sql, None
        if producer is not None:
            producer.close(timeout=1)
        for consumer in consumers:
            if consumer is not None:
                consumer.close(autocommit=False)
        if sql is not None:
            sql.close()

    def step(self) -> tuple[int, int]:
        """One pass; how many records and tombstones it wrote. Raises a Kafka error, psycopg.Error or SystemMissing."""
        assert self._sql is not None
        self._sql.execute("SELECT 1")  # the lease goes with the connection
        self._catch_up()  # 1
        now_us = self._now_us()
        records = self.levels.due(now_us)  # 2
        gone = self.levels.expired(now_us, self._in_questdb(), self._in_lake())[:MOST_TOMBSTONES]
        if records or gone:
            self._send(records, gone)
            LOG.info("sketches_merged records=%d tombstones=%d", len(records), len(gone))
        return len(records), len(gone)

    def _catch_up(self) -> None:
        """1. The ends are asked for uncommitted: a commit returns before its mark is in the topic, and up to the end of
        what is committed this loop's own last pass may be missing.
        """
        consumer, deadline = self._consumer, time.monotonic() + _CATCH_UP_S
        assert consumer is not None and self._ends is not None
        ends = self._ends.end_offsets([_SKETCHES, _LATE])
        while any(consumer.position(part) < ends[part] for part in (_SKETCHES, _LATE)):
            if time.monotonic() > deadline:
                raise SystemMissing("system_missing", f"{names.SKETCHES} is not read in {_CATCH_UP_S:g} s")
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    if record.topic == names.LATE:
                        self.levels.apply_late(record.value, record.offset)
                    else:
                        self.levels.apply(record.key, record.value, record.offset)

    def _in_questdb(self) -> int:
        """The first offset that QuestDB may not have; without a QuestDB it waits for nothing."""
        assert self._consumer is not None
        if self._group is None:
            return 2**63 - 1
        return self._consumer.committed(_SKETCHES) or 0

    def _in_lake(self) -> int:
        """The first offset that the lake may not have."""
        assert self._sql is not None
        row = self._sql.execute(
            "SELECT value FROM deployment WHERE key = %s", (names.SKETCHES_IN_LAKE,)
        ).fetchone()
        return int(row[0]) if row else 0

    def _send(self, records: Sequence[SketchRecord], gone: Sequence[SketchKey]) -> None:
        """3, 4. All or nothing for readers of committed records. A key that is written is not deleted in the same pass."""
        producer = self._producer
        assert producer is not None
        written = {record.key for record in records}
        producer.begin_transaction()  # 3
        sent = [
            producer.send(names.SKETCHES, key=record.key.encode(), value=record.encode(), partition=0)
            for record in records
        ]
        sent += [
            producer.send(names.SKETCHES, key=key.encode(), value=None, partition=0)
            for key in gone
            if key not in written
        ]
        producer.flush(timeout=_TIMEOUT_S)
        for future in sent:
            future.get(timeout=_TIMEOUT_S)
        self._after("sketches_sent")
        producer.commit_transaction()  # 4
        self._after("sketches_committed")
