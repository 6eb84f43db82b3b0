"""The clock's side of sessions: one process a shard closes questions at their deadline and leads what has no host.

Every api process runs it; a lease a shard lets one of them work. A second that believes it has the lease (a stalled
process wakes) does no harm: the epoch lets one of two moves through.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time

from redis.exceptions import RedisError, ResponseError

from contracts import names
from contracts.errors import LakeboardError
from serving.boards.acknowledged import ALLOW_OOM
from serving.ending import end_tasks
from serving.sessions.hosting import Hosting, Presence
from serving.sessions.store import SessionStore, now_us

LOG = logging.getLogger(__name__)
# How late a due move may be by itself; each look is one read of an index.
LOOK_EVERY_S = 0.05
# After a look that found something: a question that was closed is revealed at once.
AFTER_WORK_S = 0.002
LEASE_MS = 2_000
RENEW_EVERY_S = 0.5
# A session whose move failed is tried again after this.
PUT_OFF_US = 1_000_000
# Sessions a look: a shard with more due at once does the rest in the next one, 50 ms later.
DUE_AT_ONCE = 100
# Take it if it is free, renew it if it is one's own: 1 while it is held.
_HOLD = (
    ALLOW_OOM + "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end "
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
)
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Pacer:
    """One process' pacing of all shards."""

    def __init__(self, store: SessionStore, hosting: Hosting, presence: Presence) -> None:
        self.store = store
        self.hosting = hosting
        self.presence = presence
        self.token = secrets.token_hex(8)
        self._held_until: dict[int, float] = {}
        self._renew_at: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """One loop a shard: a shard that is away holds no other up."""
        shards = range(len(self.store.connections.texts))
        self._tasks = [asyncio.create_task(self._run(shard)) for shard in shards]

    async def stop(self) -> None:
        """Ends the loops and gives the leases back, so that another process goes on at once."""
        await end_tasks(self._tasks)
        for shard in list(self._held_until):
            try:
                client = self.store.connections.texts[shard]
                await client.eval(_RELEASE, 1, names.lease("pacer"), self.token)
            except RedisError as error:
                LOG.warning("lease_not_released shard=%d error=%s", shard, error)

    async def holds(self, shard: int) -> bool:
        """Whether this process leads a shard; takes or renews the lease when it is time to."""
        now = time.monotonic()
        if now >= self._renew_at.get(shard, 0.0):
            self._renew_at[shard] = now + RENEW_EVERY_S
            held = await self.store.connections.texts[shard].eval(
                _HOLD, 1, names.lease("pacer"), self.token, LEASE_MS
            )
            if held:
                # Counted from before the call: the lease may have begun then.
                self._held_until[shard] = now + LEASE_MS / 1000
            else:
                self._held_until.pop(shard, None)
        return time.monotonic() < self._held_until.get(shard, 0.0)

    async def look(self, shard: int) -> int:
        """Does what is due on a shard; how many sessions were looked at without an error."""
        done = 0
        for session_id in await self.store.due(shard, now_us(), DUE_AT_ONCE):
            try:
                await self.hosting.run_due(shard, session_id, self.presence)
                done += 1
            except LakeboardError as error:
                # One session that cannot move must not stop the others, nor a hundred of them fill every look.
                LOG.warning("due_failed session=%s error=%s", session_id, error)
                try:
                    await self.store.put_off(shard, session_id, now_us() + PUT_OFF_US)
                except ResponseError as refused:  # those behind it are looked at all the same
                    LOG.warning("due_not_put_off session=%s error=%s", session_id, refused)
        return done

    async def _run(self, shard: int) -> None:
        while True:
            pause = LOOK_EVERY_S
            try:
                if not await self.holds(shard):
                    pause = RENEW_EVERY_S
                elif await self.look(shard):
                    pause = AFTER_WORK_S
            except (RedisError, OSError) as error:
                LOG.warning("pacing_paused shard=%d error=%s", shard, error)
                pause = 1.0
            except Exception:
                # Whatever it is, sessions of other quizzes on the shard must go on.
                LOG.exception("pacing_failed shard=%d", shard)
                pause = 1.0
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))
