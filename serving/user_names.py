"""Names of users, remembered for a while and looked up together: who is not known waits for one query with all the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from serving.next_run import NextRun

# A changed or deleted name shows for this long.
NAMES_FOR_S = 10.0
# About 15 MB.
REMEMBERED_NAMES = 100_000
# A reply waits no longer for names; without them it is still the board.
LOOK_UP_S = 2.0

Read = Callable[[list[str]], Awaitable[dict[str, str] | None]]


class UserNames:
    """One process' memory. read: id → name of those that have one, None while nobody can say; it raises nothing."""

    def __init__(self, read: Read, most: int = REMEMBERED_NAMES) -> None:
        self._read = read
        self._most = most
        self._known: dict[str, tuple[float, str]] = {}
        self._wanted: set[str] = set()
        self._queries = NextRun(self._look_up)

    async def of(self, ids: Sequence[str]) -> dict[str, str]:
        """id → name of those of `ids` that have one, as they were at most `NAMES_FOR_S` ago; while they cannot be
        looked up, as they were when they could."""
        now, known = time.monotonic(), self._known
        fresh = {}
        for user in ids:
            one = known.get(user)
            if one is None or one[0] < now:
                break
            if one[1]:
                fresh[user] = one[1]
        else:
            return fresh
        before = {user: found for user in ids if (found := self._known.get(user))}
        missing = [user for user in ids if user not in before or before[user][0] < now]
        if missing:
            self._wanted.update(missing)
            await self._queries.done()
        now_known = ((user, self._known.get(user) or before.get(user)) for user in ids)
        return {user: found[1] for user, found in now_known if found and found[1]}

    async def _look_up(self) -> None:
        wanted, self._wanted = self._wanted, set()
        read = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_UP_S):
                read = await self._read(sorted(wanted))
        if read is None:
            return
        until = time.monotonic() + NAMES_FOR_S
        self._known.update({user: (until, read.get(user, "")) for user in wanted})
        # What was learned first goes first.
        for user in list(islice(self._known, max(0, len(self._known) - self._most))):
            del self._known[user]
