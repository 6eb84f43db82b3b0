"""A Postgres table with dense ids → a Kafka topic: one leased loop a table, with a transactional id of its own (CONTRACTS C9).

Corrections and enrolments go this way. The lease is an advisory lock on the connection that reads the table: Postgres
frees it when the process dies. The position (the last id sent) is committed with the records, so a crash repeats nothing
and leaves nothing out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from contracts import corrections, enrolments, names
from contracts.errors import BrokenContract, LakeboardError
from serving.relay.to_kafka import PositionedProducer, Record

LOG = logging.getLogger(__name__)
# What waits for these is a Spark job; asking more often would only wake Postgres.
_IDLE_S = 1.0
_RETRY_S = 5.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class TableOutbox:
    """A table `name` (id, event) and where it goes. id_in: the id in an event's bytes; lease: key of the advisory lock."""

    name: str
    topic: str
    type: str
    id_in: Callable[[bytes], int]
    lease: int
    transactional_id: str
    position_key: str


CORRECTIONS = TableOutbox(
    "corrections",
    names.CORRECTIONS,
    corrections.CORRECTION_TYPE,
    lambda event: corrections.decode(event).correction_id,
    0x636F7272,
    names.CORRECTIONS_TRANSACTIONS,
    names.CORRECTIONS_POSITION,
)
ENROLMENTS = TableOutbox(
    "enrolments",
    names.ENROLMENTS,
    enrolments.ENROLMENT_TYPE,
    lambda event: enrolments.decode(event).enrolment_id,
    0x656E726F,
    names.ENROLMENTS_TRANSACTIONS,
    names.ENROLMENTS_POSITION,
)


class TableLoop(threading.Thread):
    """Runs until `stopping` is set. ready: whether Postgres has the table yet."""

    def __init__(
        self,
        outbox: TableOutbox,
        postgres_url: str,
        bootstrap: str,
        stopping: threading.Event,
        ready: Callable[[], bool] = lambda: True,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(name=outbox.name, daemon=True)
        self._outbox = outbox
        self._postgres_url = postgres_url
        self._stopping = stopping
        self._ready = ready
        self._producer = PositionedProducer(bootstrap, outbox.transactional_id, outbox.position_key, after)
        self._sql: psycopg.Connection | None = None
        self._position: int | None = None

    def run(self) -> None:
        """Send what comes; after an error, give the lease up and begin again."""
        while not self._stopping.is_set():
            pause = _IDLE_S
            try:
                if self._ready() and self.step():
                    continue
            except (LakeboardError, psycopg.Error, OSError) as error:
                level = logging.ERROR if isinstance(error, BrokenContract) else logging.WARNING
                LOG.log(level, "%s_behind pause_s=%.1f error=%s", self._outbox.name, _RETRY_S, error)
                self.stop_leading()
                pause = _RETRY_S
            self._stopping.wait(pause)
        self.stop_leading()

    def stop_leading(self) -> None:
        """Give up the lease and the producer; an open transaction is aborted by the next leader."""
        self._producer.close()
        self._position = None
        if self._sql is not None:
            self._sql.close()
            self._sql = None

    def step(self) -> bool:
        """One transaction, if there is something to send. The producer is opened only then: most stacks never correct."""
        outbox = self._outbox
        if self._sql is None:
            self._sql = psycopg.connect(self._postgres_url, autocommit=True, connect_timeout=5)
        row = self._sql.execute(f"SELECT max(id) FROM {outbox.name}").fetchone()
        last = row[0] if row and row[0] else 0
        if last <= (self._position or 0):
            return False
        if self._position is None:
            leased = self._sql.execute("SELECT pg_try_advisory_lock(%s)", (outbox.lease,)).fetchone()
            if not leased or not leased[0]:
                return False
            self._position = self._producer.open()
        entries = self._sql.execute(
            f"SELECT id, event FROM {outbox.name} WHERE id > %s ORDER BY id LIMIT %s",
            (self._position, _BATCH),
        ).fetchall()
        if not entries:
            return False
        records = []
        for expected, (number, event) in enumerate(entries, self._position + 1):
            if number != expected or outbox.id_in(bytes(event)) != number:
                raise BrokenContract("sequence_gap", f"{outbox.name}: id {expected} is not in Postgres")
            headers = [(names.HEADER_TYPE, outbox.type.encode())]
            records.append(Record(outbox.topic, 0, None, bytes(event), headers))
        self._position = self._producer.send(records, entries[-1][0])
        LOG.info("%s_sent through=%d", outbox.name, self._position)
        return True
