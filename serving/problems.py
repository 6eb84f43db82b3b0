"""One error shape for every route: RFC 9457 problem details, 404, 405, 422 and 500 included; and the body limit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import psycopg.errors
import redis.exceptions
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import BadInput, LakeboardError, SystemMissing, problem
from serving.access.limits import headers_of
from serving.boards.acknowledged import refusal_of
from serving.documented import MEDIA_TYPE
from serving.metrics import REFUSALS

LOG = logging.getLogger(__name__)
# A play message is below 1 KiB; an import request holds a few thousand lines. Higher lets one client fill the memory.
BODY_LIMIT_BYTES = 64 * 1024
IMPORT_LIMIT_BYTES = 8 * 1024 * 1024
# Two hundred questions with everything in them; a pasted list of some thousand words.
QUIZ_LIMIT_BYTES = 1024 * 1024
# A photograph as a phone sends it, a minute of speech.
MEDIA_LIMIT_BYTES = 5 * 1024 * 1024
# What the path begins with → most bytes of a body; the first that fits holds.
LIMITS_BYTES = (
    ("/v1/import/", IMPORT_LIMIT_BYTES),
    ("/v1/me/avatar", IMPORT_LIMIT_BYTES),
    ("/v1/quizzes", QUIZ_LIMIT_BYTES),
    ("/v1/media", MEDIA_LIMIT_BYTES),
)
_HTTP_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    429: "too_many_requests",
}
_FIELD_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
    "json_invalid": "malformed_body",
}


def reply(error: LakeboardError, path: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The HTTP reply of an error; counted by its code."""
    REFUSALS.labels(error.code).inc()
    return JSONResponse(problem(error, instance=path), error.http_status, headers, media_type=MEDIA_TYPE)


def of_validation(errors: Sequence[Any]) -> BadInput:
    """The first thing wrong with a request: unknown_field, missing_field, malformed_body or invalid_field."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    code = _FIELD_CODES.get(first["type"], "invalid_field")
    return BadInput(code, f"{where}: {first['msg']}"[:300], status=400 if code == "malformed_body" else 422)


def of_error(path: str, error: LakeboardError) -> JSONResponse:
    """The reply of a request that ended with one of ours."""
    if error.http_status >= 500:
        LOG.warning("request_failed path=%s code=%s detail=%s", path, error.code, error.detail)
    return reply(error, path, headers_of(error))


async def _lakeboard(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LakeboardError)
    return of_error(request.url.path, error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers) if error.headers else None
    return reply(LakeboardError(code, detail, status=error.status_code), request.url.path, headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return reply(of_validation(error.errors()), request.url.path)


def of_valkey(path: str, error: Exception) -> JSONResponse:
    """The reply where a shard does not answer, or does not take what it is asked."""
    missing = SystemMissing("system_missing", "Valkey does not answer", next_step="see ./lakeboard status")
    LOG.warning("valkey_missing path=%s error=%s", path, error)
    return reply(refusal_of(error) or missing, path)


async def _valkey(request: Request, error: Exception) -> JSONResponse:
    return of_valkey(request.url.path, error)


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    """A shard that may not write: at its memory limit, disk full, no replica. Any other reply of it is a fault of ours."""
    refusal = refusal_of(error)
    if refusal is None:
        return await _unexpected(request, error)
    return await _lakeboard(request, refusal)


async def _no_tables(request: Request, error: Exception) -> JSONResponse:
    """A stack in its first seconds, or one that is newer than its database: the migrations are at it, or have failed."""
    LOG.error("tables_missing path=%s", request.url.path, exc_info=error)
    missing = SystemMissing("system_missing", "Postgres has not all tables yet", next_step="try again")
    return reply(missing, request.url.path)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    LOG.error("request_crashed path=%s", request.url.path, exc_info=error)
    return reply(LakeboardError("internal", "the request failed; the log has the cause"), request.url.path)


def install(app: FastAPI) -> None:
    """Registers the one shape for every kind of error."""
    app.add_exception_handler(LakeboardError, _lakeboard)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(redis.exceptions.ConnectionError, _valkey)
    app.add_exception_handler(redis.exceptions.TimeoutError, _valkey)
    app.add_exception_handler(redis.exceptions.ResponseError, _refusal)
    app.add_exception_handler(psycopg.errors.UndefinedTable, _no_tables)
    app.add_exception_handler(psycopg.errors.UndefinedColumn, _no_tables)
    app.add_exception_handler(Exception, _unexpected)


class BodyLimit:
    """Refuses a body above the limit with 413: at once if its length is announced, else when the limit is passed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        limit = next((most for start, most in LIMITS_BYTES if path.startswith(start)), BODY_LIMIT_BYTES)
        error = BadInput("body_too_large", f"the body of {path} may have {limit} bytes", status=413)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await reply(error, path, {"Connection": "close"})(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, error.detail)
            return message

        await self.app(scope, limited, send)
