"""A board over any range: each month or day taken whole from one source, said in the reply (CONTRACTS D5).

contracts/ranges.py decides, lake/ranges.py and lake/subjects.py sum, this gathers: what is settled, what Redis keeps,
whole day boards. Redis has users' points alone: plays, misses, quizzes and questions come from the lake.
A range that is a settled day, week or month is answered from `rankings` by serving/leaderboards/settled_boards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from contracts import classes, ranges
from contracts.boards import USERS_POINTS, Board, Counting, Scope
from contracts.classes import Clip, Roster
from contracts.errors import BadInput, Retryable, SystemMissing
from contracts.periods import Span, iso_ms, span
from contracts.ranges import ANSWERS, REDIS, SETTLED_SOURCES, USER_DAYS, USER_MONTHS, Part, Settled
from contracts.ranking import RANGE_TICK_US, reached_at_us, unpack
from contracts.replies import BoardReply, Provenance, RangePage, Wanted
from serving.connections import Connections
from serving.leaderboards import live_boards, publications, settled_boards
from serving.leaderboards.kept_pages import KeptPages
from serving.leaderboards.pages import Held, page_of, sums_of
from serving.leaderboards.publications import NOW, At, Publication
from serving.sessions.store import now_us

# A caller who waits longer should be told.
RANGE_WAIT_S = 30.0
# Queries at once a process: each takes a core and up to lake.page_query.MEMORY_LIMIT.
AT_ONCE = 2
# How many may wait for those; the rest are told at once.
WAITING = 20
# Members that may be read from Redis for one range: a day board of more belongs into the lake first.
HELD_MAX = 500_000


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
    counting: Counting = USERS_POINTS
    roster: Roster | None = None

    @property
    def parent(self) -> Scope:
        """The scope whose boards and sums it is made of: its own, or the one that a class filters."""
        return classes.PARENT if self.roster else self.scope

    @property
    def has_boards(self) -> bool:
        """Whether that scope has boards of its own: days in Redis, user-days in the lake."""
        return self.parent.kind in ("global", "quiz")

    @property
    def in_redis(self) -> bool:
        return self.has_boards and self.counting.users_points

    @property
    def rolled_up(self) -> bool:
        """Whether the lake has sums of it by day: of users, and of quizzes in the roll-ups of their own scopes.

        Not of a class' quizzes: their sums by day have no users in them that a stay in another zone's day could cut.
        """
        return self.has_boards and self.counting.subject in (("user",) if self.roster else ("user", "quiz"))


@dataclass(frozen=True, slots=True)
class Planned:
    """A range's parts, the settlement they go through, and the snapshot of `answers` that is read, with its instant.

    members, cut: of a class, who counts of the parts, and the days that their stays cut (contracts.classes).
    """

    parts: list[Part]
    publication: Publication
    answers_snapshot: int | None = None
    answers_as_of_us: int | None = None
    members: tuple[Clip, ...] = ()
    cut: tuple[Part, ...] = ()

    def of(self, source: str) -> list[Part]:
        return [part for part in self.parts if part.source == source]

    @property
    def every(self) -> list[Part]:
        return sorted([*self.parts, *self.cut], key=lambda part: part.span.start_us)

    @property
    def used(self) -> set[str]:
        return {part.source for part in (*self.parts, *self.cut)}


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


async def held_rows(connections: Connections, asked: Asked, planned: Planned) -> list[Held]:
    """(user_id, points, reached_at_us) of each user of each day board, of a class those who were members all that day.

    Raises BadInput if they are too many.
    """
    days = [part.day for part in planned.of(REDIS) if part.day]
    quiz_id = asked.scope.id if asked.scope.kind == "quiz" else None
    boards = [Board(asked.parent, "daily", day, asked.zone) for day in days]
    if asked.roster:
        return await _held_of_members(connections, boards, planned.members)
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
        found += held_of(board, await connections.boards.totals(board.key, quiz_id))
    return found


async def _held_of_members(
    connections: Connections, boards: Sequence[Board], members: Sequence[Clip]
) -> list[Held]:
    wanted = {one.key: [clip.user_id for clip in members if clip.holds(one.start)] for one in boards}
    count = sum(map(len, wanted.values()))
    if count > HELD_MAX:
        raise BadInput(
            "range_too_large", f"{count} scores of members on days that are not settled; {HELD_MAX} at most"
        )
    scores = await connections.boards.scores(wanted)
    return [share for one in boards for share in held_of(one, scores[one.key])]


def held_of(board: Board, members: Iterable[tuple[str, int]]) -> Iterator[Held]:
    """Members (user_id, packed score) of a board in Redis as shares of it. Pure."""
    for user, packed in members:
        points, ticks = unpack(packed)
        yield user, points, None if ticks is None else reached_at_us(board.anchor_us, ticks, board.tick_us)


async def read_range(connections: Connections, desk: Desk, asked: Asked) -> dict[str, Any]:
    """The reply of a range.

    Raises BadInput (board_not_kept where this profile cannot tell, unknown_settlement), SystemMissing, Retryable.
    """
    began, now = time.monotonic(), now_us()
    planned = await _plan(connections, asked)
    read = await _page(connections, desk, asked, planned)
    known = await live_boards.names_of(connections, read.page.user_ids(), asked.counting.subject)
    page = read.page.named(known)
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
        subject=asked.counting.subject,
        measure=asked.counting.measure,
    ).to_dict()
    if asked.explain:
        reply["explain"] = settled_boards.explained(planned.every, read, time.monotonic() - began)
    return reply


async def _plan(connections: Connections, asked: Asked) -> Planned:
    """Which source each part of the range has."""
    has_lake = settled_boards.has_lake(connections.settings)
    of = Publication()
    if asked.at.past or has_lake:
        of = await publications.publication(connections, asked.at)
    planned = await _parts_of_zones(connections, asked, of)
    if not has_lake and planned.used - {REDIS}:
        told = "whole days that Redis keeps" if asked.counting.users_points else "users' points"
        raise BadInput(
            "board_not_kept",
            f"profile {connections.settings.profile} has no lake: only {told} can be told",
            status=404,
            next_step="./lakeboard up --profile full",
        )
    if ANSWERS not in planned.used:
        return planned
    lake = await settled_boards.opened(connections.settings)
    if not of.past:
        # Asked for before the snapshot: that one has at least what was ingested by then.
        ingested_us = await publications.ingested_at_us(connections)
        snapshot, at_us = await settled_boards.bounded(lake.current, "answers")
        as_of_us = None if at_us is None else max(at_us, ingested_us)
        return replace(planned, answers_snapshot=snapshot, answers_as_of_us=as_of_us)
    snapshot = of.snapshots.get("answers")
    if snapshot is None:
        raise BadInput("unknown_settlement", f"settlement {of.id} kept no snapshot of answers", status=404)
    at_us = await settled_boards.bounded(lake.committed_at_us, "answers", snapshot)
    return replace(planned, answers_snapshot=snapshot, answers_as_of_us=at_us)


async def _parts_of_zones(connections: Connections, asked: Asked, of: Publication) -> Planned:
    """The parts by the days of each zone, in order; of a class with its members."""
    if asked.roster:
        members = tuple(classes.clips(asked.roster.stays, asked.span))
        parts, days = await _parts(connections, asked, of, asked.zone)
        if asked.counting.subject != "user":
            return Planned(parts, of, members=members)
        made = classes.plan_members(parts, members, days)
        return Planned(made.parts, of, members=members, cut=tuple(made.cut))
    parts = []
    for zone in await _zones(connections, asked):
        own, _ = await _parts(connections, asked, of, zone or asked.zone)
        parts += [replace(part, zone=zone) for part in own]
    return Planned(sorted(parts, key=lambda part: part.span.start_us), of)


async def _zones(connections: Connections, asked: Asked) -> list[str]:
    """The zones whose days the board is made of; [""] if it is the scope's own alone.

    A quiz' roll-ups are by days of the quiz' zone, so that a board of quizzes has each range cut in each zone.
    """
    if asked.counting.subject != "quiz" or not asked.rolled_up:
        return [""]
    if asked.scope.kind == "quiz":
        return [asked.zone]
    async with connections.sql() as sql:
        found = await sql.execute("select distinct zone from quizzes order by zone")
        return [row[0] for row in await found.fetchall()]


async def _parts(
    connections: Connections, asked: Asked, of: Publication, zone: str
) -> tuple[list[Part], list[Part]]:
    """The parts of a range by the days of one zone, and the same without months."""
    days, _ = ranges.split(asked.span, zone)
    settled, kept = Settled(), frozenset[date]()
    if days and asked.rolled_up:
        settled = await publications.settled_of(connections, of, zone, days[0], days[-1])
    if asked.in_redis and not of.past:
        kept = await _kept_days(connections, zone, [day for day in days if day not in settled.days])
    by_days = replace(settled, months=frozenset())
    return (
        ranges.plan(asked.span, zone, settled, kept.__contains__),
        ranges.plan(asked.span, zone, by_days, kept.__contains__) if asked.roster else [],
    )


async def _page(connections: Connections, desk: Desk, asked: Asked, planned: Planned) -> RangePage:
    """The page: kept, or read when it is this query's turn. What Redis says is never kept."""
    key = None if REDIS in planned.used else _key(asked, planned)
    page = desk.pages.get(key) if key else None
    if page is None:
        held = await held_rows(connections, asked, planned)
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
        (asked.scope, asked.zone, asked.span, asked.wanted, asked.fast, asked.counting),
        asked.roster.version if asked.roster else None,
        (snapshots, tuple(planned.every)),
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
        return RangePage(
            await asyncio.to_thread(page_of, sums_of(held), asked.span.start_us, RANGE_TICK_US, asked.wanted),
            rows=len(held),
        )
    if not settled_boards.has_lake(connections.settings):
        raise BadInput(
            "board_not_kept",
            f"profile {connections.settings.profile} has no lake, which estimates are made of",
            status=404,
            next_step="ask for accuracy=exact, or ./lakeboard up --profile full",
        )
    query = _query_of(await settled_boards.opened(connections.settings), asked, planned, held)
    try:
        found: RangePage = await settled_boards.bounded(query.run, asked.wanted, seconds=RANGE_WAIT_S)
        return found
    except (asyncio.CancelledError, SystemMissing):
        query.stop()
        raise


