"""Sink: Kafka `answers.v1`, one transactional id a shard (CONTRACTS C4); corrections go the same way (C9).

Order: the caller holds the lease; `open` 1 fences the predecessor (init_transactions: its open transaction is aborted)
and only then 2 reads the position from the compacted topic `outbox.positions`, read committed. `send` 3 sends a batch
and its position in one transaction and 4 commits it. A crash after 3 leaves neither for a reader of committed records;
after 4, both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from contracts import names
from contracts.errors import SystemMissing
from contracts.events import ANSWER_TYPE
from contracts.identity import answers_partition
from serving.boards.outbox import Entry

# A commit that takes longer than this is given up; the next `open` aborts it by fencing.
_TIMEOUT_S = 30
# The broker aborts a dead relay's transaction after this. Until then no reader of committed records passes it, so it is
# short; shorter than a slow batch it would abort the living.
_TRANSACTION_MS = 20_000
# A batch of 2,000 answers is about 70 kB a partition: one request each.
_REQUEST_BYTES = 262_144
# kafka-python waits this long between tries of a commit; its own 100 ms would be most of a transaction.
_RETRY_PAUSE_MS = 10


def partition_of(entry: Entry) -> tuple[int, bytes | None]:
    """(partition, key) of an entry: an answer goes by its user, a barrier to partition 0."""
    if entry.type != ANSWER_TYPE:
        return 0, None
    user_id = entry.answer().user_id
    return answers_partition(user_id), user_id.encode()


@dataclass(frozen=True, slots=True)
class Record:
    """What one `send` takes."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class PositionedProducer:
    """A producer whose position is committed with its records, under a transactional id and a key of its own.

    `open` before `send`; after an error, `close` and open again.
    """

    def __init__(
        self,
        bootstrap: str,
        transactional_id: str,
        position_key: str,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._after = after
        self._bootstrap = bootstrap.split(",")
        self._transactional_id = transactional_id
        self._key = position_key.encode()
        self._producer: Any = None

    def open(self) -> int:
        """Fence the predecessor, then read the position. Raises SystemMissing."""
        try:
            self.open_producer()  # 1
            self._after("kafka_fenced")
            return self._position()  # 2
        except (KafkaError, OSError) as error:
            self.close()
            raise SystemMissing(
                "system_missing", f"Kafka at {','.join(self._bootstrap)}: {error!r}"
            ) from error

    def open_producer(self) -> None:
        """Fence the predecessor alone."""
        self._producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            transactional_id=self._transactional_id,
            acks="all",
            linger_ms=5,
            batch_size=_REQUEST_BYTES,
            transaction_timeout_ms=_TRANSACTION_MS,
            retry_backoff_ms=_RETRY_PAUSE_MS,
            max_block_ms=_TIMEOUT_S * 1_000,
        )
        self._producer.init_transactions()

    def _position(self) -> int:
        """The last committed position of this key, 0 if there is none. Raises SystemMissing.

        All share the partition, and another one's open transaction hides what was committed after it: the end
        is therefore asked for uncommitted, and reading goes on until that end is past. One that died in a
        transaction delays this until the broker aborts it.
        """
        partition = TopicPartition(names.POSITIONS, 0)
        plain = KafkaConsumer(bootstrap_servers=self._bootstrap, group_id=None)
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            group_id=None,
        )
        try:
            end = plain.end_offsets([partition])[partition]
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            deadline = time.monotonic() + _TRANSACTION_MS / 1_000 + _TIMEOUT_S
            position = 0
            while consumer.position(partition) < end:
                if time.monotonic() > deadline:
                    raise SystemMissing("system_missing", f"{names.POSITIONS} cannot be read to {end}")
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        if record.key == self._key:
                            position = int(record.value)
            return position
        finally:
            plain.close()
            consumer.close()

    def send(self, records: Sequence[Record], end: int) -> int:
        """Publish records and the position `end` in one transaction; the new position. Raises SystemMissing."""
        if self._producer is None:
            raise SystemMissing("system_missing", f"the producer {self._transactional_id} is not open")
        try:
            self._producer.begin_transaction()  # 3
            sent = [
                self._producer.send(
                    one.topic, value=one.value, key=one.key, partition=one.partition, headers=one.headers
                )
                for one in records
            ]
            sent.append(
                self._producer.send(names.POSITIONS, key=self._key, value=str(end).encode(), partition=0)
            )
            self._producer.flush(timeout=_TIMEOUT_S)
            for future in sent:
                future.get(timeout=_TIMEOUT_S)
            self._after("kafka_sent")
            self._producer.commit_transaction()  # 4
        except (KafkaError, OSError) as error:
            self.close()
            raise SystemMissing(
                "system_missing",
                f"Kafka did not take {len(records)} records up to {end} of {self._transactional_id}: {error!r}",
            ) from error
        return end

    def close(self) -> None:
        """Drop the producer; an open transaction is aborted by the next `open`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=1)


class KafkaSink(PositionedProducer):
    """One shard's answers and barriers."""

    def __init__(self, bootstrap: str, shard: int, after: Callable[[str], None] = lambda step: None) -> None:
        super().__init__(bootstrap, names.transactional_id(shard), str(shard), after)
        self._shard = shard

    def write(self, entries: Sequence[Entry]) -> int:
        """Publish entries and their position in one transaction; the new position. Raises SystemMissing."""
        return self.send([self._record(entry) for entry in entries], entries[-1].seq)

    def _record(self, entry: Entry) -> Record:
        partition, key = partition_of(entry)
        headers = [
            (names.HEADER_TYPE, entry.type.encode()),
            (names.HEADER_SHARD, str(self._shard).encode()),
            (names.HEADER_SEQ, str(entry.seq).encode()),
        ]
        return Record(names.ANSWERS, partition, key, entry.event, headers)
