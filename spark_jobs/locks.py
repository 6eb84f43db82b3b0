"""Advisory locks in Postgres: one ingest, one settlement, one archive run at a time, freed by the server if a job dies."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from contracts import names

log = logging.getLogger("locks")
INGEST = "lakeboard.lake.ingest"
SETTLE = "lakeboard.lake.settle"
ARCHIVE = names.ARCHIVE_LOCK


@contextmanager
def advisory_lock(postgres_url: str, name: str) -> Iterator[psycopg.Connection]:
    """Hold the lock `name` while the block runs, on a connection of its own; waits until it is free.

    The connection is in autocommit and is given to the block: what is written on it is written by the lock's holder.
    """
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        key = zlib.crc32(name.encode())
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
        if row is None or not row[0]:
            # Another job may take minutes: whoever reads this one's log must not think that it hangs.
            log.info("lock_waits name=%s why='another job holds it'", name)
            connection.execute("SELECT pg_advisory_lock(%s)", (key,))
            log.info("lock_taken name=%s", name)
        try:
            yield connection
        finally:
            if not connection.broken:
                connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
