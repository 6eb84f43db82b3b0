"""GET /v1/leaderboards/{scope}/{period}/{start}: one reply shape, from Redis while live, from the lake when settled."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from contracts.boards import Board, Scope, kept_in_redis
from contracts.errors import BadInput, SystemMissing
from contracts.identity import checked_id
from contracts.periods import parse_start
from contracts.replies import DEFAULT_K, DEFAULT_M, MAX_K, MAX_M, BoardReply
from contracts.scoring import DEFAULT_RULE
from serving.connections import Connections
from serving.documented import documented
from serving.leaderboards import live_boards, settled_boards
from serving.sessions.store import now_us

router = APIRouter(prefix="/v1", tags=["leaderboards"])


async def boards_since_us(connections: Connections) -> int:
    """Redis keeps boards of periods that end after this instant; 0 (keep asking Redis) while Postgres is down."""
    try:
        async with connections.sql() as sql:
            found = await sql.execute("select value from deployment where key = 'boards_since_us'")
            row = await found.fetchone()
    except SystemMissing:
        return 0
    return int(row[0]) if row else 0


async def _session_reply(
    request: Request, scope: Scope, period: str, start: str, k: int, user: str, m: int
) -> BoardReply:
    if period != "all_time":
        raise BadInput("unknown_period", "a session's board is all_time", next_step="use all_time/current")
    session, _ = await request.app.state.answering.state(scope.id, fresh=True)
    board = Board(scope, period, parse_start(period, start, now_us()), session.quiz_zone)
    anchor, tick = live_boards.with_session(board, session)
    return await live_boards.read_board(
        request.app.state.connections, board, anchor, tick, session.quiz_id, k, user, m, (session.rule,)
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
    if period != "all_time" and (settlement or settled_boards.has_lake(connections.settings)):
        found = await settled_boards.published(connections, board, settlement)
        if found:
            return (await settled_boards.read_board(connections, board, found, k, around, m)).to_dict()
    if not kept_in_redis(board, await boards_since_us(connections)):
        raise BadInput(
            "board_not_kept",
            f"Redis no longer keeps {board.key}",
            status=404,
            next_step="./lakeboard settle, in profile full",
        )
    quiz_id = parsed.id if parsed.kind == "quiz" else None
    return (
        await live_boards.read_board(
            connections, board, board.anchor_us, board.tick_us, quiz_id, k, around, m, (DEFAULT_RULE,)
        )
    ).to_dict()
