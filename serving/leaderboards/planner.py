"""A board over any range: each month or day taken whole from one source, said in the reply (CONTRACTS D5).

contracts/ranges.py decides, lake/ranges.py sums, this gathers: what is settled, what Redis keeps, whole day boards.
A range that is a settled day, week or month is answered from `rankings` by serving/leaderboards/settled_boards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from contracts import ranges
from contracts.boards import Board, Scope
from contracts.errors import BadInput, Retryable, SystemMissing
from contracts.periods import Span, iso_ms, span
from contracts.ranges import ANSWERS, REDIS, SETTLED_SOURCES, USER_DAYS, USER_MONTHS, Part, Settled
from contracts.ranking import RANGE_TICK_US, Total, floor_reached, rank, reached_at_us, unpack
from contracts.replies import BoardPage, BoardReply, Entry, Provenance, RangePage, UserRank, Wanted
from serving.connections import Connections
from serving.leaderboards import live_boards, publications, settled_boards
from serving.leaderboards.kept_pages import KeptPages
from serving.leaderboards.publications import NOW, At, Publication
from serving.sessions.store import now_us

# A caller who waits longer should be told.
RANGE_WAIT_S = 30.0
# Queries at once a process: each takes a core and up to lake.ranges.MEMORY_LIMIT.
AT_ONCE = 2
# How many may wait for those; the rest are told at once.
WAITING = 20
# Members that may be read from Redis for one range: a day board of more belongs into the lake first.
HELD_MAX = 500_000


Held = tuple[str, int, int | None]
"""(user_id, points, reached_at_us) of one day board."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A range request after its bounds were read. fast: an estimate from one of 64 buckets of users."""

    scope: Scope
    zone: str
    span: Span
    wanted: Wanted
    at: At = NOW
    fast: bool = False
    explain: bool = False

    @property
    def has_boards(self) -> bool:
        """Whether its scope has boards of its own: days in Redis, user-days in the lake."""
        return self.scope.kind in ("global", "quiz")


@dataclass(frozen=True, slots=True)
class Planned:
    """A range's parts, the settlement they go through, and the snapshot of `answers` that is read, with its instant."""

    parts: list[Part]
    publication: Publication
    answers_snapshot: int | None = None
    answers_as_of_us: int | None = None

    def of(self, source: str) -> list[Part]:
        return [part for part in self.parts if part.source == source]

    @property
    def used(self) -> set[str]:
        return {part.source for part in self.parts}


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


@dataclass
class Desk:
    """What the range queries of one process share: their turns, and the pages that were read."""

    turns: Turns = field(default_factory=Turns)
    pages: KeptPages = field(default_factory=KeptPages)


async def held_rows(connections: Connections, asked: Asked, days: Sequence[date]) -> list[Held]:
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
    found: list[Held] = []
    for board in boards:
        for user, packed in await connections.boards.totals(board.key, quiz_id):
            points, ticks = unpack(packed)
            reached = None if ticks is None else reached_at_us(board.anchor_us, ticks, board.tick_us)
            found.append((user, points, reached))
    return found


async def read_range(connections: Connections, desk: Desk, asked: Asked) -> dict[str, Any]:
    """The reply of a range.

    Raises BadInput (board_not_kept where this profile cannot tell, unknown_settlement), SystemMissing, Retryable.
    """
    began, now = time.monotonic(), now_us()
    planned = await _plan(connections, asked)
    read = await _page(connections, desk, asked, planned)
    page = read.page.named(await live_boards.names_of(connections, read.page.user_ids()))
    rules = await live_boards.rules_of(connections, asked.scope.id if asked.scope.kind == "quiz" else None)
    reply = BoardReply(
        scope=str(asked.scope),
        period="range",
        start=iso_ms(asked.span.start_us),
        end=iso_ms(asked.span.end_us),
        entries=page.entries,
        participants=page.participants,
        provenance=_provenance(planned, read, now, rules, asked.span),
        me=page.me,
        around=page.around,
        ranks=page.ranks,
    ).to_dict()
    if asked.explain:
        reply["explain"] = settled_boards.explained(planned.parts, read, time.monotonic() - began)
    return reply


async def _plan(connections: Connections, asked: Asked) -> Planned:
    """Which source each part of the range has."""
    days, _ = ranges.split(asked.span, asked.zone)
    has_lake = settled_boards.has_lake(connections.settings)
    of, settled = Publication(), Settled()
    if asked.at.past or has_lake:
        of = await publications.publication(connections, asked.at)
        if days and asked.has_boards:
            settled = await publications.settled_of(connections, of, asked.zone, days[0], days[-1])
    kept: frozenset[date] = frozenset()
    if asked.has_boards and not of.past:
        kept = await _kept_days(connections, asked.zone, [day for day in days if day not in settled.days])
    parts = ranges.plan(asked.span, asked.zone, settled, kept.__contains__)
    if not has_lake and any(part.source != REDIS for part in parts):
        raise BadInput(
            "board_not_kept",
            f"profile {connections.settings.profile} has no lake: only whole days that Redis keeps can be told",
            status=404,
            next_step="./lakeboard up --profile full",
        )
    if all(part.source != ANSWERS for part in parts):
        return Planned(parts, of)
    lake = settled_boards.the_lake(connections.settings)
    if not of.past:
        return Planned(parts, of, *await settled_boards.bounded(lake.current, "answers"))
    snapshot = of.snapshots.get("answers")
    if snapshot is None:
        raise BadInput("unknown_settlement", f"settlement {of.id} kept no snapshot of answers", status=404)
    return Planned(
        parts, of, snapshot, await settled_boards.bounded(lake.committed_at_us, "answers", snapshot)
    )


