"""What a route asks of its caller, as a dependency; and the table route × role read back from the code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from contracts.errors import BadInput
from serving.access.tokens import IMPORTER, Identity, read, same_key, unauthenticated

ANYONE = "anyone"


class RoleDependency:
    """A FastAPI dependency that lets the named roles pass; `roles` is what the table shows."""

    def __init__(self, *roles: str) -> None:
        self.roles = roles

    async def __call__(self, connection: HTTPConnection) -> Identity:
        identity = identify(connection)
        if identity.role not in self.roles:
            raise BadInput(
                "forbidden",
                f"role {identity.role} may not do this; it takes {', '.join(self.roles)}",
                status=403,
            )
        return identity


def identify(connection: HTTPConnection) -> Identity:
    """The caller of a request or socket. Raises BadInput(unauthenticated)."""
    connections = connection.app.state.connections
    api_key = connection.headers.get("x-api-key")
    if api_key is not None:
        if not same_key(api_key, connections.secret("importer_key")):
            raise unauthenticated("the API key is not valid")
        return Identity(user_id="importer", role=IMPORTER)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("no token: send `Authorization: Bearer …` or `X-API-Key`")
    return read(token, connection.app.state.jwt_key)


def require(*roles: str) -> Callable[[HTTPConnection], Awaitable[Identity]]:
    """The dependency of a route that only these roles may use."""
    return RoleDependency(*roles)


def _dependencies(dependant: Any) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _dependencies(inner)


def _routes(routes: Any) -> Iterator[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _routes(inner.routes)
        elif hasattr(route, "dependant"):
            yield route


def table(app: FastAPI) -> list[tuple[str, str, str]]:
    """(method, path, roles) of every route, sorted; `anyone` where no role is asked for. Generated from the code."""
    rows = []
    for route in _routes(app.routes):
        calls = [call for call in _dependencies(route.dependant) if isinstance(call, RoleDependency)]
        roles = ", ".join(sorted({role for call in calls for role in call.roles})) or ANYONE
        for method in sorted(getattr(route, "methods", None) or {"SOCKET"}):
            rows.append((method, route.path, roles))
    return sorted(rows, key=lambda row: (row[1], row[0]))
