"""A class' board from what is live: its parent's boards in Redis, filtered by members, and history where stays cut days.

Who was a member all of a board's time has there exactly what the class' board counts (ZMSCORE). Of anybody else the whole
months and days of the stay come from those boards, and the rest of it, at most two pieces of a day, answer by answer from
Postgres' history, as corrections in force have them. So the reply is exact, and each answer is taken once.
What is published, or no longer in Redis, is the lake's: serving/leaderboards/planner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from contracts import classes, names
from contracts.boards import Board
from contracts.classes import Roster, boards_within, clips, edges
from contracts.corrections import Correction, decode
from contracts.errors import BadInput
from contracts.events import ANSWER_TYPE
from contracts.events import decode as decode_answer
from contracts.periods import FOREVER_US, Span, from_instant_us, iso_ms, period_start, span
from contracts.ranges import HISTORY, REDIS, Part
from contracts.ranking import PERIOD_TICK_US, RANGE_TICK_US
from contracts.replies import BoardReply, Provenance, RangePage, Wanted
from contracts.settlements import state_of
from serving.connections import Connections
from serving.leaderboards import live_boards, planner, settled_boards
from serving.leaderboards.corrections import counting
from serving.leaderboards.pages import Held, page_of, sums_of
from serving.migrations.upgrade import BOARDS_KEPT_US
from serving.sessions.store import now_us

# Scores of one board of a class: a year's months and days of a few thousand members. More belongs into the lake.
SCORES_MAX = 200_000
# Answers that one board reads one by one; a class that began today and plays all day has some thousands.
ANSWERS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class AskedClass:
    """A board of a class: a period (start, whole: its span), or a range (period `range`)."""

    roster: Roster
    period: str
    start: date
    whole: Span
    wanted: Wanted
    explain: bool = False

    @property
    def tick_us(self) -> int:
        return PERIOD_TICK_US.get(self.period, RANGE_TICK_US)


@dataclass
class LivePlan:
    """What is asked of Redis (users by board) and of history (user, piece of a day)."""

    boards: dict[tuple[str, date], list[str]] = field(default_factory=dict)
    edges: list[tuple[str, Span]] = field(default_factory=list)

    @property
    def scores(self) -> int:
        return sum(map(len, self.boards.values()))

    def parts(self) -> list[Part]:
        """Each board and each day of history once, in order of time."""
        found = [Part(REDIS, span(*board, classes.ZONE), _day(board), _month(board)) for board in self.boards]
        days = {period_start("daily", edge.start_us, classes.ZONE) for _, edge in self.edges}
        found += [Part(HISTORY, span("daily", day, classes.ZONE), day) for day in days]
        return sorted(found, key=lambda part: (part.span.start_us, part.span.end_us, part.source))


def _day(board: tuple[str, date]) -> date | None:
    return board[1] if board[0] == "daily" else None


def _month(board: tuple[str, date]) -> date | None:
    return board[1] if board[0] == "monthly" else None


def plan(asked: AskedClass, now: int) -> LivePlan:
    """Which boards and pieces of days a class' board is made of. Pure.

    All time ends, for this, with the month that runs now: nothing is in a later one.
    """
    found, rest = LivePlan(), []
    end_us = min(asked.whole.end_us, span("monthly", period_start("monthly", now, classes.ZONE)).end_us)
    end_us = max(end_us, asked.whole.start_us + 1)
    for stay in asked.roster.stays:
        if asked.period != "range" and stay.joined_us <= asked.whole.start_us and stay.left_us >= end_us:
            found.boards.setdefault((asked.period, asked.start), []).append(stay.user_id)
        else:
            rest.append(stay)
    for clip in clips(rest, Span(asked.whole.start_us, end_us)):
        for board in boards_within(clip.first_day, clip.end_day):
            if span(*board, classes.ZONE).start_us <= now:
                found.boards.setdefault(board, []).append(clip.user_id)
        found.edges += [(clip.user_id, edge) for edge in edges(clip) if edge.start_us <= now]
    return found


async def read(connections: Connections, asked: AskedClass) -> dict[str, Any] | None:
    """The reply; None if it needs what is not live: a board that Redis does not keep, or a month that has left history.

    Raises BadInput(range_too_large), SystemMissing.
    """
    began, now = time.monotonic(), now_us()
    made_of = plan(asked, now)
    if made_of.scores > SCORES_MAX:
        raise BadInput("range_too_large", f"the board has {made_of.scores} scores; one may read {SCORES_MAX}")
    if not await _all_live(connections, made_of):
        return None
    shares = await _shares(connections, made_of)
    answers: list[Held] = []
    if made_of.edges:
        answers, archived = await _from_history(connections, made_of.edges)
        if archived:
            return None
    page = page_of(sums_of([*shares, *answers]), asked.whole.start_us, asked.tick_us, asked.wanted)
    page = page.named(await connections.profiles.shown(sorted(page.user_ids())))
    ranged = asked.period == "range"
    sources = {part.source for part in made_of.parts()} or {REDIS}
    reply = BoardReply(
        scope=f"class:{asked.roster.class_id}",
        period=asked.period,
        start=iso_ms(asked.whole.start_us) if ranged else str(asked.start),
        end=iso_ms(asked.whole.end_us) if ranged else None,
        entries=page.entries,
        participants=page.participants,
        provenance=Provenance(
            source=sources.pop() if len(sources) == 1 else "mixed",
            exactness="exact",
            as_of=iso_ms(now),
            state=_state(asked, now),
            rules=await live_boards.rules_of(connections, None),
        ),
        me=page.me,
        around=page.around,
        ranks=page.ranks,
    ).to_dict()
    if asked.explain:
        read_rows = RangePage(page, rows=made_of.scores + len(answers))
        reply["explain"] = settled_boards.explained(made_of.parts(), read_rows, time.monotonic() - began)
    return reply


def _state(asked: AskedClass, now: int) -> str:
    if asked.period == "range":
        return "live" if asked.whole.end_us > now else "provisional"
    return state_of(asked.period, asked.start, classes.ZONE, now, False)


async def _all_live(connections: Connections, made_of: LivePlan) -> bool:
    """Whether Redis keeps every board that is needed."""
    ends = sorted({span(*board, classes.ZONE).end_us for board in made_of.boards} - {FOREVER_US})
    if not ends or ends[0] > now_us() - BOARDS_KEPT_US:
        return True  # the instant only moves back from there
    return (await live_boards.kept_by_redis(connections, ends[:1]))[0]


async def _shares(connections: Connections, made_of: LivePlan) -> list[Held]:
    """Each member's share of each board."""
    boards = {
        names.board(str(classes.PARENT), *board): Board(classes.PARENT, *board) for board in made_of.boards
    }
    users = dict(zip(boards, made_of.boards.values(), strict=True))
    found: list[Held] = []
    for key, members in (await connections.boards.scores(users)).items():
        found += planner.held_of(boards[key], members)
    return found


