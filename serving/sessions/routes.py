"""Sessions over HTTP: create, join, answer, and the state as it is now. The host's moves are in `host_routes.py`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput, LakeboardError
from serving.access.limits import JOINS, OPENINGS, AddressLimit, UserLimit
from serving.access.roles import account_of, require, require_account
from serving.access.tokens import HOST, PLAYER, ROLES, TOKEN_LIFE_S, Identity, sign
from serving.documented import documented
from serving.live.messages import Out, as_document
from serving.live.phases import phase_message
from serving.migrations.upgrade import BOARDS_KEPT_US
from serving.play.record import AnswerBatcher
from serving.quizzes.library import load_quiz
from serving.sessions.answering import Answering
from serving.sessions.hosting import Hosting
from serving.sessions.judging import check_player
from serving.sessions.opening import CHALLENGE_MAX_S, Opening
from serving.sessions.session import CHALLENGE, PODIUM, Player, Session
from serving.sessions.store import SessionStore, now_us
from serving.users.display_names import NAME_LENGTH, clean_name

router = APIRouter(prefix="/v1", tags=["sessions"])
ID = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
# A player who opened the link in a challenge's last moment still reads the review.
AFTER_CHALLENGE_S = 3600
# A class is talked over days later; all that a host's token opens then is this session's report.
HOST_TOKEN_LIFE_S = 31 * 24 * 3600
# A challenge that is open for less is over before its link has been read.
CHALLENGE_MIN_S = 60


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CreateSession(_Body):
    """Which quiz is played; with `open_for_s` as a self-paced challenge that is open for so many seconds."""

    quiz_id: Annotated[str, ID]
    open_for_s: Annotated[int, Field(ge=CHALLENGE_MIN_S, le=CHALLENGE_MAX_S)] | None = None
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"quiz_id": "starter-a1"}]})


class Join(_Body):
    """A PIN as the host shows it, and the name the others see."""

    pin: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"pin": "042017", "name": "Ada"}]}
    )


class JoinChallenge(_Body):
    """The name the others see; the challenge is in the link."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Ada"}]})


class Answer(_Body):
    """One answer; `choice` is the text of one of the choices, or what was typed; `ref` comes back unchanged."""

    question_id: Annotated[str, ID]
    choice: Annotated[str, Field(max_length=200)]
    ref: Annotated[str, Field(max_length=64)] = ""
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question_id": "a1-014-word", "choice": "apple", "ref": "1"}]},
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Starts the batcher; sockets and routes share it through `app.state`."""
    connections = app.state.connections
    since = int(time.time() * 1e6) - BOARDS_KEPT_US
    try:
        async with connections.sql() as sql:
            found = await sql.execute("select value from deployment where key = 'boards_since_us'")
            row = await found.fetchone()
            since = int(row[0]) if row else since
    except (LakeboardError, psycopg.Error):
        pass  # Postgres is away or not made yet: play goes on, and a session of now is kept by either instant
    batcher = AnswerBatcher(connections.shards)
    batcher.start()
    app.state.batcher = batcher
    app.state.sessions = SessionStore(connections)
    app.state.opening = Opening(app.state.sessions)
    app.state.hosting = Hosting(app.state.sessions, app.state.opening)
    app.state.answering = Answering(app.state.sessions, batcher, since)
    yield
    await batcher.stop()
    app.state.sessions.close()


def own(identity: Identity, session_id: str) -> None:
    """Raises BadInput(forbidden) unless the token is this session's."""
    if identity.session_id != session_id:
        raise BadInput("forbidden", "the token belongs to another session", status=403)


def shown(session: Session) -> dict[str, Any]:
    """What a reply says of a session."""
    return {
        "session_id": session.session_id,
        "quiz_id": session.quiz_id,
        "title": session.title,
        "pin": session.pin,
        "mode": session.mode,
        "state": session.state,
        "epoch": session.epoch,
        "locked": session.locked,
        "questions": session.questions,
    }


