"""Reads by id that are asked for most, from the cache, before the framework: it costs several times what the read does.

The same reply to the byte as the route's, which takes over where there is anything that this does not know.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any, ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.errors import LakeboardError
from serving.metrics import LEAN_READS
from serving.problems import of_error

LOG = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A change shows at once: whoever keeps a copy asks again.
CACHE_CONTROL = "no-cache"


class LeanReads(ABC):
    """A layer of the application. BEFORE: the path up to the id. ROUTE: what the metrics count it under."""

    BEFORE: ClassVar[str]
    ROUTE: ClassVar[SimpleNamespace]

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    @abstractmethod
    async def body_of(self, connections: Any, ident: str, scope: Scope) -> bytes | None:
        """The reply's bytes; None where the route must say it. Raises what the route would answer with."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(self.BEFORE):
            try:
                body = await self._body(scope)
            except LakeboardError as error:
                # The route would only ask the same again.
                scope["route"] = self.ROUTE
                await of_error(scope["path"], error)(scope, receive, send)
                return
            if body is not None:
                scope["route"] = self.ROUTE
                LEAN_READS.inc()
                headers = [
                    (b"content-length", str(len(body)).encode()),
                    (b"content-type", b"application/json"),
                    (b"cache-control", CACHE_CONTROL.encode()),
                ]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self.app(scope, receive, send)

    async def _body(self, scope: Scope) -> bytes | None:
        ident = _ID.fullmatch(scope["path"], len(self.BEFORE))
        connections = getattr(scope["app"].state, "connections", None) if ident else None
        if ident is None or connections is None:
            return None
        try:
            return await self.body_of(connections, ident[0], scope)
        except LakeboardError:
            raise
        except Exception as error:
            LOG.warning("lean_failed path=%s error=%r", scope["path"], error)
            return None
