"""Log-ins: a chain of refresh tokens, each used once, and what an access token is still worth.

A renewal gives the next token of the chain, which is computed from the last (HMAC under the deployment's key): a renewal
whose reply was lost, or two tabs at once, get the same one within `REPEAT_S`. A token that is used later again has been
copied: the log-in ends, whoever holds its newest token. Only digests are kept.

An access token lives ten minutes, but its log-in, block and roles are asked for again every `CONFIRMED_FOR_S`: so
whatever an admin or "log out everywhere" does counts on all processes after that, and on the one that did it at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from contracts.errors import SystemMissing
from serving.access.tokens import ACCESS, ADMIN, IMPORTER, Identity, strongest, unauthenticated
from serving.connections import Connections

LOG = logging.getLogger(__name__)
# A browser that was not opened for a month logs in again; nobody stays logged in for more than a quarter.
REFRESH_LIFE_DAYS = 30
LOGIN_LIFE_DAYS = 90
REPEAT_S = 10
CONFIRMED_FOR_S = 5.0
# About 30 MB.
REMEMBERED = 100_000
# What a token is worth without anybody who can confirm it.
_NOT_UNCONFIRMED = (ADMIN, IMPORTER)


@dataclass(frozen=True, slots=True)
class Renewed:
    """A log-in that goes on: whose it is, and the token for the next time."""

    identity: Identity
    refresh: str


def digest_of(secret: str) -> bytes:
    """What is kept of a random secret."""
    return hashlib.sha256(secret.encode()).digest()


class Logins:
    """One process' log-ins. key: the deployment's, by which a chain goes on."""

    def __init__(self, connections: Connections, key: str) -> None:
        self._connections = connections
        self._key = hashlib.sha256(b"refresh/" + key.encode()).digest()
        # (login_id, user_id) → until when (monotonic s), and the roles; None: it has ended.
        self._known: dict[tuple[str, str], tuple[float, tuple[str, ...] | None]] = {}

    def next_of(self, refresh: str) -> str:
        """The token after this one in its chain."""
        found = hmac.new(self._key, refresh.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(found).decode().rstrip("=")

    async def open(self, sql: psycopg.AsyncConnection, identity: Identity) -> Renewed:
        """A new log-in, in the caller's transaction."""
        login_id, refresh = secrets.token_hex(16), secrets.token_urlsafe(32)
        await sql.execute(
            "insert into logins (login_id, user_id, expires_at) values (%s, %s, now() + make_interval(days => %s))",
            [login_id, identity.user_id, LOGIN_LIFE_DAYS],
        )
        await sql.execute(
            "insert into refresh_tokens (digest, login_id) values (%s, %s)", [digest_of(refresh), login_id]
        )
        await sql.execute("update accounts set used_at = now() where user_id = %s", [identity.user_id])
        return Renewed(replace(identity, login_id=login_id), refresh)

    async def renew(self, refresh: str) -> Renewed:
        """The next token of a chain. Raises BadInput(unauthenticated); a copied token ends its log-in."""
        following = self.next_of(refresh)
        async with self._connections.sql() as sql, sql.transaction():
            # The row lock makes two renewals of one token come one after the other.
            found = await sql.execute(
                "select l.login_id, l.user_id, r.used_at is not null, "
                "coalesce(r.used_at > now() - make_interval(secs => %s), false), "
                "l.ended_at is null and l.expires_at > now() "
                "and r.issued_at > now() - make_interval(days => %s) and a.blocked_at is null, a.roles, u.user_no, "
                "exists (select 1 from refresh_tokens n where n.digest = %s and n.used_at is not null) "
                "from refresh_tokens r join logins l using (login_id) join accounts a using (user_id) "
                "join users u using (user_id) where r.digest = %s for update of r",
                [REPEAT_S, REFRESH_LIFE_DAYS, digest_of(following), digest_of(refresh)],
            )
            row = await found.fetchone()
            if row is None:
                raise unauthenticated("this log-in is not known", "log in")
            login_id, user_id, used, lately, alive, roles, user_no, following_used = row
            copied = used and (not lately or following_used)
            if copied:
                await self._end(sql, "login_id", login_id, "a refresh token came twice")
            elif alive:
                digests = [digest_of(refresh), digest_of(following), login_id]
                await sql.execute(
                    "update refresh_tokens set used_at = now() where digest = %s and used_at is null",
                    digests[:1],
                )
                await sql.execute(
                    "insert into refresh_tokens (digest, login_id) values (%s, %s) on conflict do nothing",
                    digests[1:],
                )
        if copied:
            LOG.warning("refresh_reused user_id=%s login_id=%s", user_id, login_id)
        if copied or not alive:
            self._known.pop((login_id, user_id), None)
            raise unauthenticated("this log-in has ended", "log in")
        return Renewed(account_identity(user_id, user_no, tuple(roles), login_id), following)

    async def end(self, refresh: str, why: str) -> None:
        """Ends the log-in of a refresh token; one that is not known is left alone."""
        async with self._connections.sql() as sql:
            found = await sql.execute(
                "select login_id from refresh_tokens where digest = %s", [digest_of(refresh)]
            )
            row = await found.fetchone()
            if row is not None:
                await self._end(sql, "login_id", row[0], why)

    async def end_all(self, sql: psycopg.AsyncConnection, user_id: str, why: str) -> int:
        """Ends all log-ins of a user, in the caller's transaction; how many there were."""
        return await self._end(sql, "user_id", user_id, why)

    async def _end(self, sql: psycopg.AsyncConnection, column: str, value: str, why: str) -> int:
        ended = await sql.execute(
            f"update logins set ended_at = now(), why = %s where {column} = %s and ended_at is null"  # type: ignore[arg-type]
            " returning login_id, user_id",
            [why, value],
        )
        rows: list[Any] = await ended.fetchall()
        for row in rows:
            self._known.pop((row[0], row[1]), None)
        return len(rows)

    def forget(self) -> None:
        """What is known of all log-ins is asked for again: roles or blocks have changed."""
        self._known.clear()

    async def confirmed(self, identity: Identity) -> Identity:
        """An access token's identity with the roles of now. Raises BadInput(unauthenticated) if its log-in has ended.

        While Postgres is away the token counts as it was signed, but for the strongest roles.
        """
        now = time.monotonic()
        known = self._known.get((identity.login_id, identity.user_id))
        if known is None or known[0] < now:
            try:
                known = await self._look_up(identity, now)
            except SystemMissing:
                roles = tuple(role for role in identity.roles if role not in _NOT_UNCONFIRMED)
                return replace(identity, roles=roles, role=strongest(roles))
        roles_now = known[1]
        if roles_now is None:
            raise unauthenticated("this log-in has ended", "log in")
        return replace(identity, roles=roles_now, role=strongest(roles_now))

    async def _look_up(self, identity: Identity, now: float) -> tuple[float, tuple[str, ...] | None]:
        async with self._connections.sql() as sql:
            found = await sql.execute(
                "select a.roles from logins l join accounts a using (user_id) where l.login_id = %s and "
                "l.user_id = %s and l.ended_at is null and l.expires_at > now() and a.blocked_at is null",
                [identity.login_id, identity.user_id],
            )
            row = await found.fetchone()
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found_now = (now + CONFIRMED_FOR_S, tuple(row[0]) if row else None)
        self._known[identity.login_id, identity.user_id] = found_now
        return found_now


def account_identity(user_id: str, user_no: int, roles: tuple[str, ...], login_id: str = "") -> Identity:
    """An account as the caller that its access token names."""
    return Identity(user_id, strongest(roles), user_no, kind=ACCESS, roles=roles, login_id=login_id)
