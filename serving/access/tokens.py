"""Who is calling: signed tokens (HS256) for players and hosts, an API key for importers."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass

import jwt

from contracts.errors import BadInput

PLAYER = "player"
HOST = "host"
IMPORTER = "importer"
ROLES = (PLAYER, HOST, IMPORTER)
ALGORITHM = "HS256"
ISSUER = "lakeboard"
# A session lasts at most 11 h; a token that ended in the middle of a game would lock the player out.
TOKEN_LIFE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller. `session_id` is the one session that a guest's token opens; user_no is 0 for a host."""

    user_id: str
    role: str
    user_no: int = 0
    session_id: str = ""
    quiz_id: str = ""
    name: str = ""


def unauthenticated(detail: str) -> BadInput:
    """The error of a missing, forged or expired token."""
    return BadInput("unauthenticated", detail, status=401, next_step="join the session again")


def sign(identity: Identity, key: str, now_s: float | None = None, life_s: int = TOKEN_LIFE_S) -> str:
    """A token that says who `identity` is for the next day, or for `life_s`."""
    issued = int(time.time() if now_s is None else now_s)
    claims = {
        "iss": ISSUER,
        "iat": issued,
        "exp": issued + life_s,
        "sub": identity.user_id,
        "role": identity.role,
        "no": identity.user_no,
        "session": identity.session_id,
        "quiz": identity.quiz_id,
        "name": identity.name,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def read(token: str, key: str) -> Identity:
    """The identity in a token. Raises BadInput(unauthenticated, 401) if it is forged, expired or not ours."""
    try:
        claims = jwt.decode(
            token, key, algorithms=[ALGORITHM], issuer=ISSUER, options={"require": ["exp", "sub", "iss"]}
        )
        identity = Identity(
            user_id=str(claims["sub"]),
            role=str(claims["role"]),
            user_no=int(claims["no"]),
            session_id=str(claims["session"]),
            quiz_id=str(claims["quiz"]),
            name=str(claims["name"]),
        )
    except (jwt.InvalidTokenError, KeyError, ValueError) as error:
        raise unauthenticated("the token is not valid") from error
    if identity.role not in ROLES:
        raise unauthenticated("the token names no role of ours")
    return identity


def same_key(given: str, wanted: str) -> bool:
    """Compares in constant time, so that a key can't be guessed byte by byte."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
