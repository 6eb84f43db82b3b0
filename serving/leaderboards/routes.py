"""GET /v1/leaderboards/{scope}/{period}/{start}, ranges, and one user on many boards: one reply shape, whatever answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Header, Query, Request
from starlette.responses import Response

from contracts import ranges
from contracts.boards import MEASURES, SUBJECTS, Board, Counting, Scope
from contracts.classes import Roster
from contracts.errors import BadInput, Retryable
from contracts.identity import checked_id
from contracts.periods import EPOCH_DAY, zone_of
from contracts.replies import DEFAULT_K, DEFAULT_M, MAX_K, MAX_M, MAX_USERS, Wanted
from serving.access.roles import identify
from serving.access.tokens import IMPORTER
from serving.classes.access import readable
from serving.documented import documented
from serving.leaderboards import (
    class_boards,
    examples,
    live_boards,
    period_boards,
    planner,
    publications,
    settled_boards,
)
from serving.leaderboards.conditional import reply_to
from serving.leaderboards.ingesting import Ingest
from serving.leaderboards.period_boards import AskedBoard, Doors
from serving.leaderboards.publications import At

router = APIRouter(prefix="/v1", tags=["leaderboards"])
# Between two looks whether a range's caller is still there.
LOOK_S = 0.25
# Boards of one user in one call, and how many of them are read at once.
MAX_BOARDS = 50
BOARDS_AT_ONCE = 8

K = Annotated[int, Query(ge=0, le=MAX_K)]
M = Annotated[int, Query(ge=0, le=MAX_M)]
Users = Annotated[
    str, Query(description=f"ids of subjects whose ranks to tell, with commas; at most {MAX_USERS}")
]
Around = Annotated[str, Query(description="id of a subject to show with its neighbours")]
Subject = Annotated[
    str,
    Query(
        description="who is ranked; a question's id is QUIZ/QUESTION, a word's its slug. All but user come from the lake",
        json_schema_extra={"enum": list(SUBJECTS)},
    ),
]
Measure = Annotated[
    str,
    Query(
        description="what is counted (plays: answers, misses: wrong ones). All but points come from the lake",
        json_schema_extra={"enum": list(MEASURES)},
    ),
]
SettlementId = Annotated[
    str, Query(pattern=r"^([1-9][0-9]{0,17})?$", description="as this settlement left it")
]
AsOf = Annotated[str, Query(description="as it was published at this instant")]
Explain = Annotated[bool, Query(description="say where it comes from, and what reading took")]
Fresh = Annotated[
    bool,
    Query(
        description="ingest what Kafka has first, if the lake sums this board: takes a minute and the importer's key"
    ),
]
Stale = Annotated[
    bool,
    Query(
        description="a Redis board may be read from replicas, a moment old; `provenance.replica` says whether it was"
    ),
]
IfNoneMatch = Annotated[str, Header(description="ETags that the caller has: 304 if one is still the reply's")]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The turns of range queries and the kept pages are the process' own; the lake's libraries come in the background."""
    app.state.desk = planner.Desk()
    warm_up = asyncio.create_task(settled_boards.warm_up(app.state.connections.settings))
    app.state.ingest = Ingest(app.state.connections.settings.ingest_command)
    yield
    await app.state.ingest.end()
    warm_up.cancel()


def _doors(request: Request) -> Doors:
    state = request.app.state

    async def roster(class_id: str) -> Roster:
        return await readable(request, state.classes, class_id)

    return Doors(state.connections, state.answering, state.desk, roster)


def _wanted(k: int, around: str, m: int, users: str, counting: Counting) -> Wanted:
    """Raises BadInput(invalid_id, invalid_field)."""
    if around:
        counting.checked_id(around, "around")
    ids = users.split(",") if users else []
    listed = tuple(dict.fromkeys(counting.checked_id(one, "users") for one in ids))
    if len(listed) > MAX_USERS:
        raise BadInput("invalid_field", f"users: {len(listed)} ids; one call may name {MAX_USERS}")
    return Wanted(k, around, m, listed)


async def _may_ingest(request: Request) -> None:
    """A run of Spark is not for everybody who may read a board. Raises BadInput(unauthenticated, forbidden)."""
    role = (await identify(request)).role
    if role != IMPORTER:
        raise BadInput("forbidden", f"fresh: role {role} may not ingest; the importer's key may", status=403)


