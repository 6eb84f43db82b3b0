"""Outbox entries from the lake: what history no longer has, in the order of seq, as the bytes that it had.

The bytes are built again from the columns by the encoder that built them first; that they are equal was proven when
the month was archived (contracts/archive.py).
"""

from __future__ import annotations

import heapq
import operator
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThan

from contracts.events import (
    ANSWER_FIELDS,
    ANSWER_TYPE,
    BARRIER_TYPE,
    AnswerEvent,
    BarrierEvent,
    encode,
    encode_barrier,
)
from contracts.periods import from_instant_us, span
from lake.views import Lake

# Rows decoded at once: a few MB.
_ROWS = 2_000
# Sorting by seq spills to the disk beyond this.
MEMORY_LIMIT = "512MB"
_FIELDS = ", ".join(field.name for field in ANSWER_FIELDS)


class ArchivedEntry(NamedTuple):
    """One entry: its place, type and bytes. mode: the answer's origin, or barrier; whether it was late is not kept."""

    shard: int
    seq: int
    type: str
    event: bytes
    mode: str


class ArchivedEntries:
    """One shard's archived entries, read forward: asking for what follows the last answer costs nothing anew.

    months: the archived ones; None for everything that the lake has.
    """

    def __init__(self, lake: Lake, shard: int, months: Sequence[date] | None) -> None:
        self.lake, self.shard = lake, shard
        self.months = None if months is None else sorted(months)
        self._stream: Iterator[ArchivedEntry] | None = None
        self._ahead: ArchivedEntry | None = None
        self._passed = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._spill: Path | None = None

    def close(self) -> None:
        """Forget the stream and its spilled blocks."""
        self._stream = self._ahead = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)
            self._spill = None

    def read_after(self, position: int, limit: int) -> list[ArchivedEntry]:
        """Up to `limit` entries with seq > position, in order; fewer or none where the archive has no more."""
        if self._stream is None or position < self._passed:
            self.close()
            self._stream = self._open(position)
            self._ahead = next(self._stream, None)
        self._passed = position
        found: list[ArchivedEntry] = []
        while self._ahead is not None and len(found) < limit:
            if self._ahead.seq > position:
                found.append(self._ahead)
                self._passed = self._ahead.seq
            self._ahead = next(self._stream, None)
        return found

    def _open(self, position: int) -> Iterator[ArchivedEntry]:
        # Spilled blocks lie beside the cached files, never in the caller's folder.
        self._spill = Path(tempfile.mkdtemp(prefix="spill-", dir=self.lake.files.folder))
        self._connection = duckdb.connect()
        self._connection.execute(f"SET temp_directory = '{self._spill}'")
        self._connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET TimeZone = 'UTC'")
        self.lake.view(self._connection, "answers", None, _within(self.months, "occurred_at"))
        self.lake.view(self._connection, "barriers")
        place = f"shard = {self.shard} AND seq > {position}"
        barriers = self._connection.execute(
            f"SELECT shard, seq, event_id, zone, day, start_us, end_us FROM barriers "
            f"WHERE {place} AND ({_in_months(self.months, 'end_us')})"
        ).fetchall()
        answers = self._connection.execute(
            f"SELECT shard, seq, {_FIELDS} FROM answers "
            f"WHERE {place} AND ({_in_months(self.months, 'occurred_at_us')}) ORDER BY seq"
        )
        closed = sorted((_barrier(row) for row in barriers), key=operator.attrgetter("seq"))
        return heapq.merge(_stream(answers), closed, key=operator.attrgetter("seq"))


def answers_of(lake: Lake, months: Sequence[date], column: str, ident: str) -> list[ArchivedEntry]:
    """All archived answers of a user (column user_id) or a session (session_id), in the order of (shard, seq)."""
    assert column in ("user_id", "session_id")
    if not months:
        return []
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET TimeZone = 'UTC'")
        lake.view(connection, "answers", None, _within(months, "occurred_at"))
        rows = connection.execute(
            f"SELECT shard, seq, {_FIELDS} FROM answers WHERE {column} = $ident "
            f"AND ({_in_months(months, 'occurred_at_us')}) ORDER BY shard, seq",
            {"ident": ident},
        )
        return list(_stream(rows))


def _stream(rows: duckdb.DuckDBPyConnection) -> Iterator[ArchivedEntry]:
    while part := rows.fetchmany(_ROWS):
        for shard, seq, *values in part:
            event = AnswerEvent(*values)
            yield ArchivedEntry(shard, seq, ANSWER_TYPE, encode(event), event.origin)


def _barrier(row: tuple[Any, ...]) -> ArchivedEntry:
    shard, seq, event_id, zone, day, start_us, end_us = row
    event = BarrierEvent(event_id, zone, day.isoformat(), start_us, end_us)
    return ArchivedEntry(shard, seq, BARRIER_TYPE, encode_barrier(event), "barrier")


def _within(months: Sequence[date] | None, column: str) -> BooleanExpression:
    """What a file must be able to hold: the months' whole span."""
    if months is None:
        return AlwaysTrue()
    low, high = (span("monthly", month, "UTC") for month in (min(months), max(months)))
    return And(
        GreaterThanOrEqual(column, from_instant_us(low.start_us).isoformat()),  # type: ignore[call-arg, arg-type]
        LessThan(column, from_instant_us(high.end_us).isoformat()),  # type: ignore[call-arg, arg-type]
    )


def _in_months(months: Sequence[date] | None, column: str) -> str:
    if months is None:
        return "true"
    bounds = [span("monthly", month, "UTC") for month in months]
    return " OR ".join(f"({column} >= {one.start_us} AND {column} < {one.end_us})" for one in bounds)
