"""The board of a period: from Redis while it lives, from `rankings` once it is settled, from the lake as of the past.

Both have users' points alone, and no boards of tags; any other board of a period is the range of its span. A class' board
is its parent's, filtered by who was a member when: live by class_boards.py, else from the lake.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import redis.exceptions

from contracts import classes
from contracts.boards import USERS_POINTS, Board, Counting, Scope
from contracts.classes import Roster
from contracts.errors import BadInput, LakeboardError, SystemMissing, problem
from contracts.periods import FOREVER_US, Span, parse_start, span
from contracts.ranges import REDIS, Part
from contracts.replies import BoardPage, RangePage, Wanted
from serving.connections import Connections
from serving.leaderboards import class_boards, live_boards, planner, publications, settled_boards
from serving.leaderboards.publications import NOW, At
from serving.migrations.upgrade import BOARDS_KEPT_US
from serving.sessions.store import now_us


@dataclass(frozen=True, slots=True)
class Doors:
    """What a process reads boards with. answering: the shards' sessions (serving/sessions/answering).

    roster: the members of a class that this caller may read; raises BadInput (unauthenticated, forbidden, unknown_class).
    """

    connections: Connections
    answering: Any
    desk: planner.Desk
    roster: Callable[[str], Awaitable[Roster]]


@dataclass(frozen=True, slots=True)
class AskedBoard:
    """A board's name as it was written, and what of it is wanted; stale: Redis' replicas may be read."""

    scope: Scope
    period: str
    start: str
    wanted: Wanted
    at: At = NOW
    explain: bool = False
    counting: Counting = USERS_POINTS
    stale: bool = False


async def read(doors: Doors, asked: AskedBoard) -> dict[str, Any]:
    """The reply. Raises BadInput: unknown_period, wrong_start, board_not_kept, unknown_settlement …; SystemMissing."""
    if asked.scope.kind == "session":
        return await _session(doors, asked)
    if asked.scope.kind == "class":
        return await _class(doors, asked)
    connections = doors.connections
    zone = await live_boards.zone_of_scope(connections, asked.scope)
    board = Board(asked.scope, asked.period, parse_start(asked.period, asked.start, now_us(), zone), zone)
    if asked.scope.kind == "tag":
        _bounded(board, "a tag's boards are summed from answers")
        return await _summed(doors, asked, board, asked.at)
    if not asked.counting.users_points:
        _bounded(board, "its users' points alone are counted for ever")
        return await _summed(doors, asked, board, asked.at)
    if asked.at.past:
        return await _past(doors, asked, board)
    end_us = span(board.period, board.start, zone).end_us
    # A period that runs has no settlement to go through; one that has ended may.
    if end_us <= now_us() and settled_boards.has_lake(connections.settings):
        found = await publications.published(connections, board)
        if found:
            return await settled_boards.read_board(
                connections, doors.desk.pages, board, found, asked.wanted, asked.explain
            )
    if not await _kept(connections, end_us):
        raise _not_kept(board.key)
    quiz_id, began = asked.scope.id if asked.scope.kind == "quiz" else None, time.monotonic()
    rules = await live_boards.rules_of(connections, quiz_id)
    reply = (
        await live_boards.read_board(
            connections, board, board.anchor_us, board.tick_us, quiz_id, asked.wanted, rules, asked.stale
        )
    ).to_dict()
    whole = span(board.period, board.start, zone)
    return _explained(reply, asked, whole, time.monotonic() - began)


async def _past(doors: Doors, asked: AskedBoard, board: Board) -> dict[str, Any]:
    """The board as a settlement left it: as it was published, or from the lake of that time, never from Redis."""
    _bounded(board, "all-time boards are never published")
    connections = doors.connections
    named = asked.at.settlement
    newest = "" if named else (await publications.publication(connections, asked.at)).id
    found = await publications.published(connections, board, named=named, newest=newest)
    if found:
        return await settled_boards.read_board(
            connections, doors.desk.pages, board, found, asked.wanted, asked.explain
        )
    return await _summed(doors, asked, board, At(newest))


async def _class(doors: Doors, asked: AskedBoard) -> dict[str, Any]:
    """A class' board: live while its parent's is, else from the lake; as its parent's settlement left it if there is one."""
    roster = await doors.roster(asked.scope.id)
    connections = doors.connections
    start = parse_start(asked.period, asked.start, now_us(), classes.ZONE)
    board, parent = (Board(scope, asked.period, start) for scope in (asked.scope, classes.PARENT))
    if not asked.counting.users_points:
        _bounded(board, "its users' points alone are counted for ever")
        return await _summed(doors, asked, board, asked.at, roster)
    if asked.at.past:
        _bounded(board, "all-time boards are never published")
        named = asked.at.settlement
        newest = "" if named else (await publications.publication(connections, asked.at)).id
        await publications.published(connections, parent, named=named, newest=newest)
        return await _summed(doors, asked, board, At(named or newest), roster)
    whole = span(asked.period, start)
    has_lake = settled_boards.has_lake(connections.settings)
    if whole.end_us <= now_us() and has_lake and await publications.published(connections, parent):
        newest = (await publications.publication(connections, NOW)).id
        return await _summed(doors, asked, board, At(newest), roster)
    live = class_boards.AskedClass(roster, asked.period, start, whole, asked.wanted, asked.explain)
    reply = await class_boards.read(connections, live)
    if reply is not None:
        return reply
    if not has_lake or asked.period == "all_time":
        raise _not_kept(parent.key)
    return await _summed(doors, asked, board, NOW, roster)


