"""Sessions over HTTP: create, join by PIN, next, close, end, answer, and the state as it is now."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput, LakeboardError
from serving.access.roles import require
from serving.access.tokens import HOST, PLAYER, Identity, sign
from serving.documented import documented
from serving.migrations.upgrade import BOARDS_KEPT_US
from serving.play.record import AnswerBatcher
from serving.quizzes.store import load_quiz
from serving.sessions import machine
from serving.sessions.answering import Answering
from serving.sessions.machine import Player, Session
from serving.sessions.store import NAME_LENGTH, SessionStore, now_us

router = APIRouter(prefix="/v1", tags=["sessions"])
ID = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CreateSession(_Body):
    """Which quiz is played."""

    quiz_id: Annotated[str, ID]
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"quiz_id": "starter-a1"}]})


class Join(_Body):
    """A PIN as the host shows it, and the name the others see."""

    pin: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"pin": "042017", "name": "Ada"}]}
    )


class Answer(_Body):
    """One answer; `choice` is the text of one of the choices, `ref` comes back unchanged."""

    question_id: Annotated[str, ID]
    choice: Annotated[str, Field(max_length=200)]
    ref: Annotated[str, Field(max_length=64)] = ""
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question_id": "a1-apple", "choice": "apple", "ref": "1"}]},
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
    app.state.answering = Answering(app.state.sessions, batcher, since)
    yield
    await batcher.stop()


def _own(identity: Identity, session_id: str) -> None:
    if identity.session_id != session_id:
        raise BadInput("forbidden", "the token belongs to another session", status=403)


def clean_name(name: str) -> str:
    """A name without control characters or outer blanks. Raises BadInput(invalid_field) if nothing is left."""
    found = " ".join("".join(c for c in name if c.isprintable()).split())
    if not found:
        raise BadInput("invalid_field", "name: write at least one letter")
    return found


def _shown(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "quiz_id": session.quiz_id,
        "title": session.title,
        "pin": session.pin,
        "state": session.state,
        "epoch": session.epoch,
        "questions": session.questions,
    }


_SHOWN = {
    "session_id": "s_1k2",
    "quiz_id": "starter-a1",
    "title": "First words",
    "pin": "042017",
    "state": "question",
    "epoch": 3,
    "questions": 12,
}
_CURRENT = {
    "type": "question",
    "session_id": "s_1k2",
    "epoch": 3,
    "title": "First words",
    "question_index": 0,
    "questions": 12,
    "question_id": "a1-apple",
    "prompt": "a round fruit that grows on trees",
    "choices": ["bread", "apple", "water", "chair"],
    "time_limit_ms": 20000,
    "deadline_us": 1772474401204000,
}
_RESULT = {
    "ref": "1",
    "question_id": "a1-apple",
    "points": 922,
    "correct": True,
    "total": 922,
    "rank": 1,
    "repeat": False,
}
_MOVE = documented(
    _SHOWN,
    s401="unauthenticated",
    s403="forbidden",
    s404="unknown_session",
    s409="session_ended session_sealed session_conflict",
    s503="system_missing",
)


@router.post(
    "/sessions",
    status_code=201,
    summary="Create a session of a quiz",
    responses=documented(
        {**_SHOWN, "state": "lobby", "token": "eyJ…"},
        status=201,
        s400="malformed_body",
        s404="unknown_quiz",
        s422="unknown_field missing_field invalid_field",
        s503="system_missing",
    ),
)
async def create(body: CreateSession, request: Request) -> dict[str, Any]:
    state = request.app.state
    quiz, questions = await load_quiz(state.connections, body.quiz_id)
    host_id = (await state.sessions.new_guest("Host"))[0]
    session = await state.sessions.create(quiz, questions, host_id)
    host = Identity(session.host_id, HOST, 0, session.session_id, session.quiz_id, "Host")
    return {**_shown(session), "token": sign(host, state.jwt_key)}


@router.post(
    "/join",
    status_code=201,
    summary="Join an open session by its PIN, as a signed guest",
    responses=documented(
        {**_SHOWN, "user_id": "u_8Zt", "name": "Ada", "token": "eyJ…"},
        status=201,
        s400="malformed_body",
        s404="unknown_pin",
        s409="session_ended",
        s422="unknown_field missing_field invalid_field",
        s503="system_missing",
    ),
)
async def join(body: Join, request: Request) -> dict[str, Any]:
    state = request.app.state
    name = clean_name(body.name)
    session = await state.sessions.by_pin(body.pin)
    if session.state in (machine.ENDED, machine.SEALED):
        raise BadInput("session_ended", f"session {session.session_id} has ended", status=409)
    user_id, user_no = await state.sessions.new_guest(name)
    await state.sessions.join(session, user_id, name)
    player = Identity(user_id, PLAYER, user_no, session.session_id, session.quiz_id, name)
    return {**_shown(session), "user_id": user_id, "name": name, "token": sign(player, state.jwt_key)}


@router.get(
    "/sessions/{session_id}",
    summary="The session as it is now",
    responses=documented(
        {**_SHOWN, "current": _CURRENT, "now_us": 1772474384324000},
        s404="unknown_session",
        s503="system_missing",
    ),
)
async def show(session_id: str, request: Request) -> dict[str, Any]:
    session, questions = await request.app.state.answering.state(session_id, fresh=True)
    message = machine.state_message(session, questions.get(session.question_id))
    return {**_shown(session), "current": message, "now_us": now_us()}


async def _move(request: Request, session_id: str, identity: Identity, kind: str) -> dict[str, Any]:
    """Decides and writes a host's move; a move that another one overtook is a conflict, not a second step."""
    _own(identity, session_id)
    state = request.app.state
    session = await state.sessions.load(session_id)
    if kind == "next":
        questions = await state.sessions.questions(session_id)
        at = session.question_index + 1
        fields = machine.next_question(session, questions[at] if at < len(questions) else None, now_us())
    else:
        fields = machine.close(session) if kind == "close" else machine.end(session)
    if fields and not await state.sessions.move(session, fields):
        raise BadInput("session_conflict", f"session {session_id} moved on at the same moment", status=409)
    session = await state.sessions.load(session_id)
    if session.state == machine.ENDED and fields:
        await state.sessions.forget_pin(session)
        await _note_end(state.connections, session_id)
    return _shown(session)


