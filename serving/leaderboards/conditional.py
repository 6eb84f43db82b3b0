"""A board's bytes, and replies with an ETag: a caller who has the very bytes is told so with 304."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from starlette.responses import Response

# The caller may keep a reply but asks each time: a settlement or an answer may have changed it.
CACHE_CONTROL = "private, no-cache"
_ENCODER = msgspec.json.Encoder()


def body_of(document: Any) -> bytes:
    """A reply's JSON; document: a dict, or a dataclass of contracts/replies."""
    return _ENCODER.encode(document)


def tag_of(body: bytes) -> str:
    """The ETag of a reply's bytes: a digest of them (RFC 9110, 8.8.3)."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def reply_to(if_none_match: str, document: dict[str, Any]) -> Response:
    """The document, or 304 without one where the caller names its ETag."""
    body = body_of(document)
    tag = tag_of(body)
    headers = {"ETag": tag, "Cache-Control": CACHE_CONTROL}
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
