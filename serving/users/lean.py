"""GET /v1/users/{id} before the framework: the profile that games and boards ask for most, from the cache."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from starlette.types import Scope

from contracts.replies import Shown
from serving.lean import LeanReads


def body_of(user_id: str, shown: Shown) -> bytes:
    """The reply's bytes."""
    return msgspec.json.encode({"user_id": user_id, "name": shown.name, "avatar_url": shown.avatar_url})


class LeanProfiles(LeanReads):
    """A layer of the application."""

    BEFORE = "/v1/users/"
    ROUTE = SimpleNamespace(path="/v1/users/{user_id}")

    async def body_of(self, connections: Any, ident: str, scope: Scope) -> bytes | None:
        kept = await connections.profiles.one(ident)
        return None if kept is None else body_of(ident, connections.profiles.public(kept))
