"""Keys of programs: `lbk_{id}_{secret}`, shown once, kept as a digest; what one may do is what its owner still may.

A key that is ended, or whose owner is blocked or has lost the role, is refused by other processes after `KNOWN_FOR_S`.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from contracts.errors import BadInput
from contracts.periods import instant_us, iso_ms
from serving.access.logins import digest_of
from serving.access.tokens import ANALYST, HOST, IMPORTER, KEY, PLAYER, Identity, strongest, unauthenticated
from serving.connections import Connections

_FORM = re.compile(r"lbk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
# What a key may be made for: never to administer, so that a leaked one makes no other.
SCOPES = (PLAYER, HOST, ANALYST, IMPORTER)
KNOWN_FOR_S = 5.0
# When it was used last is written no oftener.
USED_EVERY_S = 60
# Keys of one account, ended ones not counted: more is a program that forgets its own.
MOST_KEYS = 20
# A key that is asked to end does so within two years at the most.
KEY_LIFE_MOST_DAYS = 730
REMEMBERED = 10_000
_COLUMNS = ("key_id", "user_id", "name", "scopes", "created_at", "expires_at", "ended_at", "used_at")


class Keys:
    """One process' view of the keys."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[bytes, tuple[float, Identity | None]] = {}

    async def identity(self, text: str) -> Identity:
        """Who a key stands for. Raises BadInput(unauthenticated), and SystemMissing while Postgres cannot say."""
        parts = _FORM.fullmatch(text)
        if parts is None:
            raise unauthenticated("the API key is not valid", "make a key on the page of your account")
        now, digest = time.monotonic(), digest_of(text)
        known = self._known.get(digest)
        if known is None or known[0] < now:
            found = await self._look_up(parts[1], digest)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[digest] = (now + KNOWN_FOR_S, found)
        if known[1] is None:
            raise unauthenticated("the API key is not valid", "make a key on the page of your account")
        return known[1]

    async def _look_up(self, key_id: str, digest: bytes) -> Identity | None:
        async with self._connections.sql() as sql:
            found = await sql.execute(
                "select k.user_id, k.scopes, k.digest, a.roles, u.user_no from api_keys k join accounts a using (user_id) "
                "join users u using (user_id) where k.key_id = %s and k.ended_at is null "
                "and coalesce(k.expires_at > now(), true) and a.blocked_at is null",
                [key_id],
            )
            row = await found.fetchone()
            if row is None or not hmac.compare_digest(bytes(row[2]), digest):
                return None
            await sql.execute(
                "update api_keys set used_at = now() where key_id = %s "
                "and coalesce(used_at < now() - make_interval(secs => %s), true)",
                [key_id, USED_EVERY_S],
            )
        roles = tuple(scope for scope in row[1] if scope in row[3])
        if not roles:
            return None
        return Identity(row[0], strongest(roles), row[4], kind=KEY, roles=roles, login_id=key_id)

    async def make(
        self, owner: Identity, name: str, scopes: Sequence[str], expires_at: datetime | None
    ) -> dict[str, Any]:
        """A new key with its text, which nobody sees again. Raises BadInput(forbidden, too_many_keys)."""
        beyond = [scope for scope in scopes if scope not in owner.roles]
        if beyond:
            raise BadInput("forbidden", f"you have no role {', '.join(beyond)} to give to a key", status=403)
        key_id = secrets.token_hex(8)
        text = f"lbk_{key_id}_{secrets.token_urlsafe(32)}"
        async with self._connections.sql() as sql, sql.transaction():
            # The row lock makes two requests of one owner count one after the other.
            await sql.execute("select 1 from accounts where user_id = %s for update", [owner.user_id])
            count = await sql.execute(
                "select count(*) from api_keys where user_id = %s and ended_at is null", [owner.user_id]
            )
            if ((await count.fetchone()) or (0,))[0] >= MOST_KEYS:
                raise BadInput("too_many_keys", f"an account has at most {MOST_KEYS} keys", status=409)
            await sql.execute(
                "insert into api_keys (key_id, user_id, name, scopes, digest, expires_at) values (%s, %s, %s, %s, %s, %s)",
                [key_id, owner.user_id, name, list(dict.fromkeys(scopes)), digest_of(text), expires_at],
            )
            made = (await listed(sql, key_id=key_id))[0]
        return {**made, "key": text}

    async def end(self, sql: psycopg.AsyncConnection, key_id: str, owner: str = "") -> dict[str, Any]:
        """Ends a key (with `owner`, one of theirs); a repeat changes nothing. Raises BadInput(unknown_key, 404)."""
        rows = await listed(sql, key_id=key_id, user_id=owner)
        if not rows:
            raise BadInput("unknown_key", f"there is no key {key_id[:40]!r}", status=404)
        await sql.execute(
            "update api_keys set ended_at = now() where key_id = %s and ended_at is null", [key_id]
        )
        self.forget()
        return (await listed(sql, key_id=key_id))[0]

    def forget(self) -> None:
        """Every key is looked up again: one was ended, or an owner's roles changed."""
        self._known.clear()


async def listed(
    sql: psycopg.AsyncConnection, key_id: str = "", user_id: str = "", limit: int = 200
) -> list[dict[str, Any]]:
    """Keys without their secrets, the newest first."""
    found = await sql.execute(
        f"select {', '.join(_COLUMNS)} from api_keys where (%s = '' or key_id = %s) and (%s = '' or user_id = %s) "  # type: ignore[arg-type]
        "order by created_at desc, key_id limit %s",
        [key_id, key_id, user_id, user_id, limit],
    )
    return [told(dict(zip(_COLUMNS, row, strict=True))) for row in await found.fetchall()]


def told(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON takes it: instants as replies show them."""
    return {
        name: iso_ms(instant_us(value)) if isinstance(value, datetime) else value
        for name, value in row.items()
    }
