"""A board over any range: each day taken whole from one source, said in the reply (CONTRACTS D5).

contracts/ranges.py decides, lake/ranges.py sums, this gathers: what is settled, what Redis keeps, whole day boards.
A range that is a settled day, week or month is answered from `rankings` by serving/leaderboards/settled_boards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from contracts import ranges
from contracts.boards import Board, Scope
from contracts.errors import BadInput, Retryable, SystemMissing
from contracts.periods import Span, iso_ms, span
from contracts.ranges import ANSWERS, REDIS, USER_DAYS, Part
from contracts.ranking import RANGE_TICK_US, Total, floor_reached, rank, reached_at_us, unpack
from contracts.replies import BoardPage, BoardReply, Entry, Provenance, RangePage
from serving.connections import Connections
from serving.leaderboards import live_boards, settled_boards
from serving.sessions.store import now_us

# A caller who waits longer should be told.
RANGE_WAIT_S = 30.0
# Queries at once a process: each takes a core and up to lake.ranges.MEMORY_LIMIT.
AT_ONCE = 2
# How many may wait for those; the rest are told at once.
WAITING = 20
# Members that may be read from Redis for one range: a day board of more belongs into the lake first.
HELD_MAX = 500_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A range request after its bounds were read."""

    scope: Scope
    zone: str
    span: Span
    k: int
    user_id: str
    m: int
    explain: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """Days of a zone that a settlement has published, the newest settlement of them, and its snapshot of user_days."""

    days: frozenset[date]
    settlement: str
    snapshot: int | None
    created_at_us: int


NOTHING_SETTLED = Settled(frozenset(), "", None, 0)


class Turns:
    """Bounds the queries of one process: some run, some wait, the rest are told to come back."""

    def __init__(self) -> None:
        self._running = asyncio.Semaphore(AT_ONCE)
        self._here = 0

    async def __aenter__(self) -> None:
        if self._here >= AT_ONCE + WAITING:
            raise Retryable("overloaded", f"{self._here} range queries are here already")
        self._here += 1
        try:
            await self._running.acquire()
        except BaseException:
            self._here -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._here -= 1
        self._running.release()


async def settled_days(connections: Connections, zone: str, first: date, last: date) -> Settled:
    """What is published of a zone's days. Raises SystemMissing while Postgres is down: nobody else knows."""
    async with connections.sql() as sql:
        days = await sql.execute(
            "select distinct start from settlement_periods where period = 'daily' and zone = %s"
            " and start between %s and %s",
            [zone, first, last],
        )
        found = frozenset(row[0] for row in await days.fetchall())
        newest = await sql.execute(
            "select id, (snapshots->>'user_days')::bigint, (extract(epoch from created_at) * 1000000)::bigint"
            " from settlements order by id::bigint desc limit 1"
        )
        row = await newest.fetchone()
    if row is None or row[1] is None:
        return NOTHING_SETTLED
    return Settled(found, *row)


async def held_rows(
    connections: Connections, asked: Asked, days: Sequence[date]
) -> list[tuple[str, int, int | None]]:
    """(user_id, points, reached_at_us) of each user of each day board. Raises BadInput if they are too many."""
    quiz_id = asked.scope.id if asked.scope.kind == "quiz" else None
    boards = [Board(asked.scope, "daily", day, asked.zone) for day in days]
    # Counted before anything is read: one day of a large deployment would fill the process.
    counts = await asyncio.gather(*(connections.boards.participants(board.key, quiz_id) for board in boards))
    if sum(counts) > HELD_MAX:
        raise BadInput(
            "range_too_large",
            f"the days that are not settled have {sum(counts)} rows; a range may read {HELD_MAX}",
            next_step=f"./lakeboard settle --from {days[0]} --to {days[-1]}",
        )
    found: list[tuple[str, int, int | None]] = []
    for board in boards:
        for user, packed in await connections.boards.totals(board.key, quiz_id):
            points, ticks = unpack(packed)
            reached = None if ticks is None else reached_at_us(board.anchor_us, ticks, board.tick_us)
            found.append((user, points, reached))
    return found


async def read_range(connections: Connections, turns: Turns, asked: Asked) -> dict[str, Any]:
    """The reply of a range. Raises BadInput (board_not_kept where this profile cannot tell), SystemMissing, Retryable."""
    days, _ = ranges.split(asked.span, asked.zone)
    has_lake = settled_boards.has_lake(connections.settings)
    has_boards = asked.scope.kind in ("global", "quiz")
    settled = NOTHING_SETTLED
    if has_lake and days and has_boards:
        settled = await settled_days(connections, asked.zone, days[0], days[-1])
    kept = await _kept_days(connections, asked, [day for day in days if day not in settled.days])
    parts = ranges.plan(asked.span, asked.zone, settled.days, kept.__contains__, has_boards)
    if not has_lake and any(part.source != REDIS for part in parts):
        raise BadInput(
            "board_not_kept",
            f"profile {connections.settings.profile} has no lake: only whole days that Redis keeps can be told",
            status=404,
            next_step="./lakeboard up --profile full",
        )
    began, as_of = time.monotonic(), now_us()
    held = await held_rows(connections, asked, [p.day for p in parts if p.source == REDIS and p.day])
    async with turns:
        found = await _query(connections, asked, parts, settled, held)
    known = await live_boards.names_of(
        connections, (entry.user_id for entry in (*found.page.entries, *found.page.around))
    )

    def named(entry: Entry) -> Entry:
        return replace(entry, name=known.get(entry.user_id))

    rules = await live_boards.rules_of(connections, asked.scope.id if asked.scope.kind == "quiz" else None)
    reply = BoardReply(
        scope=str(asked.scope),
        period="range",
        start=iso_ms(asked.span.start_us),
        end=iso_ms(asked.span.end_us),
        entries=tuple(map(named, found.page.entries)),
        participants=found.page.participants,
        provenance=_provenance(parts, settled, found, as_of, rules, asked.span),
        me=named(found.page.me) if found.page.me else None,
        around=tuple(map(named, found.page.around)),
    ).to_dict()
    if asked.explain:
        reply["explain"] = _explained(parts, found, time.monotonic() - began)
    return reply


