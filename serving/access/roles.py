"""What a route asks of its caller, as a dependency; and the table route × role read back from the code.

    require(HOST, PLAYER)        any caller with one of the roles: a seat in a session, an account, a key
    require_account(HOST)        somebody with an account, or a key of theirs; never a guest, never the deployment's key
    require_person(ADMIN)        somebody who has logged in; no key

A route of a session asks `require` and then that the seat is this session's. Whatever outlives a session and belongs to
somebody asks `require_account`: anybody can get a guest's seat, also one that hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from contracts.errors import BadInput
from serving.access.tokens import (
    ACCESS,
    DEPLOYMENT,
    IMPORTER,
    KEY,
    SEAT,
    Identity,
    read,
    same_key,
    unauthenticated,
)

ANYONE = "anyone"
_SUFFIX = {(ACCESS, KEY): " (account)", (ACCESS,): " (person)"}


class RoleDependency:
    """A FastAPI dependency that lets the named roles of the named kinds pass; both are what the table shows."""

    def __init__(self, *roles: str, kinds: tuple[str, ...] = (SEAT, ACCESS, KEY, DEPLOYMENT)) -> None:
        self.roles = roles
        self.kinds = kinds

    async def __call__(self, connection: HTTPConnection) -> Identity:
        identity = await identify(connection)
        if identity.kind not in self.kinds:
            raise BadInput(
                "account_needed",
                "this is for somebody who has logged in",
                status=403,
                next_step="log in, or make an account",
            )
        acting = identity.acting(self.roles)
        if acting is None:
            raise BadInput(
                "forbidden",
                f"role {', '.join(identity.roles) or identity.role} may not do this; it takes {', '.join(self.roles)}",
                status=403,
            )
        return acting


async def identify(connection: HTTPConnection) -> Identity:
    """The caller of a request or socket. Raises BadInput(unauthenticated), and SystemMissing where only Postgres can say."""
    state = connection.app.state
    api_key = connection.headers.get("x-api-key")
    if api_key is not None:
        if same_key(api_key, state.connections.secret("importer_key")):
            return Identity(user_id="importer", role=IMPORTER, kind=DEPLOYMENT)
        return await state.keys.identity(api_key)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated(
            "no token: send `Authorization: Bearer …` or `X-API-Key`", "log in, or join a session"
        )
    identity = read(token, state.jwt_key)
    return await state.logins.confirmed(identity) if identity.kind == ACCESS else identity


async def account_of(connection: HTTPConnection) -> Identity | None:
    """Whose account a request comes with, on a route that takes guests too; None for a guest.

    Raises BadInput(unauthenticated) for a token that is not valid: nobody becomes a guest by an expired one.
    """
    if not {"authorization", "x-api-key"} & set(connection.headers.keys()):
        return None
    identity = await identify(connection)
    return identity if identity.has_account else None


def require(*roles: str) -> RoleDependency:
    """The dependency of a route that only these roles may use."""
    return RoleDependency(*roles)


def require_account(*roles: str) -> RoleDependency:
    """The same for accounts and their keys alone."""
    return RoleDependency(*roles, kinds=(ACCESS, KEY))


def require_person(*roles: str) -> RoleDependency:
    """The same for somebody who has logged in: what changes an account is never done by a key."""
    return RoleDependency(*roles, kinds=(ACCESS,))


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
        suffix = next(
            (text for kinds, text in _SUFFIX.items() if any(call.kinds == kinds for call in calls)), ""
        )
        for method in sorted(getattr(route, "methods", None) or {"SOCKET"}):
            rows.append((method, route.path, roles + suffix))
    return sorted(rows, key=lambda row: (row[1], row[0]))
