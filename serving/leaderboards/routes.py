"""GET /v1/leaderboards/{scope}/{period}/{start}: one reply shape, from Redis while live, from the lake when settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request

from contracts import ranges
from contracts.boards import Board, Scope
from contracts.errors import BadInput, Retryable
from contracts.identity import checked_id
from contracts.periods import parse_start, span
from contracts.replies import DEFAULT_K, DEFAULT_M, MAX_K, MAX_M, BoardReply
from serving.connections import Connections
from serving.documented import documented
from serving.leaderboards import live_boards, planner, settled_boards
from serving.migrations.upgrade import BOARDS_KEPT_US
from serving.sessions.store import now_us

router = APIRouter(prefix="/v1", tags=["leaderboards"])
# Between two looks whether a range's caller is still there.
LOOK_S = 0.25


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The turns of range queries are the process' own."""
    app.state.range_turns = planner.Turns()
    yield


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


async def _session_reply(
    request: Request, scope: Scope, period: str, start: str, k: int, user: str, m: int
) -> BoardReply:
    if period != "all_time":
        raise BadInput("unknown_period", "a session's board is all_time", next_step="use all_time/current")
    connections: Connections = request.app.state.connections
    session = await live_boards.session_of(connections, request.app.state.answering, scope.id)
    board = Board(scope, period, parse_start(period, start, now_us()), session.zone)
    if not await _kept(connections, session.started_at_us + 1):
        raise _not_kept(board.key)
    return await live_boards.read_board(
        connections,
        board,
        session.started_at_us,
        session.tick_us,
        session.quiz_id,
        k,
        user,
        m,
        (session.rule,),
    )


_ENTRY = {
    "rank": 1,
    "user_id": "u_8Zt",
    "points": 4310,
    "reached_at": "2026-03-02T17:59:41.000Z",
    "name": "Ada",
    "avatar_url": None,
}
_EXAMPLE = {
    "scope": "quiz:starter-a1",
    "period": "weekly",
    "start": "2026-03-02",
    "entries": [_ENTRY],
    "participants": 1,
    "provenance": {
        "source": "rankings",
        "exactness": "exact",
        "as_of": "2026-03-09T00:15:21.000Z",
        "state": "settled",
        "rules": ["speed@1"],
        "bound": None,
        "settlement": "7",
    },
    "me": _ENTRY,
    "around": [_ENTRY],
}


@router.get(
    "/leaderboards/{scope}/{period}/{start}",
    summary="A board: top k, a user's place, those around",
    responses=documented(
        _EXAMPLE,
        s404="board_not_kept unknown_quiz unknown_session unknown_settlement",
        s422="unknown_scope unknown_period wrong_start invalid_id invalid_field",
        s503="system_missing",
    ),
)
async def leaderboard(
    scope: str,
    period: str,
    start: str,
    request: Request,
    k: Annotated[int, Query(ge=0, le=MAX_K)] = DEFAULT_K,
    around: str = "",
    m: Annotated[int, Query(ge=0, le=MAX_M)] = DEFAULT_M,
    settlement: Annotated[str, Query(pattern=r"^([1-9][0-9]{0,17})?$")] = "",
) -> dict[str, Any]:
    """From Redis while the period runs, from the lake once it is settled; never less than was asked for."""
    connections: Connections = request.app.state.connections
    if around:
        checked_id(around, "around")
    parsed = Scope.parse(scope)
    if parsed.kind == "session":
        return (await _session_reply(request, parsed, period, start, k, around, m)).to_dict()
    if parsed.kind not in ("global", "quiz"):
        raise BadInput(
            "board_not_kept", f"Redis keeps no board of {scope}", next_step="ask for global or quiz:ID"
        )
    zone = await live_boards.zone_of_scope(connections, parsed)
    first: date = parse_start(period, start, now_us(), zone)
    board = Board(parsed, period, first, zone)
    end_us = span(period, first, zone).end_us
    # A period that runs has no settlement to go through; one that has ended may.
    if settlement or (end_us <= now_us() and settled_boards.has_lake(connections.settings)):
        found = await settled_boards.published(connections, board, settlement)
        if found:
            return (await settled_boards.read_board(connections, board, found, k, around, m)).to_dict()
    if not await _kept(connections, end_us):
        raise _not_kept(board.key)
    quiz_id = parsed.id if parsed.kind == "quiz" else None
    rules = await live_boards.rules_of(connections, quiz_id)
    return (
        await live_boards.read_board(
            connections, board, board.anchor_us, board.tick_us, quiz_id, k, around, m, rules
        )
    ).to_dict()


_RANGE_EXAMPLE = {
    **_EXAMPLE,
    "period": "range",
    "start": "2026-02-27T23:00:00.000Z",
    "end": "2026-03-09T23:00:00.000Z",
    "provenance": {**_EXAMPLE["provenance"], "source": "mixed", "state": "provisional"},  # type: ignore[dict-item]
}


@router.get(
    "/leaderboards/{scope}",
    summary="A board over any range of time",
    responses=documented(
        _RANGE_EXAMPLE,
        s404="board_not_kept unknown_quiz not_found",
        s422="unknown_scope wrong_start range_too_large invalid_id invalid_field",
        s503="system_missing overloaded",
    ),
)
async def any_range(
    scope: str,
    request: Request,
    from_: Annotated[str, Query(alias="from", description="an instant, or a day of the scope's zone")],
    to: Annotated[str, Query(description="exclusive; an instant, or a day")],
    k: Annotated[int, Query(ge=0, le=MAX_K)] = DEFAULT_K,
    around: str = "",
    m: Annotated[int, Query(ge=0, le=MAX_M)] = DEFAULT_M,
    accuracy: Annotated[Literal["exact"], Query(description="estimates are not built yet")] = "exact",
    explain: Annotated[bool, Query(description="say where each day comes from")] = False,
) -> dict[str, Any]:
    """Each day whole from one source: published user-days, else Redis, else the answers of the last ingest."""
    connections: Connections = request.app.state.connections
    if around:
        checked_id(around, "around")
    parsed = Scope.parse(scope)
    if parsed.kind not in ("global", "quiz", "tag"):
        raise BadInput(
            "unknown_scope", f"no range of {scope}", next_step="ask for global, quiz:ID or tag:NAME"
        )
    zone = await live_boards.zone_of_scope(connections, parsed)
    span_ = ranges.checked(ranges.parse_bound(from_, zone), ranges.parse_bound(to, zone))
    period = ranges.equal_period(span_, zone)
    if period and parsed.kind != "tag" and settled_boards.has_lake(connections.settings):
        board = Board(parsed, *period, zone)
        found = await settled_boards.published(connections, board, "")
        if found:
            return (await settled_boards.read_board(connections, board, found, k, around, m)).to_dict()
    asked = planner.Asked(parsed, zone, span_, k, around, m, explain)
    return await _while_there(request, planner.read_range(connections, request.app.state.range_turns, asked))


async def _while_there(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of `work`, which ends with its caller: nobody's query holds up others."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            if not task.done() and await request.is_disconnected():
                raise Retryable("overloaded", "the caller has gone")
        return task.result()
    finally:
        task.cancel()
