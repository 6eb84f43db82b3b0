"""A user's answers and sessions over HTTP: filtered, newest first, a page at a time, or all of them as one file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from contracts.answer_filters import AnswerFilters
from contracts.errors import BadInput
from contracts.identity import checked_id
from contracts.periods import iso_ms
from serving.access.limits import UserLimit
from serving.access.roles import require
from serving.access.tokens import IMPORTER, ROLES, Identity
from serving.connections import Connections
from serving.csv_files import CSV, csv_text
from serving.documented import documented
from serving.history import asked, pages
from serving.history.pages import Place

router = APIRouter(prefix="/v1", tags=["history"])
MAX_ROWS = 200
# A file is written a page at a time: as many rows as one query gives well within a second.
FILE_PAGE_ROWS = 2_000
# Of one file: some 30 MB. Whoever has more names a time.
FILE_ROWS = 200_000
_ANSWER = {
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
FIELDS = tuple(_ANSWER)
_SESSION = {
    "session_id": "s_1k2",
    "quiz_id": "starter-a1",
    "title": "First words",
    "mode": "hosted",
    "started_at": "2026-03-02T17:55:00.000Z",
    "first_at": "2026-03-02T17:56:12.000Z",
    "last_at": "2026-03-02T17:59:41.204Z",
    "answered": 12,
    "right": 9,
    "points": 7810,
    "elapsed_ms": 41_300,
}
_CODES = {
    "s401": "unauthenticated",
    "s403": "forbidden",
    "s422": "invalid_field invalid_id wrong_start range_too_large",
    "s429": "too_many_requests",
    "s503": "system_missing",
}
Mode = Annotated[
    Literal["", "hosted", "challenge", "import"], Query(description="of sessions that were played this way")
]
From = Annotated[str, Query(alias="from", description="an instant, or a day: its midnight, UTC")]
To = Annotated[str, Query(description="exclusive; an instant, or a day")]
Caller = Annotated[Identity, Depends(require(*ROLES))]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS)]


def _own(identity: Identity, user_id: str) -> None:
    """Raises BadInput(forbidden, invalid_id)."""
    checked_id(user_id, "user_id")
    if identity.user_id != user_id and not identity.acting((IMPORTER,)):
        raise BadInput("forbidden", "a history is its user's own", status=403)


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    told = {**row, "occurred_at": iso_ms(row["occurred_at_us"])}
    return {name: told[name] for name in FIELDS}


def _session(row: dict[str, Any]) -> dict[str, Any]:
    told = {**row, **{name: iso_ms(row[f"{name}_us"]) for name in ("started_at", "first_at", "last_at")}}
    return {name: told[name] for name in _SESSION}


_REPLIES = documented({"user_id": "u_8Zt", "answers": [_ANSWER], "next": None}, **_CODES)  # type: ignore[arg-type]
_REPLIES[200]["content"][CSV] = {"example": f"{','.join(FIELDS)}\r\n"}


@router.get(
    "/users/{user_id}/history",
    summary="A user's answers, newest first",
    responses=_REPLIES,
    response_class=JSONResponse,
    dependencies=[Depends(UserLimit())],
)
async def history(
    user_id: str,
    request: Request,
    identity: Caller,
    quiz: Annotated[str, Query(description="of this quiz alone")] = "",
    session: Annotated[str, Query(description="of this session alone")] = "",
    mode: Mode = "",
    correct: Annotated[bool | None, Query(description="right ones, or wrong ones")] = None,
    from_: From = "",
    to: To = "",
    limit: Limit = 50,
    cursor: Annotated[str, Query(description="`next` of the page before")] = "",
    format: Annotated[Literal["json", "csv"], Query(description="csv: all that match, as a file")] = "json",
    file: Annotated[bool, Query(description="json: all that match, as a file")] = False,
) -> Response:
    """A page goes over Postgres and the archive with one cursor. As a file it has all answers, at most 200,000 of them.

    A cell of the CSV that a spreadsheet would take for a formula begins with an apostrophe.
    """
    _own(identity, user_id)
    filters = asked.filters_of(quiz, session, correct, from_, to)
    before = asked.decode_cursor(cursor) if cursor else None
    connections = request.app.state.connections
    if format == "csv" or file:
        # The first page before the first byte: an error is then still told as one.
        first = await pages.page_of(connections, user_id, before, FILE_PAGE_ROWS, filters, mode)
        rows = _all(connections, user_id, first, filters, mode)
        kind = f"{CSV}; charset=utf-8" if format == "csv" else "application/json"
        name = f"lakeboard-history-{user_id}.{format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        written = _as_csv(rows) if format == "csv" else _as_json(rows)
        return StreamingResponse(written, media_type=kind, headers=headers)
    found = await pages.page_of(connections, user_id, before, limit + 1, filters, mode)
    last = found[limit - 1] if len(found) > limit else None
    next_cursor = asked.encode_cursor(last["occurred_at_us"], last["event_id"]) if last else None
    answers = [_answer(row) for row in found[:limit]]
    return JSONResponse({"user_id": user_id, "answers": answers, "next": next_cursor})


async def _all(
    connections: Connections, user_id: str, first: list[dict[str, Any]], filters: AnswerFilters, mode: str
) -> AsyncIterator[list[dict[str, Any]]]:
    """Every page from the first on, until there is none or the file is full."""
    page, count = first, 0
    while page:
        yield [_answer(row) for row in page[: FILE_ROWS - count]]
        count += len(page)
        if len(page) < FILE_PAGE_ROWS or count >= FILE_ROWS:
            return
        before: Place = page[-1]["occurred_at_us"], page[-1]["event_id"]
        page = await pages.page_of(connections, user_id, before, FILE_PAGE_ROWS, filters, mode)


async def _as_csv(rows: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    yield csv_text(FIELDS, [], head=True)
    async for page in rows:
        yield csv_text(FIELDS, page)


async def _as_json(rows: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[str]:
    """One array, a line an answer."""
    before = "[\n"
    async for page in rows:
        for row in page:
            yield before + json.dumps(row, ensure_ascii=False)
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


@router.get(
    "/users/{user_id}/sessions",
    summary="A user's sessions, newest first, with what they got in each",
    responses=documented({"user_id": "u_8Zt", "sessions": [_SESSION], "next": None}, **_CODES),  # type: ignore[arg-type]
    dependencies=[Depends(UserLimit())],
)
async def sessions(
    user_id: str,
    request: Request,
    identity: Caller,
    quiz: Annotated[str, Query(description="of this quiz alone")] = "",
    mode: Mode = "",
    from_: From = "",
    to: To = "",
    limit: Limit = 50,
    cursor: Annotated[str, Query(description="`next` of the page before")] = "",
) -> dict[str, Any]:
    """`from` and `to` are of the sessions' starts. Each answer of one: `history?session=ID`."""
    _own(identity, user_id)
    filters = asked.filters_of(quiz, "", None, from_, to)
    before = asked.decode_session_cursor(cursor) if cursor else None
    found = await pages.sessions_of(request.app.state.connections, user_id, before, limit + 1, filters, mode)
    last = found[limit - 1] if len(found) > limit else None
    next_cursor = asked.encode_cursor(last["started_at_us"], last["session_id"]) if last else None
    return {"user_id": user_id, "sessions": [_session(row) for row in found[:limit]], "next": next_cursor}


@router.get(
    "/users/{user_id}/sessions/{session_id}",
    summary="One session of a user: each answer, with its question",
    responses=documented(
        {
            "user_id": "u_8Zt",
            "session": _SESSION,
            "answers": [{**_ANSWER, "prompt": "a round fruit that grows on trees"}],
        },
        s404="unknown_session",
        **_CODES,  # type: ignore[arg-type]
    ),
    dependencies=[Depends(UserLimit())],
)
async def session(user_id: str, session_id: str, request: Request, identity: Caller) -> dict[str, Any]:
    """The earliest first. Right answers are not told here: others may still be playing."""
    _own(identity, user_id)
    checked_id(session_id, "session_id")
    found, rows = await pages.session_of(request.app.state.connections, user_id, session_id)
    answers = [{**_answer(row), "prompt": row["prompt"]} for row in rows]
    return {"user_id": user_id, "session": _session(found), "answers": answers}
