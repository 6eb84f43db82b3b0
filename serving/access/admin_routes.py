"""What admins do: accounts, keys, address lists; and what they look at: the audit log and the stack's health.

All of it takes a log-in with the role admin, asked for anew each few seconds; what changes something is in the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from serving.access import accounts, audit
from serving.access.accounts import TICKET_LIFE_H, NewAccount, checked_login_name, checked_roles
from serving.access.addresses import MOST_RULES, Addresses, network_from, rules_of
from serving.access.keys import listed, told
from serving.access.roles import require, require_person
from serving.access.stack_health import health_of
from serving.access.tokens import ADMIN, IMPORTER, Identity
from serving.documented import Responses, documented
from serving.ending import end_tasks
from serving.users.display_names import NAME_LENGTH, clean_name

router = APIRouter(tags=["admin"])
Admin = Annotated[Identity, Depends(require_person(ADMIN))]
_Roles = Annotated[list[Literal["player", "host", "analyst", "importer", "admin"]], Field(max_length=5)]
_ACCOUNT = {
    "user_id": "u_8Zt",
    "login_name": "ada",
    "name": "Ada",
    "roles": ["player", "host"],
    "created_at": "2026-03-02T17:59:41.204Z",
    "used_at": "2026-03-03T08:00:00.000Z",
    "blocked_at": None,
    "has_password": True,
}
_RULE = {
    "network": "203.0.113.0/24",
    "verdict": "deny",
    "note": "scans",
    "created_at": "2026-03-02T17:59:41.204Z",
    "created_by": "u_8Zt",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AddAccount(_Body):
    """An account of somebody who sets the password with the ticket."""

    login_name: Annotated[str, Field(min_length=1, max_length=254)]
    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    roles: _Roles = []
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"login_name": "ada", "name": "Ada", "roles": ["host"]}]},
    )


class Roles(_Body):
    roles: _Roles
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"roles": ["player", "analyst"]}]}
    )


class Rule(_Body):
    """What becomes of a network, and why."""

    network: Annotated[str, Field(min_length=2, max_length=60)]
    verdict: Literal["allow", "deny"]
    note: Annotated[str, Field(max_length=200)] = ""
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"network": "203.0.113.0/24", "verdict": "deny", "note": "scans"}]},
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keeps the address lists as they are in Postgres."""
    app.state.addresses = Addresses(app.state.connections)
    task = asyncio.create_task(app.state.addresses.keep_reading())
    yield
    await end_tasks([task])


def _documented(example: dict[str, Any], status: int = 200, **codes: str) -> Responses:
    """What every admin's route may also answer."""
    common = {"s401": "unauthenticated", "s403": "account_needed forbidden", "s503": "system_missing"}
    return documented(example, status=status, **{**common, **codes})