async def _page(connections: Connections, desk: Desk, asked: Asked, planned: Planned) -> RangePage:
    """The page: kept, or read when it is this query's turn. What Redis says is never kept."""
    key = None if REDIS in planned.used else _key(asked, planned)
    page = desk.pages.get(key) if key else None
    if page is None:
        held = await held_rows(connections, asked, [part.day for part in planned.of(REDIS) if part.day])
        async with desk.turns:
            page = await _query(connections, asked, planned, held)
        if key:
            desk.pages.put(key, page)
    return page


def _key(asked: Asked, planned: Planned) -> Hashable:
    """Everything that a page from the lake depends on."""
    of = planned.publication
    names = [name for name in (USER_MONTHS, USER_DAYS) if name in planned.used]
    snapshots = tuple((name, of.snapshots[name]) for name in names)
    edges = planned.answers_snapshot, tuple(one.correction_id for one in of.corrections)
    return (
        (asked.scope, asked.zone, asked.span, asked.wanted, asked.fast, snapshots, tuple(planned.parts)),
        edges if ANSWERS in planned.used else None,
    )


async def _kept_days(connections: Connections, zone: str, days: Sequence[date]) -> frozenset[date]:
    """The days that Redis keeps whole."""
    if not days:
        return frozenset()
    kept = await live_boards.kept_by_redis(connections, [span("daily", day, zone).end_us for day in days])
    return frozenset(day for day, held in zip(days, kept, strict=True) if held)


async def _query(connections: Connections, asked: Asked, planned: Planned, held: Sequence[Held]) -> RangePage:
    """The board's page; the query is interrupted when its time is over or its caller goes."""
    if planned.used == {REDIS} and not asked.fast:
        return RangePage(await asyncio.to_thread(_page_of, asked, held), rows=len(held))
    if not settled_boards.has_lake(connections.settings):
        raise BadInput(
            "board_not_kept",
            f"profile {connections.settings.profile} has no lake, which estimates are made of",
            status=404,
            next_step="ask for accuracy=exact, or ./lakeboard up --profile full",
        )
    lake_ranges = settled_boards.room("lake.ranges")
    sources = lake_ranges.Sources(
        months=[part.month for part in planned.of(USER_MONTHS)],
        days=[part.day for part in planned.of(USER_DAYS)],
        snapshots=planned.publication.snapshots,
        answers=ranges.spans_of(planned.parts, ANSWERS) if planned.answers_snapshot else (),
        answers_snapshot=planned.answers_snapshot,
        held=held,
        corrections=planned.publication.corrections,
    )
    lake = settled_boards.the_lake(connections.settings)
    query = lake_ranges.RangeQuery(lake, asked.scope, asked.zone, asked.span, sources, asked.fast)
    try:
        found: RangePage = await settled_boards.bounded(query.run, asked.wanted, seconds=RANGE_WAIT_S)
        return found
    except (asyncio.CancelledError, SystemMissing):
        query.stop()
        raise


def _page_of(asked: Asked, held: Sequence[Held]) -> BoardPage:
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
    wanted, by_user = asked.wanted, {entry.user_id: entry for entry in entries}
    me = by_user.get(wanted.user_id)
    near = entries[max(me.rank - 1 - wanted.m, 0) : me.rank + wanted.m] if me else []
    ranks = tuple(UserRank(user, by_user.get(user)) for user in wanted.users)
    return BoardPage(tuple(entries[: wanted.k]), len(entries), me, tuple(near), ranks)


def _provenance(
    planned: Planned, read: RangePage, now: int, rules: tuple[str, ...], whole: Span
) -> Provenance:
    """Where the rows come from; `as_of` is the oldest look among the sources."""
    used, of = planned.used, planned.publication
    seen_us = of.created_at_us if of.past else now
    looks = [seen_us]
    if used & SETTLED_SOURCES:
        looks.append(of.created_at_us)
    if ANSWERS in used:
        looks.append(planned.answers_as_of_us or 0)  # nothing was ever ingested: as of no time at all
    state = "settled" if used <= SETTLED_SOURCES else "provisional"
    return Provenance(
        source="redis" if used == {REDIS} else "mixed" if REDIS in used else "lake",
        exactness="estimate" if read.bound else "exact",
        as_of=iso_ms(min(looks)),
        state="live" if whole.end_us > seen_us else state,
        rules=rules,
        bound=read.bound,
        settlement=of.id if of.past or used & SETTLED_SOURCES else None,
    )
