"""What others see of users (name, picture, whether anonymous), from Redis; Postgres has the truth and the version.

A change cannot leave an older profile in the cache:

    1  lock the user's row, and mark the next version as being written: from now on readers go to Postgres
    2  write the row with that version, commit
    3  keep the new profile

A reader that finds nothing, or the mark, reads Postgres and keeps what it read, unless a newer version or its mark is
there (compare-and-set, keep_profile.lua). A crash before 2 leaves the mark, which only costs look-ups until it ends; a
crash after 2 as well, and the next reader keeps what was written. Where the mark cannot be written, nothing is.

All who ask at once share a round trip a shard, and a query for those that the cache lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import psycopg
from redis.exceptions import RedisError

from contracts import names
from contracts.errors import BadInput, LakeboardError, SystemMissing
from contracts.identity import user_shard
from contracts.replies import Shown
from serving.boards.acknowledged import ScriptRunner
from serving.next_run import NextRun

LOG = logging.getLogger(__name__)
_KEEP = (Path(__file__).parent / "keep_profile.lua").read_text(encoding="utf-8")
# Users that nobody looks at leave the cache.
KEEP_S = 3600
# Longer than any change takes: its transaction ends itself before.
MARK_S = 60
CHANGE_MOST_S = 10
# A shard, or Postgres, that does not answer within this is passed over: a board without names is still the board.
CACHE_WAIT_S = 0.5
LOOK_UP_S = 2.0
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
Read = Callable[[list[str]], Awaitable[dict[str, Kept] | None]]


@dataclass(slots=True)
class _Batch:
    """Who is asked for in one run, and what it found."""

    wanted: set[str] = field(default_factory=set)
    found: dict[str, Kept] = field(default_factory=dict)


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
    version, _, rest = (text or "").partition("|")
    if not rest:
        return None
    try:
        return Kept(int(version), *_PARTS.decode(rest))
    except (ValueError, msgspec.MsgspecError):
        return None


class Profiles:
    """One process' way to profiles. read: from Postgres, None while it does not say; it raises nothing."""

    def __init__(
        self, scripts: list[ScriptRunner], read: Read, media_base_url: str = "", most: int = REMEMBERED
    ) -> None:
        self._scripts = scripts
        self._read = read
        self._base = media_base_url.rstrip("/") or MEDIA_PATH
        self._most = most
        # id → the bytes that Redis had, and what they said.
        self._last: dict[str, tuple[str, Kept]] = {}
        self._batch = _Batch()
        self._next = NextRun(self._look_up)

    async def of(self, ids: Iterable[str]) -> dict[str, Kept]:
        """id → profile of those of `ids` that there are, no older than this call; while nobody can say, as last read."""
        asked = list(ids)
        if not asked:
            return {}
        batch = self._batch
        batch.wanted.update(asked)
        await self._next.done()
        return {user: found for user in asked if (found := batch.found.get(user))}

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

    async def _look_up(self) -> None:
        batch, self._batch = self._batch, _Batch()
        wanted = sorted(batch.wanted)
        found = await self._cached(wanted)
        missing = [user for user in wanted if user not in found]
        if missing:
            read = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_UP_S):
                    read = await self._read(missing)
            if read is None:
                found |= {user: last[1] for user in missing if (last := self._last.get(user))}
            else:
                found |= read
                await self._keep(read)
        batch.found = found
        for user in list(islice(self._last, max(0, len(self._last) - self._most))):
            del self._last[user]

    def _by_shard(self, ids: Iterable[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for user in ids:
            found.setdefault(user_shard(user, len(self._scripts)), []).append(user)
        return found

    async def _cached(self, ids: list[str]) -> dict[str, Kept]:
        parts = await asyncio.gather(
            *(self._cached_on(shard, users) for shard, users in self._by_shard(ids).items())
        )
        return {user: kept for part in parts for user, kept in part.items()}

    async def _cached_on(self, shard: int, users: list[str]) -> dict[str, Kept]:
        try:
            async with asyncio.timeout(CACHE_WAIT_S):
                texts = await self._scripts[shard].client.mget([names.user_profile(user) for user in users])
        except (RedisError, OSError, TimeoutError):
            return {}
        found = {}
        for user, text in zip(users, texts, strict=True):
            last = self._last.get(user)
            if last is not None and last[0] == text:
                found[user] = last[1]
            elif (kept := decoded(text)) is not None:
                found[user] = kept
                self._last[user] = (text, kept)
        return found

    async def _keep(self, read: dict[str, Kept]) -> None:
        """Keeps what Postgres said. A shard that does not take it costs the next reader a query."""
        for shard, users in self._by_shard(read).items():
            calls = [
                ([names.user_profile(user)], [read[user].version, encoded(read[user]), KEEP_S])
                for user in users
            ]
            with contextlib.suppress(RedisError, OSError, TimeoutError, LakeboardError):
                async with asyncio.timeout(CACHE_WAIT_S):
                    await self._scripts[shard].run_many(_KEEP, calls)
        for user, kept in read.items():
            self._last[user] = (f"{kept.version}|{encoded(kept)}", kept)

    async def _mark(self, user_id: str, version: int, text: str, seconds: int) -> None:
        script = self._scripts[user_shard(user_id, len(self._scripts))]
        async with asyncio.timeout(CACHE_WAIT_S):
            await script.run(_KEEP, [names.user_profile(user_id)], [version, text, seconds])

    @asynccontextmanager
    async def change(self, sql: psycopg.AsyncConnection, user_id: str) -> AsyncIterator[Change]:
        """A transaction that may write the user's row; its version is counted here.

        Raises BadInput(unknown_user, 404), and SystemMissing, with nothing written, while the user's shard does not answer.
        """
        async with sql.transaction():
            await sql.execute(f"set local idle_in_transaction_session_timeout = '{CHANGE_MOST_S}s'")  # type: ignore[arg-type]
            await sql.execute(f"set local statement_timeout = '{CHANGE_MOST_S}s'")  # type: ignore[arg-type]
            found = await sql.execute(
                "select version, name, coalesce(avatar, ''), anonymous from users where user_id = %s and deleted_at is null "
                "for update",
                [user_id],
            )
            row = await found.fetchone()
            if row is None:
                raise BadInput("unknown_user", f"there is no user {user_id[:80]!r}", status=404)
            before = Kept(*row)
            try:
                await self._mark(user_id, before.version + 1, "", MARK_S)  # 1
            except (RedisError, OSError, TimeoutError) as error:
                raise SystemMissing(
                    "system_missing", "Valkey does not answer", next_step="try again"
                ) from error
            yield Change(sql, before)
            await sql.execute("update users set version = version + 1 where user_id = %s", [user_id])  # 2
        read = await self._read([user_id])
        if read:
            await self._keep(read)  # 3