async def _fresh(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of `work`, begun after all that Kafka had when this was asked is in the lake."""
    try:
        await request.app.state.ingest.done()
    except BaseException:
        work.close()
        raise
    return await work


def _at(settlement: str, as_of: str) -> At:
    """Raises BadInput(wrong_start, invalid_field)."""
    if settlement and as_of:
        raise BadInput("invalid_field", "settlement and as_of: one of them says when")
    return At(settlement, ranges.parse_bound(as_of, "UTC") if as_of else None)


@router.get(
    "/leaderboards/{scope}/{period}/{start}",
    summary="A board: top k, a user's place, those around, several users' ranks",
    responses=documented(
        examples.BOARD,
        s401="unauthenticated",
        s403="forbidden account_needed",
        s404="board_not_kept unknown_quiz unknown_session unknown_class unknown_settlement not_found",
        s422="unknown_scope unknown_period wrong_start invalid_id invalid_field range_too_large too_many_corrections",
        s503="system_missing overloaded",
    ),
)
async def leaderboard(
    scope: str,
    period: str,
    start: str,
    request: Request,
    k: K = DEFAULT_K,
    around: Around = "",
    m: M = DEFAULT_M,
    users: Users = "",
    settlement: SettlementId = "",
    as_of: AsOf = "",
    fresh: Fresh = False,
    stale: Stale = False,
    explain: Explain = False,
    subject: Subject = "user",
    measure: Measure = "points",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """From Redis while the period runs, from the lake once it is settled; never less than was asked for.

    A class' board (`class:ID`) is read with the token of a member or of who leads it, or with the importer's key.
    """
    at, counting = _at(settlement, as_of), Counting.parse(subject, measure)
    wanted = _wanted(k, around, m, users, counting)
    asked = AskedBoard(Scope.parse(scope), period, start, wanted, at, explain, counting, stale)
    # Only a board that the lake sums may take more than a page's time; others are as fresh as they can be.
    summed = at.past or not counting.users_points or asked.scope.kind == "tag"
    ingest = fresh and summed
    if ingest:
        await _may_ingest(request)
    work = period_boards.read(_doors(request), asked)
    work = _fresh(request, work) if ingest else work
    return reply_to(
        if_none_match, await (_while_there(request, work) if summed or asked.scope.kind == "class" else work)
    )


@router.get(
    "/leaderboards/{scope}",
    summary="A board over any range of time",
    responses=documented(
        examples.RANGE,
        s401="unauthenticated",
        s403="forbidden account_needed",
        s404="board_not_kept unknown_quiz unknown_class unknown_settlement not_found",
        s422="unknown_scope unknown_zone wrong_start range_too_large invalid_id invalid_field too_many_corrections",
        s503="system_missing overloaded",
    ),
)
async def any_range(
    scope: str,
    request: Request,
    from_: Annotated[str, Query(alias="from", description="an instant, or a day: its midnight in `zone`")],
    to: Annotated[str, Query(description="exclusive; an instant, or a day")],
    zone: Annotated[str, Query(description="IANA zone that days are read in; default: the scope's")] = "",
    k: K = DEFAULT_K,
    around: Around = "",
    m: M = DEFAULT_M,
    users: Users = "",
    accuracy: Annotated[
        Literal["exact", "fast"], Query(description="fast: an estimate, with its bound")
    ] = "exact",
    settlement: SettlementId = "",
    as_of: AsOf = "",
    fresh: Fresh = False,
    explain: Explain = False,
    subject: Subject = "user",
    measure: Measure = "points",
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Each month or day whole from one source: what is published, else Redis, else the answers of the last ingest."""
    counting = Counting.parse(subject, measure)
    wanted, at = _wanted(k, around, m, users, counting), _at(settlement, as_of)
    if accuracy == "fast" and counting.subject != "user":
        raise BadInput(
            "invalid_field", f"accuracy: an estimate is of users; a {subject} is summed over all of them"
        )
    parsed = Scope.parse(scope)
    if parsed.kind not in ("global", "quiz", "tag", "class"):
        raise period_boards.no_such_board(parsed)
    if fresh:
        await _may_ingest(request)
    doors = _doors(request)
    own_zone = await live_boards.zone_of_scope(doors.connections, parsed)
    read_in = zone_of(zone).key if zone else own_zone
    span = ranges.checked(ranges.parse_bound(from_, read_in), ranges.parse_bound(to, read_in))
    roster = await doors.roster(parsed.id) if parsed.kind == "class" else None
    asked = planner.Asked(parsed, own_zone, span, wanted, at, accuracy == "fast", explain, counting, roster)
    work = _range(doors, asked)
    return reply_to(if_none_match, await _while_there(request, _fresh(request, work) if fresh else work))


async def _range(doors: Doors, asked: planner.Asked) -> dict[str, Any]:
    """The reply of a range, from `rankings` where it is a settled period. An estimate is one because it was asked for."""
    connections = doors.connections
    has_lake = settled_boards.has_lake(connections.settings)
    if asked.roster and asked.in_redis and not (has_lake or asked.at.past or asked.fast):
        live = class_boards.AskedClass(
            asked.roster, "range", EPOCH_DAY, asked.span, asked.wanted, asked.explain
        )
        reply = await class_boards.read(connections, live)
        if reply is not None:
            return reply
    period = ranges.equal_period(asked.span, asked.zone)
    if period and asked.in_redis and not asked.roster and not asked.fast and has_lake:
        board = Board(asked.scope, *period, asked.zone)
        newest = (await publications.publication(connections, asked.at)).id if asked.at.past else ""
        found = await publications.published(connections, board, newest=newest)
        if found:
            return await settled_boards.read_board(
                connections, doors.desk.pages, board, found, asked.wanted, asked.explain
            )
    return await planner.read_range(connections, doors.desk, asked)


@router.get(
    "/users/{user_id}/ranks",
    summary="One user's rank on many boards",
    responses=documented(examples.RANKS, s422="invalid_id invalid_field", s503="system_missing"),
)
async def ranks(
    user_id: str,
    request: Request,
    boards: Annotated[
        str, Query(description=f"SCOPE/PERIOD/START, with commas; at most {MAX_BOARDS}", min_length=1)
    ],
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Each board with where it comes from, or with its own error: one that is not there takes no other with it."""
    checked_id(user_id, "user_id")
    names = list(dict.fromkeys(boards.split(",")))
    if len(names) > MAX_BOARDS:
        raise BadInput("invalid_field", f"boards: {len(names)} of them; one call may name {MAX_BOARDS}")
    doors, turns = _doors(request), asyncio.Semaphore(BOARDS_AT_ONCE)

    async def one(name: str) -> dict[str, Any]:
        async with turns:
            return await period_boards.rank_of(doors, user_id, name)

    found = await asyncio.gather(*(one(name) for name in names))
    return reply_to(if_none_match, {"user_id": user_id, "ranks": found})


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