async def _note_end(connections: Any, session_id: str) -> None:
    """Postgres learns of the end if it is there; sealing writes the row in any case."""
    try:
        async with connections.sql() as sql:
            await sql.execute("update sessions set ended_at = now() where session_id = %s", [session_id])
    except (LakeboardError, psycopg.Error):
        pass


@router.post(
    "/sessions/{session_id}/next",
    summary="Show the next question, or end after the last",
    responses=_MOVE,
)
async def next_question(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    return await _move(request, session_id, identity, "next")


@router.post(
    "/sessions/{session_id}/close",
    summary="Close the open question and reveal its answer",
    responses=_MOVE,
)
async def close(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    return await _move(request, session_id, identity, "close")


@router.post(
    "/sessions/{session_id}/end",
    summary="End the session",
    responses=_MOVE,
)
async def end(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    return await _move(request, session_id, identity, "end")


@router.post(
    "/sessions/{session_id}/answers",
    summary="Answer the open question",
    responses=documented(
        _RESULT,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden",
        s404="unknown_session unknown_question",
        s409="question_closed session_ended session_sealed points_overflow",
        s413="body_too_large",
        s422="unknown_field missing_field invalid_field",
        s503="system_missing overloaded stale",
    ),
)
async def answer(
    session_id: str, body: Answer, request: Request, identity: Annotated[Identity, Depends(require(PLAYER))]
) -> dict[str, Any]:
    _own(identity, session_id)
    player = Player(identity.user_id, identity.user_no)
    result = await request.app.state.answering.submit(session_id, player, body.question_id, body.choice)
    return {"ref": body.ref, **result.to_dict()}
