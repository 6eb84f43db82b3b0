"""Routes of the record: import, barriers, and the instant from which Redis keeps boards. Importer role only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from serving.access.roles import require
from serving.access.tokens import IMPORTER
from serving.boards.shards import Shards
from serving.documented import documented
from serving.history import archive
from serving.play.barriers import DAYS_MAX, write_barriers
from serving.play.boards_since import move_back
from serving.play.importing import Importer, clock_us
from serving.play.record import AnswerBatcher

router = APIRouter(tags=["record"], dependencies=[Depends(require(IMPORTER))])


class Barriers(BaseModel):
    """The days of a zone that have ended."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"zone": "UTC", "days": ["2026-03-02"]}]}
    )
    zone: str = "UTC"
    days: list[date] = Field(max_length=DAYS_MAX)


class KeepBoards(BaseModel):
    """Move `boards_since` back to this instant (UTC µs), never forward."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"since_us": 1769904000000000}]}
    )
    since_us: int = Field(ge=0)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One importer a process, on the batcher that play uses; where there is none, one of its own."""
    connections = app.state.connections
    own: AnswerBatcher | None = None
    batcher = getattr(app.state, "batcher", None)
    if batcher is None:
        shards = getattr(connections, "shards", None) or Shards(connections.settings.shards)
        batcher = own = AnswerBatcher(shards)
        own.start()
    app.state.importer = Importer(
        batcher.shards, batcher, connections.sql, archived=partial(archive.repeats, connections)
    )
    yield
    if own is not None:
        await own.stop()


_LINE = (
    '{"occurred_at_us":1772474381204000,"user_id":"k013","session_id":"k013_1","quiz_id":"part-1",'
    '"question_id":"q17","correct":true,"elapsed_ms":3120}'
)
_IMPORTED = {
    "counted": 1,
    "repeated": 0,
    "refused": 1,
    "lines": [
        {"line": 1, "status": "counted", "points": 974, "seq": 41},
        {"line": 2, "status": "refused", "code": "malformed_line", "detail": "not one JSON object"},
    ],
}
_BARRIER = {"barriers": [{"day": "2026-03-02", "shard": 0, "seq": 42, "status": "written"}]}


@router.post(
    "/v1/import/answers",
    summary="Import answers, one JSON object a line",
    response_class=Response,
    responses=documented(
        _IMPORTED,
        s401="unauthenticated",
        s403="forbidden",
        s413="body_too_large",
        s503="system_missing overloaded outbox_full memory_full disk_full",
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-ndjson": {"schema": {"type": "string"}, "example": _LINE}},
        }
    },
)
async def import_answers(request: Request) -> Response:
    """Outcome by line: counted, repeat, or refused with a code. Sending the same body again is harmless."""
    reply = await request.app.state.importer.import_body(await request.body())
    return Response(msgspec.json.encode(reply), media_type="application/json")


@router.post(
    "/internal/barriers",
    summary="Write the barriers of ended days",
    responses=documented(
        _BARRIER,
        s401="unauthenticated",
        s403="forbidden",
        s422="period_not_ended unknown_zone wrong_start invalid_field",
        s503="system_missing memory_full disk_full",
    ),
)
async def barriers(request: Request, body: Barriers) -> dict[str, Any]:
    """A row a (day, shard): its seq, and `written` or `there`."""
    importer: Importer = request.app.state.importer
    return {"barriers": await write_barriers(importer.shards, body.zone, body.days, clock_us())}


@router.post(
    "/v1/import/boards_since",
    summary="Keep older boards in Redis",
    responses=documented(
        {"boards_since_us": 1769904000000000},
        s401="unauthenticated",
        s403="forbidden",
        s409="check_failed",
        s422="invalid_field",
        s503="system_missing",
    ),
)
async def keep_boards(request: Request, body: KeepBoards) -> dict[str, Any]:
    """The instant in force. Refused with `check_failed` (409) if the record has answers that the boards would lack."""
    importer: Importer = request.app.state.importer
    async with importer.sql() as sql:
        return {"boards_since_us": await move_back(sql, body.since_us, importer.history_has_all)}
