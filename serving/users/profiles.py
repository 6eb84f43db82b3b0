"""What others see of users: name, picture, whether anonymous; cached, and never older than a change (serving/cached.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import psycopg

from contracts import names
from contracts.errors import BadInput
from contracts.identity import user_shard
from contracts.replies import Shown
from serving.boards.acknowledged import ScriptRunner
from serving.cached import Cached, Kind, Sql, told

# About 25 MB a process: what was kept last, so that the same bytes are read once, and for when nobody can say.
REMEMBERED = 100_000
ANONYMOUS = "Anonymous"
MEDIA_PATH = "/media"


class Kept(NamedTuple):
    """A profile with its version. avatar: the picture's key, "" for none."""

    version: int
    name: str
    avatar: str = ""
    anonymous: bool = False


_JSON = msgspec.json.Encoder()
_PARTS = msgspec.json.Decoder(tuple[str, str, bool])
_COLUMNS = "version, name, coalesce(avatar, ''), anonymous"
_COUNT = (
    "update users set version = greatest(version, %s) + 1 where user_id = any(%s) returning user_id, version"
)


@dataclass(frozen=True, slots=True)
class Change:
    """The profile that a change begins with, locked, and the transaction that writes it."""

    sql: psycopg.AsyncConnection
    before: Kept


def encoded(kept: Kept) -> str:
    """A profile's JSON, as Redis has it after `version|`."""
    return _JSON.encode((kept.name, kept.avatar, kept.anonymous)).decode()


def decoded(text: str | None) -> Kept | None:
    """What Redis has, None for nothing, a mark or what is none of ours."""
    return told(text, lambda version, rest: Kept(version, *_PARTS.decode(rest)))


async def _rows(sql: psycopg.AsyncConnection, ids: list[str]) -> dict[str, Kept]:
    found = await sql.execute(f"select user_id, {_COLUMNS} from users where user_id = any(%s)", [ids])
    return {row[0]: Kept(*row[1:]) for row in await found.fetchall()}


class Profiles(Cached[Kept]):
    """One process' way to profiles. While nobody can say, it tells a board what it last read: that is all a name is for."""

    def __init__(
        self, scripts: list[ScriptRunner], sql: Sql, media_base_url: str = "", most: int = REMEMBERED
    ) -> None:
        kind = Kind(
            key_of=names.user_profile,
            shard_of=lambda user: user_shard(user, len(scripts)),
            encoded=encoded,
            decoded=decoded,
            rows=_rows,
            count=_COUNT,
            lasts=lambda kept: True,
            most=most,
            old_is_told=True,
        )
        super().__init__(kind, scripts, sql)
        self._base = media_base_url.rstrip("/") or MEDIA_PATH

    async def shown(self, ids: Iterable[str]) -> dict[str, Shown]:
        """id → what a public board shows: the name, or that somebody is anonymous; users without a name are left out."""
        found = await self.of(ids)
        return {user: self.public(kept) for user, kept in found.items() if kept.name or kept.anonymous}

    def public(self, kept: Kept) -> Shown:
        """What anybody sees of a user."""
        if kept.anonymous:
            return Shown(ANONYMOUS)
        return Shown(kept.name or None, self.address(kept.avatar))

    def address(self, key: str) -> str | None:
        """Where a browser gets a picture; None for none."""
        return f"{self._base}/{key}" if key else None

    @asynccontextmanager
    async def change(self, sql: psycopg.AsyncConnection, user_id: str) -> AsyncIterator[Change]:
        """A transaction that may write the user's row; its version is counted here.

        Raises BadInput(unknown_user, 404), and SystemMissing, with nothing written, while the user's shard does not answer.
        """
        async with self.writing(sql) as begin:
            found = await sql.execute(
                f"select {_COLUMNS} from users where user_id = %s and deleted_at is null for update",
                [user_id],
            )
            row = await found.fetchone()
            if row is None:
                raise BadInput("unknown_user", f"there is no user {user_id[:80]!r}", status=404)
            await begin(user_id)
            yield Change(sql, Kept(*row))
