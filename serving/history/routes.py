"""GET /v1/users/{id}/history: a user's answers, newest first, a page at a time, from Postgres."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from contracts.errors import BadInput
from contracts.identity import checked_id
from contracts.periods import iso_ms
from serving.access.roles import require
from serving.access.tokens import HOST, IMPORTER, PLAYER, Identity
from serving.documented import documented

router = APIRouter(prefix="/v1", tags=["history"])
MAX_ROWS = 200
_COLUMNS = (
    "event_id",
    "occurred_at_us",
    "session_id",
    "quiz_id",
    "question_id",
    "choice",
    "correct",
    "elapsed_ms",
    "points",
    "rule",
)


def encode_cursor(occurred_at_us: int, event_id: str) -> str:
    """Where the next page begins: after this answer."""
    return base64.urlsafe_b64encode(f"{occurred_at_us}/{event_id}".encode()).decode()


def decode_cursor(text: str) -> tuple[int, str]:
    """The (occurred_at_us, event_id) in a cursor. Raises BadInput(invalid_field)."""
    try:
        instant, _, event_id = base64.urlsafe_b64decode(text.encode()).decode().partition("/")
        return int(instant), str(UUID(event_id))
    except (ValueError, binascii.Error) as error:
        raise BadInput("invalid_field", f"cursor {text[:40]!r} is not one of ours") from error


_EXAMPLE = {
    "user_id": "u_8Zt",
    "answers": [
        {
            "event_id": "8d9f0c6e-6c0f-5d3b-9a5e-0f1f6f1f2a3b",
            "occurred_at": "2026-03-02T17:59:41.204Z",
            "session_id": "s_1k2",
            "quiz_id": "starter-a1",
            "question_id": "a1-apple",
            "choice": "apple",
            "correct": True,
            "elapsed_ms": 3120,
            "points": 922,
            "rule": "speed@1",
        }
    ],
    "next": None,
}


@router.get(
    "/users/{user_id}/history",
    summary="A user's answers, newest first",
    responses=documented(
        _EXAMPLE,
        s401="unauthenticated",
        s403="forbidden",
        s422="invalid_field invalid_id",
        s503="system_missing",
    ),
)
async def history(
    user_id: str,
    request: Request,
    identity: Annotated[Identity, Depends(require(PLAYER, HOST, IMPORTER))],
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    checked_id(user_id, "user_id")
    if identity.role != IMPORTER and identity.user_id != user_id:
        raise BadInput("forbidden", "a history is its user's own", status=403)
    after = ""
    values: list[Any] = [user_id]
    if cursor:
        values += decode_cursor(cursor)
        after = "and (occurred_at_us, event_id) < (%s, %s::uuid)"
    query = (
        f"select {', '.join(_COLUMNS)} from history where user_id = %s {after}"
        " order by occurred_at desc, occurred_at_us desc, event_id desc limit %s"
    )
    async with request.app.state.connections.sql() as sql:
        found = await sql.execute(query, [*values, limit + 1])
        rows = await found.fetchall()
    answers = []
    for row in rows[:limit]:
        record = dict(zip(_COLUMNS, row, strict=True))
        record["event_id"] = str(record["event_id"])
        record["occurred_at"] = iso_ms(record.pop("occurred_at_us"))
        answers.append(record)
    more = len(rows) > limit
    next_cursor = encode_cursor(rows[limit - 1][1], str(rows[limit - 1][0])) if more else None
    return {"user_id": user_id, "answers": answers, "next": next_cursor}