SHOWN = {
    "session_id": "s_1k2",
    "quiz_id": "starter-a1",
    "title": "First words",
    "pin": "042017",
    "mode": "hosted",
    "state": "question",
    "epoch": 3,
    "locked": False,
    "questions": 12,
}
_CURRENT = {
    "type": "question",
    "session_id": "s_1k2",
    "seq": 41,
    "epoch": 3,
    "now_us": 1772474384324000,
    "title": "First words",
    "mode": "hosted",
    "pin": "042017",
    "locked": False,
    "questions": 12,
    "question_index": 0,
    "question_id": "a1-014-word",
    "question_type": "definition_to_word",
    "prompt": "a round fruit that grows on trees",
    "choices": ["bread", "apple", "water", "chair"],
    "speech": "",
    "language": "en",
    "media": None,
    "shown_at_us": 1772474381204000,
    "deadline_us": 1772474401204000,
    "deadline": "2026-03-02T18:00:01.204Z",
    "time_limit_ms": 20000,
}
_RESULT = {
    "ref": "1",
    "question_id": "a1-014-word",
    "points": 922,
    "correct": True,
    "total": 922,
    "rank": 1,
    "repeat": False,
}
_JOINED = {**SHOWN, "user_id": "u_8Zt", "name": "Ada", "token": "eyJ…"}


def _token_life_s(session: Session) -> int:
    """A player of a challenge may come back until it ends."""
    left_s = (session.deadline_us - now_us()) // 1_000_000 if session.mode == CHALLENGE else 0
    return max(TOKEN_LIFE_S, left_s + AFTER_CHALLENGE_S)


def _public(document: dict[str, Any]) -> dict[str, Any]:
    """What anybody may see of a session."""
    return {name: value for name, value in document.items() if name != "pin"}


def _without_type(message: Out) -> dict[str, Any]:
    document = as_document(message)
    del document["type"]
    return document


@router.post(
    "/sessions",
    status_code=201,
    summary="Create a session of a quiz: hosted, or a self-paced challenge",
    responses=documented(
        {**SHOWN, "state": "lobby", "token": "eyJ…"},
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s404="unknown_quiz",
        s409="quiz_archived quiz_incomplete",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded memory_full disk_full",
    ),
    dependencies=[Depends(AddressLimit(OPENINGS))],
)
async def create(body: CreateSession, request: Request) -> dict[str, Any]:
    """The token leads the session. A challenge is joined by PIN, or by its id: `/sessions/{id}/join`.

    With an account's token or key the account is its host, and may come back to it: `/sessions/{id}/seat`. A private
    quiz is its owner's alone to play. The session keeps the version that is published now.
    """
    state = request.app.state
    account = await account_of(request)
    quiz, questions = await load_quiz(state.connections, body.quiz_id, account.user_id if account else "")
    host_id = account.user_id if account else (await state.opening.new_guest("Host"))[0]
    session = await state.opening.create(quiz, questions, host_id, body.open_for_s or 0)
    return {
        **shown(session),
        "token": _host_token(state, session, HOST_TOKEN_LIFE_S + (body.open_for_s or 0)),
    }


def _host_token(state: Any, session: Session, life_s: int) -> str:
    host = Identity(session.host_id, HOST, 0, session.session_id, session.quiz_id, "Host")
    return sign(host, state.jwt_key, life_s=life_s)


async def _join(request: Request, session: Session, given: str) -> dict[str, Any]:
    """A player in a session: an account, else a new guest. A guest whose session cannot be joined is a row that nothing names."""
    state = request.app.state
    name = clean_name(given)
    account = await account_of(request)
    if session.over or session.state == PODIUM:
        raise BadInput("session_ended", f"session {session.session_id} has ended", status=409)
    if session.locked:  # the script looks again; here it saves the guest's row
        raise BadInput("session_locked", f"session {session.session_id} is locked by its host", status=409)
    user_id, user_no = (account.user_id, account.user_no) if account else await state.opening.new_guest(name)
    await state.sessions.join(session, user_id, name)
    return _seated(state, session, user_id, user_no, name)


def _seated(state: Any, session: Session, user_id: str, user_no: int, name: str) -> dict[str, Any]:
    player = Identity(user_id, PLAYER, user_no, session.session_id, session.quiz_id, name)
    token = sign(player, state.jwt_key, life_s=_token_life_s(session))
    return {**shown(session), "user_id": user_id, "name": name, "token": token}


@router.post(
    "/join",
    status_code=201,
    summary="Join an open session by its PIN, as a guest or with an account",
    responses=documented(
        _JOINED,
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="player_removed",
        s404="unknown_pin",
        s409="session_ended session_locked session_full",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing memory_full disk_full",
    ),
    dependencies=[Depends(AddressLimit(JOINS))],
)
async def join(body: Join, request: Request) -> dict[str, Any]:
    """With an account's token the points are the account's; the name is this session's."""
    return await _join(request, await request.app.state.opening.by_pin(body.pin), body.name)