def _query_of(lake: Any, asked: Asked, planned: Planned, held: Sequence[Held]) -> Any:
    """The lake's query of a plan: of users, or of quizzes or questions."""
    made_of = settled_boards.room("lake.page_query").Sources

    def sources(zone: str) -> Any:
        mine = [part for part in planned.parts if part.zone == zone]
        return made_of(
            months=[part.month for part in mine if part.source == USER_MONTHS],
            days=[part.day for part in mine if part.source == USER_DAYS],
            snapshots=planned.publication.snapshots,
            answers=ranges.spans_of(mine, ANSWERS) if planned.answers_snapshot else (),
            cut=ranges.spans_of(list(planned.cut), ANSWERS) if planned.answers_snapshot else (),
            answers_snapshot=planned.answers_snapshot,
            held=held,
            corrections=planned.publication.corrections,
        )

    if asked.roster and asked.counting.subject == "user":
        query = settled_boards.room("lake.members").MembersQuery
        return query(
            lake,
            asked.parent,
            asked.span,
            asked.zone,
            sources(""),
            planned.members,
            asked.fast,
            asked.counting.measure,
        )
    if asked.counting.subject == "user":
        query = settled_boards.room("lake.ranges").RangeQuery
        return query(
            lake, asked.scope, asked.span, asked.zone, sources(""), asked.fast, asked.counting.measure
        )
    by_zone = {zone: sources(zone) for zone in {part.zone: None for part in planned.parts}}
    query = settled_boards.room("lake.subjects").SubjectQuery
    members = planned.members if asked.roster else None
    return query(lake, asked.parent, asked.span, asked.counting, by_zone, members)


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
    # Of the past, the days that stays cut are read from the settlement's own snapshot too.
    sums = {part.source for part in planned.parts} if of.past else used
    state = "settled" if sums <= SETTLED_SOURCES else "provisional"
    return Provenance(
        source="redis" if used == {REDIS} else "mixed" if REDIS in used else "lake",
        exactness="estimate" if read.bound else "exact",
        as_of=iso_ms(min(looks)),
        state="live" if whole.end_us > seen_us else state,
        rules=rules,
        bound=read.bound,
        settlement=of.id if of.past or used & SETTLED_SOURCES else None,
    )
