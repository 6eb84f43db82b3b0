"""Replies with an ETag: a caller who has the very bytes is told so with 304."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi.responses import JSONResponse
from starlette.responses import Response

# The caller may keep a reply but asks each time: a settlement or an answer may have changed it.
_CACHE_CONTROL = "private, no-cache"


def reply_to(if_none_match: str, document: dict[str, Any]) -> Response:
    """The document, or 304 without one where the caller names its ETag (a digest of the bytes: RFC 9110, 8.8.3)."""
    full = JSONResponse(document)
    tag = f'"{hashlib.sha256(full.body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": _CACHE_CONTROL}
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    full.headers.update(headers)
    return full
