"""A host's moves over HTTP, who plays, and the right answers once a session is over."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from serving.access.limits import UserLimit
from serving.access.roles import require
from serving.access.tokens import HOST, PLAYER, Identity
from serving.documented import documented
from serving.sessions.routes import SHOWN, own, shown
from serving.sessions.session import PODIUM

router = APIRouter(prefix="/v1", tags=["sessions"])
# Move → what it does, in the order in which a host meets them.
SUMMARIES = {
    "next": "Show the next question; after the last the podium, then the end",
    "advance": "Go to the next phase, whatever the phase is",
    "skip": "Leave the open question for the next, without a reveal",
    "close": "Close the open question, then reveal its answer",
    "standings": "Show the standings after the reveal",
    "pause": "Stop the clock",
    "resume": "Let the clock run on; the deadline has moved by the pause",
    "lock": "Let nobody new in",
    "unlock": "Let others in again",
    "end": "End the session",
}


class Moved(BaseModel):
    """What the host saw: a move sent again after its reply was lost is then a conflict, not a second move."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"epoch": 3}]})
    epoch: Annotated[int, Field(ge=0)] | None = None


_MOVE = documented(
    SHOWN,
    s400="malformed_body",
    s401="unauthenticated",
    s403="forbidden",
    s404="unknown_session",
    s409="session_ended session_sealed session_paused session_conflict",
    s422="unknown_field invalid_field",
    s503="system_missing disk_full",
)
_ABOUT_PLAYER = documented(
    SHOWN,
    s401="unauthenticated",
    s403="forbidden",
    s404="unknown_session unknown_user",
    s409="session_ended session_sealed session_conflict",
    s503="system_missing disk_full",
)


def _add_move(kind: str, summary: str) -> None:
    async def move(
        session_id: str,
        request: Request,
        identity: Annotated[Identity, Depends(require(HOST))],
        body: Moved | None = None,
    ) -> dict[str, Any]:
        own(identity, session_id)
        epoch = body.epoch if body else None
        return shown(await request.app.state.hosting.move(session_id, kind, epoch))

    router.add_api_route(
        f"/sessions/{{session_id}}/{kind}",
        move,
        methods=["POST"],
        summary=summary,
        responses=_MOVE,
        operation_id=f"move_{kind}",
    )


for _kind, _summary in SUMMARIES.items():
    _add_move(_kind, _summary)


@router.post(
    "/sessions/{session_id}/players/{user_id}/remove",
    summary="Remove a player",
    responses=_ABOUT_PLAYER,
)
async def remove(
    session_id: str, user_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    """Sockets close, answers are refused, and what is shown of the board leaves them out.

    Answers that counted stay in the record and on every board; `rescore` takes those out, for good and with a reason.
    """
    own(identity, session_id)
    return shown(await request.app.state.hosting.remove(session_id, user_id))


@router.post(
    "/sessions/{session_id}/players/{user_id}/readmit",
    summary="Let a removed player in again",
    responses=_ABOUT_PLAYER,
)
async def readmit(
    session_id: str, user_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    """With the points they had."""
    own(identity, session_id)
    return shown(await request.app.state.hosting.remove(session_id, user_id, back=True))


@router.get(
    "/sessions/{session_id}/players",
    summary="Who plays",
    responses=documented(
        {"players": [{"user_id": "u_8Zt", "name": "Ada", "connected": True, "removed": False}]},
        s401="unauthenticated",
        s403="forbidden",
        s404="unknown_session",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=[Depends(UserLimit())],
)
async def players(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST))]
) -> dict[str, Any]:
    """One row a player who joined, by name; `connected`: has an open socket on any handler."""
    own(identity, session_id)
    state = request.app.state
    session = await state.sessions.load(session_id)
    joined = await state.sessions.players(session_id)
    connected = await state.presence.connected(session_id)
    rows = [
        {
            "user_id": user_id,
            "name": name,
            "connected": user_id in connected,
            "removed": user_id in session.removed,
        }
        for user_id, name in joined.items()
    ]
    return {"players": sorted(rows, key=lambda row: (row["name"], row["user_id"]))}


@router.get(
    "/sessions/{session_id}/review",
    summary="Questions and right answers, once all is over",
    responses=documented(
        {
            "questions": [
                {
                    "question_id": "a1-014-word",
                    "question_type": "definition_to_word",
                    "prompt": "a round fruit that grows on trees",
                    "choices": ["bread", "apple", "water", "chair"],
                    "answer": "apple",
                }
            ]
        },
        s401="unauthenticated",
        s403="forbidden",
        s404="unknown_session",
        s409="session_conflict",
        s503="system_missing",
    ),
)
async def review(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST, PLAYER))]
) -> dict[str, Any]:
    """Refused (`session_conflict`) while anybody can still answer."""
    own(identity, session_id)
    session, questions = await request.app.state.answering.state(session_id, fresh=True)
    if not session.over and session.state != PODIUM:
        raise BadInput("session_conflict", f"session {session_id} is still played", status=409)
    return {
        "questions": [
            {
                "question_id": q.question_id,
                "question_type": q.type,
                "prompt": q.prompt or q.speech,
                "choices": list(q.choices),
                "answer": q.answer,
            }
            for q in questions.values()
        ]
    }
