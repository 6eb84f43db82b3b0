"""Uploading a picture or a recording for a question; `/media/…` gives it out, as it does all media."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from serving.access.limits import UserLimit
from serving.documented import documented
from serving.quizzes.author_routes import Author
from serving.quizzes.media import FOLDER, kind_of

router = APIRouter(prefix="/v1", tags=["quizzes"])
_FILE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": _FILE}}}


@router.post(
    "/media",
    status_code=201,
    summary="Upload a picture or a recording for my questions",
    openapi_extra=_BODY,
    responses=documented(
        {"kind": "picture", "url": f"/media/{FOLDER}/{'0' * 40}.png"},
        status=201,
        s401="unauthenticated",
        s403="forbidden account_needed",
        s413="body_too_large",
        s415="unsupported_media",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=[Depends(UserLimit())],
)
async def upload(request: Request, author: Author) -> dict[str, Any]:
    """The body is the file. It goes into a question's `media` with `kind` and `url`; the same bytes have the same address."""
    content = await request.body()
    kind = kind_of(content)
    return {
        "kind": kind.kind,
        "url": f"/media/{await request.app.state.media.put(FOLDER, content, kind.suffix)}",
    }
