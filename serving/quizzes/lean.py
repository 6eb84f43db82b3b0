"""GET /v1/quizzes/{id} before the framework, for guests and for who has an account, from the cache."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from serving.lean import LeanReads
from serving.quizzes import library
from serving.quizzes.viewers import viewer_of


class LeanQuizzes(LeanReads):
    """A layer of the application."""

    BEFORE = "/v1/quizzes/"
    ROUTE = SimpleNamespace(path="/v1/quizzes/{quiz_id}")

    async def body_of(self, connections: Any, ident: str, scope: Scope) -> bytes | None:
        return await library.show(connections, ident, await viewer_of(HTTPConnection(scope)))
