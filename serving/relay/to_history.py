"""Sink: Postgres `history`. COPY into a temporary table, insert, and move the position, in one transaction (C5).

The position moves by compare-and-set; no row updated means another relay went on from there: Fenced.
A crash before COMMIT leaves nothing; after it, the position says that the batch is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from contracts import names
from contracts.errors import BrokenContract
from contracts.events import ANSWER_FIELDS, ANSWER_TYPE, decode_barrier
from contracts.periods import from_instant_us, next_start
from serving.boards.outbox import Entry
from serving.event_bytes import values

SINK = "history"
_ANSWER_COLUMNS = tuple(f.name for f in ANSWER_FIELDS if f.name != "event_id")
COLUMNS = ("shard", "seq", "type", "event_id", "occurred_at", "mode", "event", *_ANSWER_COLUMNS)
_TAGS = _ANSWER_COLUMNS.index("skill_tags")
assert ANSWER_FIELDS[0].name == "event_id"
_PARTITION_LOCK = 0x70617274


def row_of(shard: int, entry: Entry) -> tuple[Any, ...]:
    """An entry as a row of history, in the order of COLUMNS."""
    head: tuple[Any, ...]
    if entry.type != ANSWER_TYPE:
        barrier = decode_barrier(entry.event)
        head = (
            shard,
            entry.seq,
            entry.type,
            barrier.event_id,
            from_instant_us(barrier.end_us),
            entry.mode,
            entry.event,
        )
        return (*head, *(None for _ in _ANSWER_COLUMNS))
    event = entry.answer()
    ident, *rest = values(event)
    rest[_TAGS] = list(event.skill_tags)  # an array; a tuple would be a row
    return (
        shard,
        entry.seq,
        entry.type,
        ident,
        from_instant_us(event.occurred_at_us),
        entry.mode,
        entry.event,
        *rest,
    )


class History:
    """One shard's history, on a connection of its own that is made again after an error."""

    def __init__(self, url: str, shard: int) -> None:
        self._url = url
        self._shard = shard
        self._connection: psycopg.Connection | None = None
        self._months: set[date] = set()

    def connection(self) -> psycopg.Connection:
        """The open connection, in autocommit between transactions."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def position(self, sink: str = SINK) -> int:
        """The last seq that is in, creating the row at 0."""
        connection = self.connection()
        connection.execute(
            "INSERT INTO relay_position (sink, shard, position) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
            (sink, self._shard),
        )
        found = connection.execute(
            "SELECT position FROM relay_position WHERE sink = %s AND shard = %s", (sink, self._shard)
        ).fetchone()
        assert found is not None
        return int(found[0])

    def boards_since_us(self) -> int:
        """The instant from which Redis keeps boards."""
        found = (
            self.connection().execute("SELECT value FROM deployment WHERE key = 'boards_since_us'").fetchone()
        )
        return int(found[0]) if found else 0

    def make_partitions(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Make the months of `rows` that history lacks. A repeat changes nothing."""
        months = {row[4].date().replace(day=1) for row in rows} - self._months
        for month in sorted(months):
            start = datetime(month.year, month.month, 1, tzinfo=UTC)
            after = next_start("monthly", month)
            end = datetime(after.year, after.month, 1, tzinfo=UTC)
            with self.connection().transaction():
                self.connection().execute("SELECT pg_advisory_xact_lock(%s)", (_PARTITION_LOCK,))
                self.connection().execute(
                    f"CREATE TABLE IF NOT EXISTS {names.history_partition(month)} PARTITION OF history "
                    f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
                )
            self._months.add(month)

    def write(self, position: int, entries: Sequence[Entry], lease_epoch: int) -> int:
        """Insert entries that follow `position`; the new position.

        Raises BrokenContract: fenced (another relay went on from there), sequence_gap, check_failed (an answer that
        history already has, under another seq: it was counted twice).
        """
        for expected, entry in enumerate(entries, position + 1):
            if entry.seq != expected:
                raise BrokenContract(
                    "sequence_gap", f"shard {self._shard}: seq {expected} is missing, found {entry.seq}"
                )
        rows = [row_of(self._shard, entry) for entry in entries]
        try:
            return self._insert_into_partitions(rows, position, entries[-1].seq, lease_epoch)
        except psycopg.errors.UniqueViolation as error:
            # The rows stand there first where a successor has written the same batch.
            code = "check_failed" if self.position() == position else "fenced"
            detail = f"history of shard {self._shard} after {position}: {error.diag.message_detail}"
            raise BrokenContract(code, detail, next_step="see docs/runbooks/relay-alarm.md") from error

    def _insert_into_partitions(
        self, rows: Sequence[tuple[Any, ...]], position: int, end: int, lease_epoch: int
    ) -> int:
        """Insert; once more where a partition that this process had seen was archived meanwhile."""
        self.make_partitions(rows)
        try:
            return self._insert(rows, position, end, lease_epoch)
        except psycopg.errors.CheckViolation:  # "no partition of relation history found for row"
            self._months.clear()
            self.make_partitions(rows)
            return self._insert(rows, position, end, lease_epoch)

    def _insert(self, rows: Sequence[tuple[Any, ...]], position: int, end: int, lease_epoch: int) -> int:
        columns = ", ".join(COLUMNS)
        connection = self.connection()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE history) ON COMMIT DELETE ROWS"
            )
            with cursor.copy(f"COPY incoming ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(f"INSERT INTO history ({columns}) SELECT {columns} FROM incoming")
            cursor.execute(
                "UPDATE relay_position SET position = %s, lease_epoch = %s "
                "WHERE sink = %s AND shard = %s AND position = %s AND lease_epoch <= %s",
                (end, lease_epoch, SINK, self._shard, position, lease_epoch),
            )
            if cursor.rowcount != 1:
                raise BrokenContract("fenced", f"history of shard {self._shard} is no longer at {position}")
        return end

    def read_after(self, position: int, count: int) -> list[Entry]:
        """The entries after a position, for a sink that the outbox no longer reaches."""
        return list(self._entries(position, count))

    def _entries(self, position: int, count: int) -> Iterator[Entry]:
        found = self.connection().execute(
            "SELECT seq, type, event, mode FROM history WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s",
            (self._shard, position, count),
        )
        for seq, kind, event, mode in found:
            yield Entry(seq, kind, bytes(event), mode)
