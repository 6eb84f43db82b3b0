"""Boards read whole from the lake: settled ones from `rankings`, session and all-time ones from `answers`.

For reconcile: one query over many boards, streamed board by board, so that memory holds a batch of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from itertools import groupby
from typing import Any

import duckdb
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

from contracts.corrections import Correction
from contracts.ranking import HOUR_US
from lake.counted import count_answers
from lake.views import Lake

_ROWS = 50_000
BoardRow = tuple[int, str, int, int | None]
"""(rank, user_id, points, reached_at_us)."""


@dataclass(frozen=True, slots=True)
class WholeBoard:
    """One board and all its rows, best first."""

    period: str
    start: date
    zone: str
    scope: str
    rows: tuple[BoardRow, ...]


def _stream(found: duckdb.DuckDBPyConnection) -> Iterator[WholeBoard]:
    """Rows (period, start, zone, scope, rank, user_id, points, reached_at_us), ordered, as boards."""

    def rows() -> Iterator[tuple[Any, ...]]:
        while batch := found.fetchmany(_ROWS):
            yield from batch

    for head, group in groupby(rows(), key=lambda row: tuple(row[:4])):
        period, start, zone, scope = head
        yield WholeBoard(period, start, zone, scope, tuple(row[4:] for row in group))


def settled_boards(
    lake: Lake, snapshot_id: int, periods: Sequence[tuple[str, date, str]]
) -> Iterator[WholeBoard]:
    """Every board of some (period, start, zone) as one snapshot of `rankings` has it."""
    starts = [start.isoformat() for _, start, _ in periods]
    # The stubs describe the pydantic fields, not the constructor that the documentation shows.
    where = And(
        GreaterThanOrEqual("start", min(starts)),  # type: ignore[call-arg, arg-type]
        LessThanOrEqual("start", max(starts)),  # type: ignore[call-arg, arg-type]
    )
    with duckdb.connect() as connection:
        lake.view(connection, "rankings", snapshot_id, where)
        connection.execute("CREATE TEMP TABLE wanted (period VARCHAR, start DATE, zone VARCHAR)")
        connection.executemany("INSERT INTO wanted VALUES (?, ?, ?)", [list(row) for row in periods])
        yield from _stream(
            connection.execute(
                "SELECT period, start, zone, scope, rank, user_id, points, reached_at_us FROM rankings "
                "SEMI JOIN wanted USING (period, start, zone) ORDER BY period, start, zone, scope, rank"
            )
        )


class Answers:
    """The present snapshot of `answers` (and what shares its sequence), opened once for several questions."""

    def __init__(self, lake: Lake, corrections: Sequence[Correction] = ()) -> None:
        """corrections: those in force; boards are of the answers as they count under them."""
        self._connection = lake.open()
        count_answers(self._connection, corrections)

    def close(self) -> None:
        self._connection.close()

    def covered(self) -> dict[int, int]:
        """By shard: the last seq up to which the lake has every entry (CONTRACTS C1)."""
        found = self._connection.execute(
            # one row per entry of an outbox, whatever became of it
            "WITH seqs AS (SELECT shard, seq FROM answers UNION SELECT shard, seq FROM barriers "
            "UNION SELECT shard, seq FROM dead_letters WHERE seq IS NOT NULL), "
            "numbered AS (SELECT shard, seq, row_number() OVER (PARTITION BY shard ORDER BY seq) AS place FROM seqs) "
            "SELECT shard, max(seq) FROM numbered WHERE seq = place GROUP BY shard"
        ).fetchall()
        return {int(shard): int(seq) for shard, seq in found}

    def sessions(self) -> dict[str, tuple[int, int]]:
        """session_id → (anchor, tick), µs, of every session with an answer."""
        found = self._connection.execute(
            "SELECT session_id, min(session_started_at_us), min(session_tick_ms) * 1000 FROM answers GROUP BY session_id"
        ).fetchall()
        return {session: (int(anchor), int(tick)) for session, anchor, tick in found}

    def boards(self, start_us: int, end_us: int) -> Iterator[WholeBoard]:
        """All-time boards (global and each quiz), and the boards of sessions that started in [start, end)."""
        self._connection.execute(_TOTALS.format(hour=HOUR_US, start=int(start_us), end=int(end_us)))
        exact = files("contracts").joinpath("board.sql").read_text()
        yield from _stream(
            self._connection.execute(
                "SELECT period, start, zone, scope, rank, user_id, points, reached_at_us "
                f"FROM ({exact}) ORDER BY scope, rank"
            )
        )


# One row per (scope, user): the view that contracts/board.sql reads, for scopes whose board is all-time.
_TOTALS = """
CREATE OR REPLACE TEMP VIEW totals AS
SELECT 'all_time' AS period, DATE '1970-01-01' AS start, 'UTC' AS zone, scope, user_id, min(user_no) AS user_no,
  CAST(sum(points) AS BIGINT) AS points, max(occurred_at_us) FILTER (points > 0) AS reached_at_us,
  min(anchor_us) AS anchor_us, min(tick_us) AS tick_us
FROM (
  SELECT 'global' AS scope, user_id, user_no, points, occurred_at_us, 0 AS anchor_us, {hour} AS tick_us FROM counted
  UNION ALL
  SELECT 'quiz:' || quiz_id, user_id, user_no, points, occurred_at_us, 0, {hour} FROM counted
  UNION ALL
  SELECT 'session:' || session_id, user_id, user_no, points, occurred_at_us, session_started_at_us,
    session_tick_ms * 1000
  FROM counted WHERE session_started_at_us >= {start} AND session_started_at_us < {end}
) AS scoped
GROUP BY scope, user_id
"""