async def _summed(
    doors: Doors, asked: AskedBoard, board: Board, at: At, roster: Roster | None = None
) -> dict[str, Any]:
    """The board as the range of its span, summed from the lake."""
    whole = span(board.period, board.start, board.zone)
    ranged = planner.Asked(
        board.scope,
        board.zone,
        whole,
        asked.wanted,
        at,
        explain=asked.explain,
        counting=asked.counting,
        roster=roster,
    )
    reply = await planner.read_range(doors.connections, doors.desk, ranged)
    return {**reply, "period": board.period, "start": str(board.start), "end": None}


def _bounded(board: Board, why_not: str) -> None:
    """Raises BadInput(unknown_period) for all time."""
    if board.period == "all_time":
        raise BadInput("unknown_period", why_not, next_step="ask for a range: ?from=…&to=…")


async def _session(doors: Doors, asked: AskedBoard) -> dict[str, Any]:
    if asked.period != "all_time":
        raise BadInput("unknown_period", "a session's board is all_time", next_step="use all_time/current")
    if asked.at.past:
        raise BadInput("unknown_settlement", "sessions' boards are never published", status=404)
    if not asked.counting.users_points:
        raise BadInput(
            "invalid_field", "a session's board is of its users' points", next_step="ask for quiz:ID"
        )
    connections = doors.connections
    session = await live_boards.session_of(connections, doors.answering, asked.scope.id)
    board = Board(asked.scope, asked.period, parse_start(asked.period, asked.start, now_us()), session.zone)
    if not await _kept(connections, session.started_at_us + 1):
        raise _not_kept(board.key)
    began = time.monotonic()
    reply = await live_boards.read_board(
        connections,
        board,
        session.started_at_us,
        session.tick_us,
        session.quiz_id,
        asked.wanted,
        (session.rule,),
        asked.stale,
    )
    started = Span(session.started_at_us, FOREVER_US)
    return _explained(reply.to_dict(), asked, started, time.monotonic() - began)


def _explained(reply: dict[str, Any], asked: AskedBoard, whole: Span, seconds: float) -> dict[str, Any]:
    """With where it comes from, where that was asked: one board in Redis, no files."""
    if asked.explain:
        read_rows = RangePage(BoardPage((), 0), rows=len(reply["entries"]) + len(reply["around"]))
        reply["explain"] = settled_boards.explained([Part(REDIS, whole)], read_rows, seconds)
    return reply


async def _kept(connections: Connections, end_us: int) -> bool:
    """Whether Redis keeps a board that ends at an instant. Raises SystemMissing where nobody can say."""
    if end_us > now_us() - BOARDS_KEPT_US:
        return True  # the instant only moves back from there: running games need nobody to say so
    return (await live_boards.kept_by_redis(connections, [end_us]))[0]


def _not_kept(key: str) -> BadInput:
    return BadInput(
        "board_not_kept",
        f"Redis does not keep {key}",
        status=404,
        next_step="./lakeboard settle, in profile full; or ./lakeboard rebuild redis --since DAY",
    )


def no_such_board(scope: Scope) -> BadInput:
    """Why a scope has no range."""
    return BadInput(
        "unknown_scope", f"no range of {scope}", next_step="ask for global, quiz:ID, class:ID or tag:NAME"
    )


async def rank_of(doors: Doors, user_id: str, name: str) -> dict[str, Any]:
    """A user's row on the board `scope/period/start`, with where it comes from; or why it cannot be told."""
    try:
        scope, _, rest = name.partition("/")
        period, _, start = rest.partition("/")
        wanted = Wanted(k=0, users=(user_id,))
        reply = await read(doors, AskedBoard(Scope.parse(scope), period, start, wanted))
    except (LakeboardError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as failed:
        error = failed
        if not isinstance(failed, LakeboardError):
            error = SystemMissing("system_missing", "Valkey does not answer", next_step="./lakeboard status")
        return {
            "board": name,
            "entry": None,
            "participants": None,
            "provenance": None,
            "error": problem(error),
        }
    return {
        "board": name,
        "entry": reply["ranks"][0]["entry"],
        "participants": reply["participants"],
        "provenance": reply["provenance"],
        "error": None,
    }
