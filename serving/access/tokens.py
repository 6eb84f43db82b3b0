"""Who is calling: signed tokens (HS256) of a seat in one session or of a log-in, and keys of programs.

    kind        made by                         lives            says
    seat        creating or joining a session   a day or more    one session, as player or host
    access      a log-in, renewed by its cookie 10 minutes       an account with its roles
    key         an account, for a program       until ended      an account with some of its roles
    deployment  the file `importer_key`         the deployment   importer

A kind is never taken for another: a refresh token and a key are no JWTs, and `kind` is a signed claim.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, replace
from typing import Any

import jwt

from contracts.errors import BadInput

PLAYER = "player"
HOST = "host"
ANALYST = "analyst"
IMPORTER = "importer"
ADMIN = "admin"
# The weakest first: whoever has several acts as the strongest of those that a route takes.
ROLES = (PLAYER, HOST, ANALYST, IMPORTER, ADMIN)
SEAT, ACCESS, KEY, DEPLOYMENT = "seat", "access", "key", "deployment"
_SIGNED_KINDS = (SEAT, ACCESS)
ALGORITHM = "HS256"
ISSUER = "lakeboard"
# A session lasts at most 11 h; a token that ended in the middle of a game would lock the player out.
TOKEN_LIFE_S = 24 * 3600
# A stolen one is worth little; renewing costs one indexed row. Roles and blocks do not wait for it (accounts.py).
ACCESS_LIFE_S = 600


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller.

    role: what it acts as. roles: what an account or a key may act as; a seat has its role alone.
    session_id, quiz_id, name: the one session that a seat opens. user_no: 0 for a guest who hosts.
    login_id: the log-in (or the key) that an account came by.
    """

    user_id: str
    role: str
    user_no: int = 0
    session_id: str = ""
    quiz_id: str = ""
    name: str = ""
    kind: str = SEAT
    roles: tuple[str, ...] = ()
    login_id: str = ""

    @property
    def has_account(self) -> bool:
        """Whether it is somebody with an account, or a program of theirs."""
        return self.kind in (ACCESS, KEY)

    def acting(self, roles: tuple[str, ...]) -> Identity | None:
        """The same caller as the strongest of `roles` that it has; None if it has none of them."""
        held = self.roles or (self.role,)
        found = [role for role in ROLES if role in held and role in roles]
        return replace(self, role=found[-1]) if found else None


def strongest(roles: tuple[str, ...]) -> str:
    """The strongest of an account's roles; a player where it has none."""
    return max(roles, key=ROLES.index, default=PLAYER)


def unauthenticated(detail: str, next_step: str = "join the session again") -> BadInput:
    """The error of a missing, forged or expired token."""
    return BadInput("unauthenticated", detail, status=401, next_step=next_step)


def sign(identity: Identity, key: str, now_s: float | None = None, life_s: int = TOKEN_LIFE_S) -> str:
    """A token that says who `identity` is for the next day, or for `life_s`."""
    issued = int(time.time() if now_s is None else now_s)
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "iat": issued,
        "exp": issued + life_s,
        "sub": identity.user_id,
        "kind": identity.kind,
        "role": identity.role,
        "no": identity.user_no,
    }
    if identity.kind == SEAT:
        claims |= {"session": identity.session_id, "quiz": identity.quiz_id, "name": identity.name}
    else:
        claims |= {"roles": list(identity.roles), "login": identity.login_id}
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def read(token: str, key: str) -> Identity:
    """The identity in a token. Raises BadInput(unauthenticated, 401) if it is forged, expired or not ours."""
    try:
        claims = jwt.decode(
            token, key, algorithms=[ALGORITHM], issuer=ISSUER, options={"require": ["exp", "sub", "iss"]}
        )
        # A seat from before there were accounts says no kind.
        kind = str(claims.get("kind", SEAT))
        identity = Identity(
            user_id=str(claims["sub"]), role=str(claims["role"]), user_no=int(claims["no"]), kind=kind
        )
        if kind == SEAT:
            session, quiz, name = (str(claims[field]) for field in ("session", "quiz", "name"))
            identity = replace(identity, session_id=session, quiz_id=quiz, name=name)
        else:
            roles = tuple(str(role) for role in claims["roles"])
            identity = replace(identity, roles=roles, login_id=str(claims["login"]))
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
        raise unauthenticated("the token is not valid") from error
    if kind not in _SIGNED_KINDS or not {identity.role, *identity.roles} <= set(ROLES):
        raise unauthenticated("the token names no kind or role of ours")
    return identity


def read_seat(token: str, key: str) -> Identity:
    """As `read`; an account's token opens no session by itself. Raises BadInput(unauthenticated)."""
    identity = read(token, key)
    if identity.kind != SEAT:
        raise unauthenticated("the token is an account's, not a seat in a session")
    return identity


def same_key(given: str, wanted: str) -> bool:
    """Compares in constant time, so that a key can't be guessed byte by byte."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