# One row per (stay's piece of a day, answer): what Redis' boards have of it, so late answers only once boards were rebuilt.
_ROWS = """
select {columns} from unnest(%(users)s::text[], %(froms)s::timestamptz[], %(tos)s::timestamptz[]) as e (member, low, high)
join history h on h.user_id = e.member collate "C" and h.occurred_at >= e.low and h.occurred_at < e.high
where h.type = %(type)s and h.occurred_at >= %(least)s and h.occurred_at < %(most)s
  and (h.mode <> 'late' or h.seq <= coalesce((%(rebuilt)s::jsonb ->> h.shard::text)::bigint, 0))"""
_SUMS = "e.member, sum(h.points)::bigint, max(h.occurred_at_us) filter (where h.points > 0)"


async def _from_history(
    connections: Connections, wanted: Sequence[tuple[str, Span]]
) -> tuple[list[Held], bool]:
    """Each member's share of the pieces of days, and whether one of these lies in a month that has left history.

    The months are asked for after the answers: one that is archived in between is then seen.
    """
    least, most = min(edge.start_us for _, edge in wanted), max(edge.end_us for _, edge in wanted)
    values = {
        "users": [user for user, _ in wanted],
        "froms": [from_instant_us(edge.start_us) for _, edge in wanted],
        "tos": [from_instant_us(edge.end_us) for _, edge in wanted],
        "least": from_instant_us(least),
        "most": from_instant_us(most),
        "type": ANSWER_TYPE,
    }
    async with connections.sql() as sql:
        found = await sql.execute("select value from deployment where key = 'boards_rebuilt_seq'")
        row = await found.fetchone()
        values["rebuilt"] = row[0] if row else json.dumps({})
        found = await sql.execute("select event from corrections where in_force_at is not null order by id")
        corrections = [decode(bytes(one[0])) for one in await found.fetchall()]
        if corrections:
            query = _ROWS.format(columns="h.event") + f" limit {ANSWERS_MAX + 1}"
            rows = await (await sql.execute(query, values)).fetchall()
            shares = _corrected([bytes(one[0]) for one in rows], corrections)
        else:
            rows = await (
                await sql.execute(_ROWS.format(columns=_SUMS) + " group by e.member", values)
            ).fetchall()
            shares = [(user, points, reached) for user, points, reached in rows]
        found = await sql.execute("select month from archived_months")
        archived = {month for (month,) in await found.fetchall()}
    months = {period_start("monthly", edge.start_us, classes.ZONE) for _, edge in wanted}
    return shares, bool(months & archived)


def _corrected(events: Iterable[bytes], corrections: Sequence[Correction]) -> list[Held]:
    """Each answer's share under corrections. Raises BadInput(range_too_large). Pure."""
    points_of, found = counting(corrections), []
    for number, event in enumerate(map(decode_answer, events), 1):
        if number > ANSWERS_MAX:
            raise BadInput("range_too_large", f"more than {ANSWERS_MAX} answers would be read one by one")
        points = points_of(event)
        if points is not None:
            found.append((event.user_id, points, event.occurred_at_us if points else None))
    return found
