"""Handlers: the processes that hold sockets. Each says on every shard that it is there; placement picks one of them.

An entry whose last beat is old is void, and with it every presence it named: a handler that dies needs no clean-up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redis.exceptions import RedisError

from contracts import names
from serving.boards.acknowledged import ALLOW_OOM
from serving.connections import Connections
from serving.ending import end_tasks
from serving.sessions.store import now_us

LOG = logging.getLogger(__name__)
BEAT_S = 2.0
# A shard answers within this or is left out of a beat.
BEAT_WAIT_S = 1.0
# Three beats: a stall of one or two is not a death.
LOST_US = 6_000_000
# After this a lost handler's entry is deleted.
FORGET_US = 60_000_000
# How long one reading of the registry serves.
READ_FOR_S = 1.0
# A session stays together on its handlers while they have at most this many sockets more than the least loaded one:
# one read and one encoding then serve all of its players. Beyond, evenness counts for more.
SPREAD_SOCKETS = 500


@dataclass(frozen=True, slots=True)
class Handler:
    """One process. name: what the gateway knows it by; sockets: how many it holds; draining: it takes no new ones."""

    id: str
    name: str
    sockets: int
    draining: bool
    beat_us: int


def alive(entries: Mapping[str, str], now: int) -> dict[str, Handler]:
    """The handlers whose last beat is recent, from the registry's hash. Pure."""
    # Field by field: an entry of a newer process may have more.
    fields = (json.loads(text) for text in entries.values())
    found = (Handler(**{name: each[name] for name in Handler.__slots__}) for each in fields)
    return {handler.id: handler for handler in found if now - handler.beat_us <= LOST_US}


def place(handlers: Iterable[Handler], having: Iterable[str]) -> Handler | None:
    """The handler for a new socket of a session that `having` already hold sockets of; None if none takes any. Pure."""
    able = [handler for handler in handlers if not handler.draining]
    if not able:
        return None

    def load(handler: Handler) -> tuple[int, str]:
        return handler.sockets, handler.id

    least = min(able, key=load)
    theirs = set(having)
    near = [h for h in able if h.id in theirs and h.sockets <= least.sockets + SPREAD_SOCKETS]
    return min(near, key=load, default=least)


_BEAT = ALLOW_OOM + "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"


class Registry:
    """This process' entry, and what it knows of the others."""

    def __init__(self, connections: Connections, name: str) -> None:
        self.connections = connections
        self.name = name
        self.id = f"{name}-{secrets.token_hex(4)}"
        self.sockets = 0
        self.draining = False
        self._read: dict[int, tuple[float, dict[str, Handler]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Says that it is there, then goes on saying so."""
        await self.beat()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Takes its entry out of the registry."""
        if self._task is not None:
            await end_tasks([self._task])
        for client in self.connections.texts:
            try:
                await client.hdel(names.handlers(), self.id)
            except RedisError as error:
                LOG.warning("handler_not_removed error=%s", error)

    async def beat(self) -> None:
        """Writes this process' entry on every shard that answers."""
        entry = json.dumps(asdict(Handler(self.id, self.name, self.sockets, self.draining, now_us())))

        async def write(shard: int) -> None:
            try:
                async with asyncio.timeout(BEAT_WAIT_S):
                    await self.connections.texts[shard].eval(_BEAT, 1, names.handlers(), self.id, entry)
            except (RedisError, OSError, TimeoutError) as error:
                LOG.warning("beat_lost shard=%d error=%r", shard, error)

        # Side by side and bounded: a shard that hangs must not make this process look lost on the others.
        await asyncio.gather(*map(write, range(len(self.connections.texts))))
        self._read.clear()

    async def alive(self, shard: int) -> dict[str, Handler]:
        """The handlers that a shard knows to be there, read at most once a second."""
        known = self._read.get(shard)
        if known and time.monotonic() - known[0] < READ_FOR_S:
            return known[1]
        entries = await self.connections.texts[shard].hgetall(names.handlers())
        found = alive(entries, now_us())
        self._read[shard] = (time.monotonic(), found)
        return found

    async def alive_anywhere(self) -> dict[str, Handler]:
        """The handlers that any shard knows; a shard that is away is left out."""
        found: dict[str, Handler] = {}
        for shard in range(len(self.connections.texts)):
            try:
                found |= await self.alive(shard)
            except RedisError as error:
                LOG.warning("registry_not_read shard=%d error=%s", shard, error)
        return found

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
                await asyncio.gather(*map(self._forget_lost, self.connections.texts))
            except Exception:
                LOG.exception("beat_failed")  # without beats nobody would be sent here: the next one is tried

    async def _forget_lost(self, client: Any) -> None:
        try:
            async with asyncio.timeout(BEAT_WAIT_S):
                for ident, text in (await client.hgetall(names.handlers())).items():
                    if now_us() - json.loads(text)["beat_us"] > FORGET_US:
                        await client.hdel(names.handlers(), ident)
        except (RedisError, OSError, TimeoutError) as error:
            LOG.warning("registry_not_read error=%r", error)