@router.get(
    "/v1/admin/users",
    summary="Accounts, by log-in name",
    responses=_documented({"users": [_ACCOUNT], "next": None}, s422="invalid_field"),
)
async def users(
    request: Request,
    identity: Admin,
    part: Annotated[str, Query(max_length=100, description="in the log-in name or the name")] = "",
    after: Annotated[str, Query(max_length=254, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    if "\x00" in part + after:
        raise BadInput("invalid_field", "part, after: a character that no name has")
    async with request.app.state.connections.sql() as sql:
        found = await accounts.page_of(sql, part, after, limit + 1)
    return {"users": found[:limit], "next": found[limit - 1]["login_name"] if len(found) > limit else None}


@router.post(
    "/v1/admin/users",
    status_code=201,
    summary="Make an account; its owner sets the password with the ticket",
    responses=_documented(
        {"user_id": "u_8Zt", "ticket": "2fTq…", "ticket_hours": TICKET_LIFE_H},
        201,
        s400="malformed_body",
        s409="login_name_taken",
        s422="unknown_field missing_field invalid_field",
    ),
)
async def add(body: AddAccount, request: Request, response: Response, identity: Admin) -> dict[str, Any]:
    wanted = NewAccount(
        checked_login_name(body.login_name), "", clean_name(body.name), checked_roles(body.roles)
    )
    user_id, ticket = await request.app.state.accounts.add(identity.user_id, wanted)
    response.headers["Cache-Control"] = "no-store"
    return {"user_id": user_id, "ticket": ticket, "ticket_hours": TICKET_LIFE_H}


@router.put(
    "/v1/admin/users/{user_id}/roles",
    summary="Give an account its roles",
    responses=_documented(
        _ACCOUNT,
        s400="malformed_body",
        s404="unknown_user",
        s409="last_admin",
        s422="unknown_field missing_field invalid_field",
    ),
)
async def set_roles(user_id: str, body: Roles, request: Request, identity: Admin) -> dict[str, Any]:
    """They count from the next request, on other processes within 5 s."""
    state = request.app.state
    found: dict[str, Any] = await state.accounts.set_roles(
        identity.user_id, _plain(user_id), checked_roles(body.roles)
    )
    state.logins.forget()
    state.keys.forget()
    return found


async def _block(request: Request, identity: Identity, user_id: str, blocked: bool) -> dict[str, Any]:
    state = request.app.state
    found: dict[str, Any] = await state.accounts.set_blocked(identity.user_id, _plain(user_id), blocked)
    state.logins.forget()
    state.keys.forget()
    return found


@router.post(
    "/v1/admin/users/{user_id}/block",
    summary="Block an account",
    responses=_documented(
        {**_ACCOUNT, "blocked_at": "2026-03-03T08:00:00.000Z"}, s404="unknown_user", s409="last_admin"
    ),
)
async def block(user_id: str, request: Request, identity: Admin) -> dict[str, Any]:
    """Ends its log-ins and refuses its keys; games that it plays go on."""
    return await _block(request, identity, user_id, True)


@router.post(
    "/v1/admin/users/{user_id}/unblock",
    summary="Let a blocked account in again",
    responses=_documented(_ACCOUNT, s404="unknown_user"),
)
async def unblock(user_id: str, request: Request, identity: Admin) -> dict[str, Any]:
    return await _block(request, identity, user_id, False)


@router.post(
    "/v1/admin/users/{user_id}/ticket",
    summary="A ticket with which an account's owner sets a new password",
    responses=_documented({"ticket": "2fTq…", "ticket_hours": TICKET_LIFE_H}, s404="unknown_user"),
)
async def ticket(user_id: str, request: Request, response: Response, identity: Admin) -> dict[str, Any]:
    """Earlier tickets of the account end. Nobody learns the password but who sets it."""
    found = await request.app.state.accounts.ticket_for(identity.user_id, _plain(user_id))
    response.headers["Cache-Control"] = "no-store"
    return {"ticket": found, "ticket_hours": TICKET_LIFE_H}


_KEY = {
    "key_id": "5f2c11aa03de9b17",
    "user_id": "u_8Zt",
    "name": "nightly import",
    "scopes": ["importer"],
    "created_at": "2026-03-02T17:59:41.204Z",
    "expires_at": None,
    "ended_at": None,
    "used_at": "2026-03-03T08:00:00.000Z",
}


@router.get("/v1/admin/keys", summary="Keys of all accounts", responses=_documented({"keys": [_KEY]}))
async def all_keys(request: Request, identity: Admin) -> dict[str, Any]:
    """The newest 200; nobody sees a key's secret again."""
    async with request.app.state.connections.sql() as sql:
        return {"keys": await listed(sql)}


@router.delete(
    "/v1/admin/keys/{key_id}",
    summary="End anybody's key",
    responses=_documented({**_KEY, "ended_at": "2026-03-03T08:00:00.000Z"}, s404="unknown_key"),
)
async def end_key(key_id: str, request: Request, identity: Admin) -> dict[str, Any]:
    state = request.app.state
    async with state.connections.sql() as sql, sql.transaction():
        found: dict[str, Any] = await state.keys.end(sql, _plain(key_id))
        await audit.note(sql, identity.user_id, "key.end", found["key_id"], owner=found["user_id"])
    state.keys.forget()
    return found


@router.get(
    "/v1/admin/addresses",
    summary="Address lists",
    responses=_documented({"settings": ["192.0.2.0/24"], "rules": [_RULE]}),
)
async def addresses(request: Request, identity: Admin) -> dict[str, Any]:
    """`settings`: networks that the deployment's settings allow; `rules`: those of admins."""
    state = request.app.state
    async with state.connections.sql() as sql:
        rules = await rules_of(sql)
    return {
        "settings": list(state.connections.settings.allowed_networks),
        "rules": [told(rule) for rule in rules],
    }


@router.put(
    "/v1/admin/addresses",
    summary="Allow or deny a network",
    responses=_documented(
        _RULE,
        s400="malformed_body",
        s409="would_lock_out too_many_rules",
        s422="unknown_field missing_field invalid_field",
    ),
)
async def put_rule(body: Rule, request: Request, identity: Admin) -> dict[str, Any]:
    """A rule that would shut out whoever makes it is refused. This machine itself always comes in."""
    network = network_from(body.network)
    async with request.app.state.connections.sql() as sql, sql.transaction():
        found = await sql.execute(
            "insert into address_rules (network, verdict, note, created_by) values (%s, %s, %s, %s) "
            "on conflict (network) do update set verdict = excluded.verdict, note = excluded.note, "
            "created_at = now(), created_by = excluded.created_by returning network",
            [network, body.verdict, body.note.replace("\x00", ""), identity.user_id],
        )
        await found.fetchone()
        await audit.note(sql, identity.user_id, "addresses.put", network, verdict=body.verdict)
        rules = await _still_in(request, sql)
    request.app.state.addresses.take(rules)
    return told(next(rule for rule in rules if rule["network"] == network))


@router.delete(
    "/v1/admin/addresses",
    summary="Take a rule away",
    responses=_documented(
        {"network": "203.0.113.0/24"}, s404="unknown_network", s409="would_lock_out", s422="invalid_field"
    ),
)
async def end_rule(
    network: Annotated[str, Query(min_length=2, max_length=60)], request: Request, identity: Admin
) -> dict[str, Any]:
    text = network_from(network)
    async with request.app.state.connections.sql() as sql, sql.transaction():
        ended = await sql.execute("delete from address_rules where network = %s", [text])
        if ended.rowcount == 0:
            raise BadInput("unknown_network", f"there is no rule for {text}", status=404)
        await audit.note(sql, identity.user_id, "addresses.end", text)
        rules = await _still_in(request, sql)
    request.app.state.addresses.take(rules)
    return {"network": text}


async def _still_in(request: Request, sql: Any) -> list[dict[str, Any]]:
    """The rules as the transaction leaves them. Raises BadInput, so that it is undone."""
    rules = await rules_of(sql)
    if len(rules) > MOST_RULES:
        raise BadInput("too_many_rules", f"there may be {MOST_RULES} rules", status=409)
    caller = request.client.host if request.client else ""
    if not request.app.state.addresses.with_rules(rules).allows(caller):
        raise BadInput("would_lock_out", f"your own address {caller} would be refused", status=409)
    return rules


@router.get(
    "/internal/addresses",
    summary="Address lists, for the gateway",
    responses=documented(
        {"allowed": ["192.0.2.0/24"], "denied": ["203.0.113.0/24"]}, s401="unauthenticated", s403="forbidden"
    ),
    dependencies=[Depends(require(IMPORTER))],
)
async def lists(request: Request) -> dict[str, Any]:
    """As this process uses them; at most 5 s old."""
    found = request.app.state.addresses.lists
    return {"allowed": list(found.allowed), "denied": list(found.denied)}


@router.get(
    "/v1/admin/audit",
    summary="What admins did",
    responses=_documented(
        {
            "entries": [
                {
                    "id": 41,
                    "at": "2026-03-03T08:00:00.000Z",
                    "actor": "u_8Zt",
                    "action": "account.roles",
                    "subject": "u_k2P",
                    "detail": {"before": ["player"], "after": ["player", "host"]},
                }
            ],
            "next": None,
        },
        s422="invalid_field",
    ),
)
async def audit_log(
    request: Request,
    identity: Admin,
    before: Annotated[int, Query(ge=0, le=2**62, description="`next` of the page before; 0: the newest")] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """The newest first. Rows are only ever added."""
    async with request.app.state.connections.sql() as sql:
        found = await audit.newest(sql, before, limit + 1)
    return {"entries": found[:limit], "next": found[limit - 1]["id"] if len(found) > limit else None}


@router.get(
    "/v1/admin/health",
    summary="What of the stack is there",
    responses=_documented(
        {
            "shards": [{"shard": 0, "up": True, "clock_offset_ms": 0.2, "relay_lag_s": {"history": 0.1}}],
            "postgres": {"up": True, "accounts": 128, "sessions_open": 4},
            "handlers": [{"name": "api-8101", "sockets": 214, "draining": False}],
            "addresses": {"allowed": 0, "denied": 1},
        }
    ),
)
async def health(request: Request, identity: Admin) -> dict[str, Any]:
    """What this process sees of shards, Postgres and the handlers."""
    return await health_of(request.app.state)


def _plain(text: str) -> str:
    """An id as Postgres takes it: without NUL, which no id has."""
    return text.replace("\x00", "")
