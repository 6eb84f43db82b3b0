"""GET /v1/users/{id}/history: a user's answers, newest first, a page at a time, from Postgres and the archive.

One cursor, (occurred_at_us, event_id), goes over both. An answer may be on both sides (a month that was just archived,
a restored user, a late answer's month): it is shown once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from contracts.errors import BadInput
from contracts.identity import checked_id
from contracts.periods import iso_ms, span
from serving.access.roles import require
from serving.access.tokens import ANALYST, HOST, IMPORTER, PLAYER, SEAT, Identity
from serving.connections import Connections
from serving.documented import documented
from serving.history import archive

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
            "question_id": "a1-014-word",
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
        s403="forbidden account_needed",
        s422="invalid_field invalid_id",
        s503="system_missing",
    ),
)
async def history(
    user_id: str,
    request: Request,
    identity: Annotated[Identity, Depends(require(PLAYER, HOST, ANALYST, IMPORTER))],
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """Of oneself; analysts and importers may read any. A guest who has made an account reads it with the account's token:
    whoever else has had the seat's token does not."""
    checked_id(user_id, "user_id")
    if identity.role not in (ANALYST, IMPORTER) and identity.user_id != user_id:
        raise BadInput("forbidden", "a history is its user's own", status=403)
    if identity.kind == SEAT:
        await _still_a_guest(request.app.state.connections, user_id)
    before = decode_cursor(cursor) if cursor else None
    rows = await page_of(request.app.state.connections, user_id, before, limit + 1)
    answers = []
    for row in rows[:limit]:
        answers.append({**row, "occurred_at": iso_ms(row["occurred_at_us"])})
        del answers[-1]["occurred_at_us"]
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = encode_cursor(last["occurred_at_us"], last["event_id"]) if last else None
    return {"user_id": user_id, "answers": answers, "next": next_cursor}


async def _still_a_guest(connections: Connections, user_id: str) -> None:
    async with connections.sql() as sql:
        found = await sql.execute("select 1 from accounts where user_id = %s", [user_id])
        if await found.fetchone():
            raise BadInput("account_needed", "this history is an account's", status=403, next_step="log in")


async def page_of(
    connections: Connections, user_id: str, before: tuple[int, str] | None, limit: int
) -> list[dict[str, Any]]:
    """The first `limit` answers before a place. Steps: 1 history; 2 the archived months (in this order, so that a month
    that is archived in between is on both sides); 3 the lake, if a month may have what the page lacks; 4 merge.
    """
    values: list[Any] = [user_id, *(before or ())]
    after = "and (occurred_at_us, event_id) < (%s, %s::uuid)" if before else ""
    query = (
        f"select {', '.join(_COLUMNS)} from history where user_id = %s {after}"
        " order by occurred_at desc, occurred_at_us desc, event_id desc limit %s"
    )
    async with connections.sql() as sql:
        found = await (await sql.execute(query, [*values, limit])).fetchall()
        archived = await archive.archived_months(sql)
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in found]
    for row in rows:
        row["event_id"] = str(row["event_id"])
    reached = months_that_matter(archived.months, rows, before, limit)
    if not reached:
        return rows
    return merged(
        rows,
        await archive.page(connections, replace(archived, months=reached), user_id, before, limit),
        limit,
    )


def months_that_matter(
    months: Sequence[date], rows: Sequence[dict[str, Any]], before: tuple[int, str] | None, limit: int
) -> tuple[date, ...]:
    """The archived months that may have an answer of the page whose rows Postgres has given. Pure."""
    least = rows[-1]["occurred_at_us"] if len(rows) >= limit else None
    spans = [(month, span("monthly", month, "UTC")) for month in months]
    return tuple(
        month
        for month, one in spans
        if (before is None or one.start_us <= before[0]) and (least is None or one.end_us > least)
    )


def merged(
    one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], limit: int
) -> list[dict[str, Any]]:
    """Both sides' answers newest first, each event id once, at most `limit`. Pure."""
    by_id = {row["event_id"]: row for row in (*other, *one)}
    return sorted(by_id.values(), key=lambda row: (row["occurred_at_us"], row["event_id"]), reverse=True)[
        :limit
    ]