async def _kept_days(connections: Connections, asked: Asked, days: Sequence[date]) -> frozenset[date]:
    """The days that Redis keeps whole."""
    if not days or asked.scope.kind not in ("global", "quiz"):
        return frozenset()
    ends_us = [span("daily", day, asked.zone).end_us for day in days]
    kept = await live_boards.kept_by_redis(connections, ends_us)
    return frozenset(day for day, held in zip(days, kept, strict=True) if held)


async def _query(
    connections: Connections, asked: Asked, parts: list[Part], settled: Settled, held: Sequence[Any]
) -> RangePage:
    """The board's page; the query is interrupted when its time is over or its caller goes."""
    if all(part.source == REDIS for part in parts):
        return RangePage(await asyncio.to_thread(_page_of, asked, held), rows=len(held))
    lake_ranges = settled_boards.room("lake.ranges")
    sources = lake_ranges.Sources(
        days=[part.day for part in parts if part.source == USER_DAYS],
        user_days_snapshot=settled.snapshot,
        answers=ranges.spans_of(parts, ANSWERS),
        held=held,
    )
    lake = settled_boards.the_lake(connections.settings)
    query = lake_ranges.RangeQuery(lake, asked.scope, asked.zone, asked.span, sources)
    try:
        found: RangePage = await settled_boards.bounded(
            query.run, asked.k, asked.user_id or None, asked.m, seconds=RANGE_WAIT_S
        )
        return found
    except (asyncio.CancelledError, SystemMissing):
        query.stop()
        raise


def _page_of(asked: Asked, held: Sequence[tuple[str, int, int | None]]) -> BoardPage:
    """The page of days that Redis holds alone: profile `live` has no DuckDB. Cost: O(n log n) of their rows."""
    sums: dict[str, tuple[int, int | None]] = {}
    for user, points, reached in held:
        before, latest = sums.get(user, (0, None))
        sums[user] = (before + points, max((at for at in (latest, reached) if at is not None), default=None))

    def floored(at: int | None) -> int | None:
        return None if at is None else floor_reached(at, asked.span.start_us, RANGE_TICK_US)

    rows = rank(Total(user, points, floored(at)) for user, (points, at) in sums.items())
    entries = [
        Entry(
            row.rank,
            row.user_id,
            row.points,
            None if row.reached_at_us is None else iso_ms(row.reached_at_us),
        )
        for row in rows
    ]
    me = next((entry for entry in entries if entry.user_id == asked.user_id), None)
    near = entries[max(me.rank - 1 - asked.m, 0) : me.rank + asked.m] if me else []
    return BoardPage(tuple(entries[: asked.k]), len(entries), me, tuple(near))


def _provenance(
    parts: list[Part], settled: Settled, found: RangePage, as_of_us: int, rules: tuple[str, ...], whole: Span
) -> Provenance:
    """Where the rows come from; `as_of` is the oldest look among the sources."""
    used = {part.source for part in parts}
    looks = [as_of_us]
    if USER_DAYS in used:
        looks.append(settled.created_at_us)
    if ANSWERS in used:
        looks.append(found.answers_as_of_us or 0)  # nothing was ever ingested: as of no time at all
    only_lake, only_redis = used <= {USER_DAYS, ANSWERS}, used == {REDIS}
    state = "settled" if used == {USER_DAYS} else "provisional"
    return Provenance(
        source="redis" if only_redis else "lake" if only_lake else "mixed",
        exactness="exact",
        as_of=iso_ms(min(looks)),
        state="live" if whole.end_us > as_of_us else state,
        rules=rules,
        settlement=settled.settlement if USER_DAYS in used else None,
    )


def _explained(parts: list[Part], found: RangePage, seconds: float) -> dict[str, Any]:
    """The source of each day and edge, and what reading took."""
    return {
        "parts": [
            {
                "source": part.source,
                "from": iso_ms(part.span.start_us),
                "to": iso_ms(part.span.end_us),
                "day": None if part.day is None else str(part.day),
            }
            for part in parts
        ],
        "files": found.files,
        "bytes": found.bytes,
        "rows": found.rows,
        "elapsed_ms": round(seconds * 1000, 1),
    }
