"""Postgres `corrections` → Kafka `corrections.v1`: one leased loop with a transactional id of its own (CONTRACTS C9).

The lease is an advisory lock on the connection that reads the table: Postgres frees it when the process dies. The
position (the last id sent) is committed with the records, so a crash repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg

from contracts import names
from contracts.corrections import CORRECTION_TYPE, decode
from contracts.errors import BrokenContract, LakeboardError
from serving.relay.to_kafka import PositionedProducer, Record

LOG = logging.getLogger(__name__)
# Corrections are rare and each waits for a Spark job; asking more often would only wake Postgres.
_IDLE_S = 1.0
_RETRY_S = 5.0
_BATCH = 500
_LEASE = 0x636F7272


class CorrectionsLoop(threading.Thread):
    """Runs until `stopping` is set. ready: whether Postgres has the table yet."""

    def __init__(
        self,
        postgres_url: str,
        bootstrap: str,
        stopping: threading.Event,
        ready: Callable[[], bool] = lambda: True,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(name="corrections", daemon=True)
        self._postgres_url = postgres_url
        self._stopping = stopping
        self._ready = ready
        self._producer = PositionedProducer(
            bootstrap, names.CORRECTIONS_TRANSACTIONS, names.CORRECTIONS_POSITION, after
        )
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
                LOG.log(level, "corrections_behind pause_s=%.1f error=%s", _RETRY_S, error)
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
        if self._sql is None:
            self._sql = psycopg.connect(self._postgres_url, autocommit=True, connect_timeout=5)
        row = self._sql.execute("SELECT max(id) FROM corrections").fetchone()
        last = row[0] if row and row[0] else 0
        if last <= (self._position or 0):
            return False
        if self._position is None:
            leased = self._sql.execute("SELECT pg_try_advisory_lock(%s)", (_LEASE,)).fetchone()
            if not leased or not leased[0]:
                return False
            self._position = self._producer.open()
        entries = self._sql.execute(
            "SELECT id, event FROM corrections WHERE id > %s ORDER BY id LIMIT %s", (self._position, _BATCH)
        ).fetchall()
        if not entries:
            return False
        records = []
        for expected, (number, event) in enumerate(entries, self._position + 1):
            if number != expected or decode(bytes(event)).correction_id != number:
                raise BrokenContract("sequence_gap", f"correction {expected} is not in Postgres")
            headers = [(names.HEADER_TYPE, CORRECTION_TYPE.encode())]
            records.append(Record(names.CORRECTIONS, 0, None, bytes(event), headers))
        self._position = self._producer.send(records, entries[-1][0])
        LOG.info("corrections_sent through=%d", self._position)
        return True
