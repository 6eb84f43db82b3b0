"""Rows that many read and few change, from Redis; Postgres has the truth and counts each row's versions.

A change cannot leave anything older in the cache:

    1  count the row's next version, which locks it, and mark that version as being written: from now on readers go to
       Postgres
    2  write the row, commit
    3  keep what was written

A reader that finds nothing, or the mark, reads Postgres and keeps what it read, unless a newer version or its mark is
there (compare-and-set, keep_cached.lua). A crash before 2 leaves the mark, which only costs look-ups until it ends; a
crash after 2 as well, and the next reader keeps what was written. Where the mark cannot be written, nothing is. A Postgres
that went back (a backup, an empty one) counts on from what the cache has, so that its next change shows; what it does
not change is as the cache has it for KEEP_S at most.

All who ask at once share a round trip a shard, and a query for those that the cache lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
import psycopg
from redis.exceptions import RedisError

from contracts.errors import LakeboardError, SystemMissing
from serving.boards.acknowledged import ScriptRunner
from serving.next_run import NextRun

_KEEP = (Path(__file__).parent / "keep_cached.lua").read_text(encoding="utf-8")
# What nobody looks at leaves the cache.
KEEP_S = 3600
# Longer than any change takes: its statements and pauses end after CHANGE_MOST_S each, and it looks at the clock before it
# commits.
MARK_S = 60
CHANGE_MOST_S = 10
_BOUNDS = "select set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"
# A shard, or Postgres, that does not answer within this is passed over by who reads.
CACHE_WAIT_S = 0.5
LOOK_UP_S = 2.0
# Who changes something waits longer for its mark: without it the change is refused.
MARK_WAIT_S = 2.0


class Versioned(Protocol):
    """What is cached says of which version of its row it is."""

    @property
    def version(self) -> int: ...


V = TypeVar("V", bound=Versioned)
Sql = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection]]
Begin = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Kind(Generic[V]):
    """How rows of one kind are cached.

    key_of, shard_of: an id's Redis key, and the shard it is on. encoded: JSON, never empty; decoded: what Redis has, or None
    (by `told`). rows: id → row of those that there are, from Postgres. count: SQL with parameters (version, ids), sets each
    row's version to the next one above both it and its own, and returns (id, version). lasts: whether a row may be cached.
    most: what was kept last, remembered in this process, so that the same bytes are read once. old_is_told: it may also be told
    while neither the cache nor Postgres answers.
    """

    key_of: Callable[[str], str]
    shard_of: Callable[[str], int]
    encoded: Callable[[V], str]
    decoded: Callable[[str | None], V | None]
    rows: Callable[[psycopg.AsyncConnection, list[str]], Awaitable[dict[str, V]]]
    count: str
    lasts: Callable[[V], bool]
    most: int
    old_is_told: bool


@dataclass(slots=True)
class _Batch(Generic[V]):
    """Who is asked for in one run, and what it found. unsaid: of whom nobody could say anything."""

    wanted: set[str] = field(default_factory=set)
    found: dict[str, V] = field(default_factory=dict)
    unsaid: set[str] = field(default_factory=set)


def told(text: str | None, decode: Callable[[int, str], V]) -> V | None:
    """What Redis has, `version|JSON`; None for nothing, a mark or what is none of ours. decode may raise ValueError."""
    version, _, rest = (text or "").partition("|")
    if not rest:
        return None
    try:
        return decode(int(version), rest)
    except (ValueError, msgspec.MsgspecError):
        return None


class Cached(Generic[V]):
    """One process' way to rows of one kind. sql: a connection in autocommit; it raises SystemMissing without Postgres."""

    def __init__(self, kind: Kind[V], scripts: list[ScriptRunner], sql: Sql) -> None:
        self._kind = kind
        self._scripts = scripts
        self._sql = sql
        # id → the bytes that Redis had, and what they said.
        self._last: dict[str, tuple[str, V]] = {}
        self._batch: _Batch[V] = _Batch()
        self._next = NextRun(self._look_up)

    async def of(self, ids: Iterable[str]) -> dict[str, V]:
        """id → row of those of `ids` that there are and that somebody can speak of, no older than this call."""
        asked = list(ids)
        if not asked:
            return {}
        batch = await self._asked(asked)
        return {ident: found for ident in asked if (found := batch.found.get(ident)) is not None}

    async def one(self, ident: str) -> V | None:
        """The row, no older than this call; None if there is none. Raises SystemMissing while nobody can say."""
        batch = await self._asked([ident])
        if ident in batch.unsaid:
            raise SystemMissing(
                "system_missing", "Postgres does not answer", next_step="see ./lakeboard status"
            )
        return batch.found.get(ident)

    async def _asked(self, ids: list[str]) -> _Batch[V]:
        batch = self._batch
        batch.wanted.update(ids)
        await self._next.done()
        return batch

    async def read(self, ids: list[str]) -> dict[str, V] | None:
        """What Postgres says now; None while it does not."""
        try:
            async with self._sql() as sql:
                return await self._kind.rows(sql, ids)
        except (LakeboardError, psycopg.Error):
            return None

    async def _look_up(self) -> None:
        batch, self._batch = self._batch, _Batch()
        wanted = sorted(batch.wanted)
        found = await self._cached(wanted)
        missing = [ident for ident in wanted if ident not in found]
        if missing:
            read = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_UP_S):
                    read = await self.read(missing)
            if read is not None:
                found |= read
                await self._keep(read)
            elif self._kind.old_is_told:
                found |= {ident: last[1] for ident in missing if (last := self._last.get(ident))}
            if read is None:
                batch.unsaid = {ident for ident in missing if ident not in found}
        batch.found = found
        for ident in list(islice(self._last, max(0, len(self._last) - self._kind.most))):
            del self._last[ident]

    def _by_shard(self, ids: Iterable[str]) -> dict[int, list[str]]:
        if len(self._scripts) == 1:
            return {0: there} if (there := list(ids)) else {}
        found: dict[int, list[str]] = {}
        for ident in ids:
            found.setdefault(self._kind.shard_of(ident), []).append(ident)
        return found

    async def _cached(self, ids: list[str]) -> dict[str, V]:
        parts = await asyncio.gather(
            *(self._cached_on(shard, there) for shard, there in self._by_shard(ids).items())
        )
        return {ident: kept for part in parts for ident, kept in part.items()}

    async def _cached_on(self, shard: int, ids: list[str]) -> dict[str, V]:
        try:
            async with asyncio.timeout(CACHE_WAIT_S):
                texts = await self._scripts[shard].client.mget([self._kind.key_of(ident) for ident in ids])
        except (RedisError, OSError, TimeoutError):
            return {}
        found = {}
        for ident, text in zip(ids, texts, strict=True):
            last = self._last.get(ident)
            if last is not None and last[0] == text:
                found[ident] = last[1]
            elif (kept := self._kind.decoded(text)) is not None:
                found[ident] = kept
                self._last[ident] = (text, kept)
        return found

    async def _keep(self, read: Mapping[str, V]) -> None:
        """Keeps what Postgres said. A shard that does not take it costs the next reader a query."""
        lasting = {
            ident: (kept.version, self._kind.encoded(kept))
            for ident, kept in read.items()
            if self._kind.lasts(kept)
        }
        for shard, ids in self._by_shard(lasting).items():
            with contextlib.suppress(RedisError, OSError, TimeoutError, LakeboardError):
                await self._put(shard, {ident: lasting[ident] for ident in ids}, KEEP_S, CACHE_WAIT_S)
        for ident, (version, text) in lasting.items():
            self._last[ident] = (f"{version}|{text}", read[ident])

    async def _put(
        self, shard: int, texts: Mapping[str, tuple[int, str]], keep_s: int, wait_s: float
    ) -> dict[str, int]:
        """Keeps (version, JSON) by id, unless there is something newer; id → the version that is there then."""
        calls = [
            ([self._kind.key_of(ident)], [version, text, keep_s]) for ident, (version, text) in texts.items()
        ]
        async with asyncio.timeout(wait_s):
            kept = await self._scripts[shard].run_many(_KEEP, calls)
        return dict(zip(texts, kept, strict=True))

    async def _mark(self, versions: Mapping[str, int]) -> dict[str, int]:
        """Says of ids that these versions are being written; id → the version that is there then. Raises SystemMissing."""
        found: dict[str, int] = {}
        try:
            for shard, ids in self._by_shard(versions).items():
                marks = {ident: (versions[ident], "") for ident in ids}
                found |= await self._put(shard, marks, MARK_S, MARK_WAIT_S)
        except (RedisError, OSError, TimeoutError) as error:
            raise SystemMissing("system_missing", "Valkey does not answer", next_step="try again") from error
        return found

    async def _counted(
        self, sql: psycopg.AsyncConnection, ids: Collection[str], above: int
    ) -> dict[str, int]:
        found = await sql.execute(self._kind.count, [above, list(ids)])
        return dict(await found.fetchall())

    async def _fence(self, sql: psycopg.AsyncConnection, ids: Collection[str]) -> None:
        counted = await self._counted(sql, ids, 0)
        kept = await self._mark(counted)
        behind = {ident: version for ident, version in kept.items() if version > counted[ident]}
        if behind:  # Postgres went back: what the cache has is of a version that it does not know of
            await self._mark(await self._counted(sql, behind, max(behind.values())))

    @asynccontextmanager
    async def writing(self, sql: psycopg.AsyncConnection) -> AsyncIterator[Begin]:
        """A transaction, and what is called in it, with ids, before their rows are written: once, when all is checked.

        A call raises SystemMissing, with nothing written, while a shard of theirs does not answer. What is begun and then not
        written costs readers a query each until its mark ends.
        """
        begun: dict[str, float] = {}

        async def begin(*ids: str) -> None:
            begun.update(dict.fromkeys(ids, time.monotonic()))
            await sql.execute(_BOUNDS, [f"{CHANGE_MOST_S}s"] * 2)
            await self._fence(sql, ids)  # 1

        async with sql.transaction():
            yield begin
            if begun and time.monotonic() - min(begun.values()) > MARK_S - CHANGE_MOST_S:
                raise SystemMissing("system_missing", "the change took too long", next_step="try again")
            # 2
        if begun:
            with contextlib.suppress(psycopg.Error):  # it is committed: the next reader keeps it
                await self._keep(await self._kind.rows(sql, list(begun)))  # 3
