"""Signing up, logging in and out, passwords; and the keys of one's own programs.

A reply has the access token (`Authorization: Bearer …`), which the page keeps in memory; the cookie has the refresh
token. Whatever was logged in by the cookie before ends with a new log-in: nobody goes on in a log-in that was there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput, LakeboardError
from serving.access import cookies
from serving.access.accounts import Accounts, NewAccount, checked_login_name, checked_roles
from serving.access.keys import KEY_LIFE_MOST_DAYS, SCOPES, Keys, listed
from serving.access.limits import LOGINS, SIGN_UPS, AddressLimit
from serving.access.logins import Logins, Renewed
from serving.access.passwords import Passwords
from serving.access.roles import identify, require_account, require_person
from serving.access.tokens import ACCESS_LIFE_S, ROLES, SEAT, Identity, sign, unauthenticated
from serving.documented import Responses, documented
from serving.users.display_names import NAME_LENGTH, clean_name

router = APIRouter(prefix="/v1", tags=["accounts"])
Person = Annotated[Identity, Depends(require_person(*ROLES))]
# Longer than a password may be, so that the refusal is ours; far shorter than what would take time to hash.
_PASSWORD = Field(min_length=1, max_length=512)
_LOGIN_NAME = Field(min_length=1, max_length=254)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignUp(_Body):
    """The name to log in with, a password, and the name that others see."""

    login_name: Annotated[str, _LOGIN_NAME]
    password: Annotated[str, _PASSWORD]
    name: Annotated[str, Field(min_length=1, max_length=NAME_LENGTH)]
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"login_name": "ada", "password": "rope tin lake", "name": "Ada"}]},
    )


class LogIn(_Body):
    login_name: Annotated[str, _LOGIN_NAME]
    password: Annotated[str, _PASSWORD]
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"login_name": "ada", "password": "rope tin lake"}]}
    )


class NewPassword(_Body):
    old: Annotated[str, _PASSWORD]
    new: Annotated[str, _PASSWORD]
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"old": "rope tin lake", "new": "seven quiet geese"}]}
    )


class Redeemed(_Body):
    """A ticket as it was handed out, and the password that its account gets."""

    ticket: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, _PASSWORD]
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"ticket": "2fTq…", "password": "seven quiet geese"}]},
    )


class NewKey(_Body):
    """What the key is for, what it may do, and for how many days."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    scopes: Annotated[
        list[Literal["player", "host", "analyst", "importer"]], Field(min_length=1, max_length=4)
    ]
    days: Annotated[int, Field(ge=1, le=KEY_LIFE_MOST_DAYS)] | None = None
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "nightly import", "scopes": ["importer"], "days": 90}]},
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What `identify` and the routes share."""
    state = app.state
    state.logins = Logins(state.connections, state.jwt_key)
    state.keys = Keys(state.connections)
    state.passwords = Passwords()
    state.accounts = Accounts(state.connections, state.logins, state.passwords)
    yield
    state.passwords.end()


_LOGGED_IN = {
    "access_token": "eyJ…",
    "expires_in_s": ACCESS_LIFE_S,
    "user_id": "u_8Zt",
    "roles": ["player", "host"],
}
_DONE = {"done": True}
_OWN_KEY = {
    "key_id": "5f2c11aa03de9b17",
    "user_id": "u_8Zt",
    "name": "nightly import",
    "scopes": ["importer"],
    "created_at": "2026-03-02T17:59:41.204Z",
    "expires_at": "2026-05-31T17:59:41.204Z",
    "ended_at": None,
    "used_at": None,
}


async def _logged_in(
    request: Request, response: Response, renewed: Renewed, fresh: bool = True
) -> dict[str, Any]:
    """The reply to whoever is logged in now. fresh: by a log-in, which ends the one that the cookie had."""
    before = cookies.given(request)
    if fresh and before:
        with contextlib.suppress(LakeboardError):
            await request.app.state.logins.end(before, "logged in anew")
    cookies.put(request, response, renewed.refresh)
    response.headers["Cache-Control"] = "no-store"
    identity = renewed.identity
    return {
        "access_token": sign(identity, request.app.state.jwt_key, life_s=ACCESS_LIFE_S),
        "expires_in_s": ACCESS_LIFE_S,
        "user_id": identity.user_id,
        "roles": list(identity.roles),
    }


async def _guest(request: Request) -> Identity | None:
    """The seat that a sign-up comes with; None without one. Raises BadInput(unauthenticated)."""
    if "authorization" not in request.headers:
        return None
    identity = await identify(request)
    if identity.kind != SEAT:
        raise BadInput("has_account", "you are logged in already", status=409, next_step="log out first")
    return identity


@router.post(
    "/auth/sign-up",
    status_code=201,
    summary="Make an account, also of a guest's seat",
    responses=documented(
        _LOGGED_IN,
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="sign_up_closed cross_site",
        s404="unknown_user",
        s409="login_name_taken has_account",
        s422="weak_password unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(cookies.from_our_page), Depends(AddressLimit(SIGN_UPS))],
)
async def sign_up(body: SignUp, request: Request, response: Response) -> dict[str, Any]:
    """With a guest's token in `Authorization` the account keeps the guest's id, points and history."""
    state = request.app.state
    roles = state.connections.settings.sign_up_roles
    if not roles:
        raise BadInput("sign_up_closed", "ask an admin for an account", status=403)
    wanted = NewAccount(
        checked_login_name(body.login_name),
        body.password,
        clean_name(body.name),
        checked_roles(roles),
        await _guest(request),
    )
    return await _logged_in(request, response, await state.accounts.sign_up(wanted))


@router.post(
    "/auth/log-in",
    summary="Log in",
    responses=documented(
        _LOGGED_IN,
        s400="malformed_body",
        s401="wrong_login",
        s403="cross_site",
        s422="unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(cookies.from_our_page), Depends(AddressLimit(LOGINS))],
)
async def log_in(body: LogIn, request: Request, response: Response) -> dict[str, Any]:
    """A wrong name, a wrong password and a blocked account have the same reply, after the same work."""
    state = request.app.state
    login_name = checked_login_name(body.login_name)
    await state.limits.count_login_name(login_name)
    return await _logged_in(request, response, await state.accounts.log_in(login_name, body.password))


@router.post(
    "/auth/ticket",
    summary="Set the password of a new account, or a forgotten one, with a ticket",
    responses=documented(
        _LOGGED_IN,
        s400="malformed_body",
        s403="wrong_ticket cross_site",
        s422="weak_password unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(cookies.from_our_page), Depends(AddressLimit(LOGINS))],
)
async def ticket(body: Redeemed, request: Request, response: Response) -> dict[str, Any]:
    """A ticket counts once, for two days; `./lakeboard user` and admins hand them out."""
    renewed = await request.app.state.accounts.redeem(body.ticket, body.password)
    return await _logged_in(request, response, renewed)


@router.post(
    "/auth/refresh",
    summary="Renew the access token by the cookie",
    responses=documented(
        _LOGGED_IN, s401="unauthenticated", s403="cross_site", s429="too_many_requests", s503="system_missing"
    ),
    dependencies=[Depends(cookies.from_our_page)],
)
async def refresh(request: Request, response: Response) -> dict[str, Any]:
    """Each refresh token counts once; one that is used again later was copied, and its log-in ends."""
    token = cookies.given(request)
    if not token:
        raise unauthenticated("no log-in in this browser", "log in")
    return await _logged_in(request, response, await request.app.state.logins.renew(token), fresh=False)


@router.post(
    "/auth/log-out",
    summary="Log out here",
    responses=documented(_DONE, s403="cross_site", s503="system_missing"),
    dependencies=[Depends(cookies.from_our_page)],
)
async def log_out(request: Request, response: Response) -> dict[str, Any]:
    token = cookies.given(request)
    if token:
        await request.app.state.logins.end(token, "logged out")
    cookies.take_away(request, response)
    return _DONE


@router.post(
    "/auth/log-out-everywhere",
    summary="Log out on every device",
    responses=documented(
        {"ended": 3}, s401="unauthenticated", s403="account_needed forbidden", s503="system_missing"
    ),
)
async def log_out_everywhere(request: Request, response: Response, identity: Person) -> dict[str, Any]:
    """Access tokens end with their log-ins, on other processes within 5 s. Seats in running games stay."""
    state = request.app.state
    async with state.connections.sql() as sql:
        ended = await state.logins.end_all(sql, identity.user_id, "logged out everywhere")
    cookies.take_away(request, response)
    return {"ended": ended}


@router.post(
    "/auth/password",
    summary="Change the password",
    responses=documented(
        _LOGGED_IN,
        s400="malformed_body",
        s401="unauthenticated",
        s403="account_needed forbidden wrong_password cross_site",
        s422="weak_password unknown_field missing_field invalid_field",
        s429="too_many_requests",
        s503="system_missing overloaded",
    ),
    dependencies=[Depends(cookies.from_our_page), Depends(AddressLimit(LOGINS))],
)
async def password(
    body: NewPassword, request: Request, response: Response, identity: Person
) -> dict[str, Any]:
    """Ends every log-in but a new one here."""
    state = request.app.state
    await state.limits.count_login_name(identity.user_id)
    renewed = await state.accounts.change_password(identity, body.old, body.new)
    return await _logged_in(request, response, renewed)


def _documented(example: dict[str, Any], status: int = 200, **codes: str) -> Responses:
    """What every route about keys may also answer."""
    common = {"s401": "unauthenticated", "s403": "account_needed forbidden", "s503": "system_missing"}
    return documented(example, status=status, **{**common, **codes})


@router.get("/me/keys", summary="My keys", responses=_documented({"keys": [_OWN_KEY]}))
async def my_keys(
    request: Request, identity: Annotated[Identity, Depends(require_account(*ROLES))]
) -> dict[str, Any]:
    """The newest first; ended ones too."""
    async with request.app.state.connections.sql() as sql:
        return {"keys": await listed(sql, user_id=identity.user_id)}


@router.post(
    "/me/keys",
    status_code=201,
    summary="Make a key for a program",
    responses=_documented(
        {**_OWN_KEY, "key": "lbk_5f2c11aa03de9b17_…"},
        201,
        s400="malformed_body",
        s409="too_many_keys",
        s422="unknown_field missing_field invalid_field",
    ),
)
async def make_key(body: NewKey, request: Request, response: Response, identity: Person) -> dict[str, Any]:
    """`key` is shown here and never again. It goes into `X-API-Key`, and may do what its scopes say and its owner may."""
    assert set(body.scopes) <= set(SCOPES)
    expires_at = datetime.now(UTC) + timedelta(days=body.days) if body.days else None
    response.headers["Cache-Control"] = "no-store"
    found: dict[str, Any] = await request.app.state.keys.make(
        identity, clean_name(body.name), body.scopes, expires_at
    )
    return found


@router.delete(
    "/me/keys/{key_id}",
    summary="End a key",
    responses=_documented({**_OWN_KEY, "ended_at": "2026-03-03T08:00:00.000Z"}, s404="unknown_key"),
)
async def end_key(key_id: str, request: Request, identity: Person) -> dict[str, Any]:
    """It is refused from now on, by other processes within 5 s."""
    state = request.app.state
    async with state.connections.sql() as sql:
        found: dict[str, Any] = await state.keys.end(sql, key_id, owner=identity.user_id)
    return found