@router.post(
    "/sessions/{session_id}/join",
    status_code=201,
    summary="Join a challenge by its link, as a guest or with an account",
    responses=documented(
        {**_JOINED, "mode": "challenge", "state": "open"},
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="player_removed",
        s404="unknown_session",
        s409="session_ended session_locked session_full session_conflict",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing memory_full disk_full",
    ),
    dependencies=[Depends(AddressLimit(JOINS))],
)
async def join_challenge(session_id: str, body: JoinChallenge, request: Request) -> dict[str, Any]:
    """A hosted session's id is in its boards' addresses, so only its PIN opens it (`session_conflict`)."""
    session = await request.app.state.sessions.load(session_id)
    if session.mode != CHALLENGE:
        raise BadInput("session_conflict", f"session {session_id} is joined by its PIN", status=409)
    return await _join(request, session, body.name)


@router.post(
    "/sessions/{session_id}/seat",
    summary="Come back to a session that my account hosts or plays",
    responses=documented(
        {**_JOINED, "role": "player"},
        s401="unauthenticated",
        s403="account_needed forbidden player_removed",
        s404="unknown_session",
        s503="system_missing",
    ),
)
async def seat(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require_account(*ROLES))]
) -> dict[str, Any]:
    """A token for this session, on any device; `role` says whether it leads or plays."""
    state = request.app.state
    session = await state.sessions.load(session_id)
    if session.host_id == identity.user_id:
        token = _host_token(state, session, _token_life_s(session))
        return {**shown(session), "user_id": identity.user_id, "name": "Host", "token": token, "role": HOST}
    name = (await state.sessions.players(session_id)).get(identity.user_id)
    if name is None:
        raise BadInput("forbidden", "your account neither hosts nor plays this session", status=403)
    check_player(session, identity.user_id)
    return {**_seated(state, session, identity.user_id, identity.user_no, name), "role": PLAYER}


@router.get(
    "/sessions/{session_id}",
    summary="The session as it is now",
    responses=documented(
        {**_public(SHOWN), "current": _public(_CURRENT), "now_us": 1772474384324000},
        s404="unknown_session",
        s503="system_missing",
    ),
)
async def show(session_id: str, request: Request) -> dict[str, Any]:
    """`current` is the message that a socket gets (live.v1). Without the PIN: the id is no secret, and the PIN lets in."""
    session, questions = await request.app.state.answering.state(session_id, fresh=True)
    now = now_us()
    message = phase_message(session, questions.get(session.question_id), now)
    return {**_public(shown(session)), "current": _public(as_document(message)), "now_us": now}


@router.post(
    "/sessions/{session_id}/answers",
    summary="Answer the open question",
    responses=documented(
        _RESULT,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden player_removed",
        s404="unknown_session unknown_question",
        s409="question_closed session_paused session_ended session_sealed points_overflow",
        s413="body_too_large",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded stale outbox_full memory_full disk_full",
    ),
    dependencies=[Depends(UserLimit())],
)
async def answer(
    session_id: str, body: Answer, request: Request, identity: Annotated[Identity, Depends(require(PLAYER))]
) -> dict[str, Any]:
    own(identity, session_id)
    player = Player(identity.user_id, identity.user_no)
    result = await request.app.state.answering.submit(session_id, player, body.question_id, body.choice)
    result.ref = body.ref
    return _without_type(result)


@router.post(
    "/sessions/{session_id}/own/next",
    summary="In a challenge: my next question",
    responses=documented(
        {**_CURRENT, "mode": "challenge"},
        s401="unauthenticated",
        s403="forbidden player_removed",
        s404="unknown_session",
        s409="session_conflict session_ended session_sealed",
        s429="too_many_requests",
        s503="system_missing stale memory_full disk_full",
    ),
    dependencies=[Depends(UserLimit())],
)
async def own_next(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(PLAYER))]
) -> dict[str, Any]:
    """The next question once the one shown is answered or its time is over; until then that one, its clock running.

    After the last: `{"type": "finished"}`.
    """
    own(identity, session_id)
    player = Player(identity.user_id, identity.user_no)
    return as_document(await request.app.state.answering.next_question(session_id, player))
