"""GET /v1/sessions/{id}/report: the class report, for the session's host, while it runs and after it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from contracts.periods import iso_ms
from serving.access.limits import UserLimit
from serving.access.roles import require
from serving.access.tokens import HOST, Identity
from serving.documented import documented
from serving.sessions import report, report_sources
from serving.sessions.routes import own
from serving.sessions.store import now_us

router = APIRouter(prefix="/v1", tags=["sessions"])
CSV = "text/csv"
_EXAMPLE: dict[str, Any] = {
    "session_id": "s_1k2",
    "quiz_id": "starter-a1",
    "title": "First words",
    "mode": "hosted",
    "state": "ended",
    "source": "redis",
    "as_of": "2026-03-02T18:04:11.204Z",
    "answers": 2,
    "participants": 2,
    "questions": [
        {
            "number": 1,
            "question_id": "a1-014-word",
            "prompt": "a round fruit that grows on trees",
            "open": False,
            "answered": 2,
            "right": 1,
            "share_right": 0.5,
            "median_ms": 3120,
            "mean_ms": 3120,
            "answer": "apple",
            "choices": [
                {"choice": "bread", "count": 1, "right": False},
                {"choice": "apple", "count": 1, "right": True},
            ],
            "most_chosen_wrong": "bread",
        }
    ],
    "players": [
        {
            "rank": 1,
            "user_id": "u_8Zt",
            "name": "Ada",
            "answered": 1,
            "right": 1,
            "points": 922,
            "removed": False,
        }
    ],
}
_REPLIES = documented(
    _EXAMPLE,
    s401="unauthenticated",
    s403="forbidden",
    s404="unknown_session",
    s409="session_sealed",
    s422="invalid_field",
    s429="too_many_requests",
    s503="system_missing",
)
_REPLIES[200]["content"][CSV] = {"example": "rank,user_id,name,answered,right,points,removed\r\n"}


@router.get("/sessions/{session_id}/report", summary="The class report: questions, hardest first, and players",
            responses=_REPLIES, response_class=JSONResponse, dependencies=[Depends(UserLimit())])  # fmt: skip
async def class_report(
    session_id: str,
    request: Request,
    identity: Annotated[Identity, Depends(require(HOST))],
    format: Annotated[Literal["json", "csv"], Query(description="csv: one table, as a file")] = "json",
    table: Annotated[
        Literal["questions", "players"], Query(description="which table a CSV has")
    ] = "questions",
) -> Response:
    """`answer`, `choices` and `most_chosen_wrong` are there once the question cannot be answered any more (`open`).

    `share_right` is right of answered, null without answers; times are of all answers, in ms. Removed players are listed
    without a rank and counted nowhere else. `source`: redis while the shard has the session, history once it is sealed.
    A cell of the CSV that a spreadsheet would take for a formula begins with an apostrophe.
    """
    own(identity, session_id)
    seen_us = now_us()
    found = await report_sources.read(request.app.state.sessions, session_id)
    # On a thread: a stadium's million answers take seconds, and this process has sockets to serve.
    told = await asyncio.to_thread(report.report, found.played, found.answers)
    if format == "csv":
        headers = {"Content-Disposition": f'attachment; filename="lakeboard-{table}-{session_id}.csv"'}
        text = await asyncio.to_thread(report.as_csv, told, table)
        return Response(text, media_type=f"{CSV}; charset=utf-8", headers=headers)
    session = found.session
    return JSONResponse(
        {
            "session_id": session.session_id,
            "quiz_id": session.quiz_id,
            "title": session.title,
            "mode": session.mode,
            "state": session.state,
            "source": found.source,
            "as_of": iso_ms(seen_us),
            **told,
        }
    )
