"""GET /v1/users/{id} before the framework: the profile that games and boards ask for most, from the cache.

The same reply to the byte as the route's, which takes over whenever it is anything else: no such user, any error.
"""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.replies import Shown
from serving.metrics import LEAN_READS

LOG = logging.getLogger(__name__)
PATH = re.compile(r"/v1/users/([A-Za-z0-9_-]{1,64})")
ROUTE = SimpleNamespace(path="/v1/users/{user_id}")
# A change shows at once: whoever keeps a copy asks again.
CACHE_CONTROL = b"no-cache"


def body_of(user_id: str, shown: Shown) -> bytes:
    """The reply's bytes."""
    return msgspec.json.encode({"user_id": user_id, "name": shown.name, "avatar_url": shown.avatar_url})


class LeanProfiles:
    """A layer of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/v1/users/"):
            body = await self._body(scope)
            if body is not None:
                scope["route"] = ROUTE
                LEAN_READS.inc()
                headers = [
                    (b"content-length", str(len(body)).encode()),
                    (b"content-type", b"application/json"),
                    (b"cache-control", CACHE_CONTROL),
                ]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self.app(scope, receive, send)

    async def _body(self, scope: Scope) -> bytes | None:
        path = PATH.fullmatch(scope["path"])
        connections = getattr(scope["app"].state, "connections", None) if path else None
        if path is None or connections is None:
            return None
        try:
            found = await connections.profiles.of([path[1]])
        except Exception as error:
            LOG.warning("lean_profile_failed error=%r", error)
            return None
        kept = found.get(path[1])
        return None if kept is None else body_of(path[1], connections.profiles.public(kept))
