"""Presence: whose sockets are open, over all handlers.

Written when a user's first socket in this process opens and when the last one closes, never in between: a member
`user|handler` holds while its handler is in the registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from redis.exceptions import RedisError

from contracts import names
from contracts.errors import LakeboardError
from serving.access.tokens import HOST, PLAYER
from serving.live.registry import Registry
from serving.sessions.session import Session
from serving.sessions.store import SessionStore, now_us

LOG = logging.getLogger(__name__)
TELL_AGAIN_S = 1.0
# A host has some time from their last socket on (serving/sessions/pacing.py); a sealed session's hash is not made again.
_HOST_SEEN = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'host_seen_us', ARGV[1]) end"
)
Key = tuple[str, str]
"""(role, user_id)."""


class Presence:
    """What this process tells of its own sockets, and reads of everybody's."""

    def __init__(self, store: SessionStore, registry: Registry) -> None:
        self.store = store
        self.registry = registry
        self._here: dict[str, Counter[Key]] = {}
        self._told: dict[str, set[Key]] = {}
        self._telling: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def enter(self, session_id: str, role: str, user_id: str) -> None:
        """A socket has opened."""
        self._here.setdefault(session_id, Counter())[role, user_id] += 1
        await self.sync(session_id)

    async def leave(self, session_id: str, role: str, user_id: str) -> None:
        """A socket has closed."""
        here = self._here.get(session_id)
        if here is None:
            return
        here[role, user_id] -= 1
        if here[role, user_id] <= 0:
            del here[role, user_id]
        if not here:
            del self._here[session_id]
        await self.sync(session_id)

    async def sync(self, session_id: str) -> None:
        """Makes the shard know what holds here; if it is away, a later call does it. Nothing to do costs nothing.

        One call a session at a time: of many who come in together the first one's call tells the others' too.
        """
        if session_id in self._telling:
            return
        self._telling.add(session_id)
        try:
            while await self._tell_difference(session_id):
                pass
        except (RedisError, OSError, LakeboardError) as error:
            LOG.warning("presence_not_told session=%s error=%s", session_id, error)
        finally:
            self._telling.discard(session_id)
            if set(self._here.get(session_id, ())) != self._told.get(session_id, set()):
                self._tell_later(session_id)

    def _tell_later(self, session_id: str) -> None:
        """Tries again what could not be told, or was cancelled: after a last socket nothing else would."""
        if session_id in self._later:
            return

        def tell() -> None:
            del self._later[session_id]
            task = asyncio.create_task(self.sync(session_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._later[session_id] = asyncio.get_running_loop().call_later(TELL_AGAIN_S, tell)

    async def _tell_difference(self, session_id: str) -> bool:
        """Writes what has changed since the last time; False if nothing has."""
        wanted = set(self._here.get(session_id, ()))
        told = self._told.get(session_id, set())
        if wanted == told:
            return False
        client = await self.store.client_of(session_id)
        async with client.pipeline(transaction=True) as pipe:
            for role, user_id in wanted - told:
                pipe.sadd(names.session_present(session_id, role), self._member(user_id))
            for role, user_id in told - wanted:
                pipe.srem(names.session_present(session_id, role), self._member(user_id))
                if role == HOST:
                    pipe.eval(_HOST_SEEN, 1, names.session(session_id), now_us())
            if wanted and not told:
                pipe.sadd(names.session_handlers(session_id), self.registry.id)
            if told and not wanted:
                pipe.srem(names.session_handlers(session_id), self.registry.id)
            pipe.publish(names.channel(session_id), "presence")
            await pipe.execute()
        if wanted:
            self._told[session_id] = wanted
        else:
            self._told.pop(session_id, None)
        return True

    async def connected(self, session_id: str, role: str = PLAYER) -> set[str]:
        """Users with an open socket in a role, on any handler that is there."""
        shard = await self.store.shard_of(session_id)
        members = await self.store.connections.texts[shard].smembers(names.session_present(session_id, role))
        handlers = await self.registry.alive(shard)
        pairs = (member.split("|") for member in members)
        return {user_id for user_id, handler in pairs if handler in handlers}

    async def handlers(self, session_id: str) -> set[str]:
        """Handlers that have a socket of the session; some may be gone."""
        client = await self.store.client_of(session_id)
        return set(await client.smembers(names.session_handlers(session_id)))

    async def host_here(self, shard: int, session: Session) -> bool:
        """Whether the session's host has an open socket on any handler."""
        return session.host_id in await self.connected(session.session_id, HOST)

    def _member(self, user_id: str) -> str:
        return names.present_member(user_id, self.registry.id)
