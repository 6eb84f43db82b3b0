"""Names of users, remembered for a while and looked up together: who is not known waits for one query with all the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

# A changed or deleted name shows for this long.
NAMES_FOR_S = 10.0
# About 15 MB.
REMEMBERED_NAMES = 100_000

# A reply waits no longer for names; without them it is still the board.
LOOK_UP_S = 2.0

Read = Callable[[list[str]], Awaitable[dict[str, str] | None]]


class UserNames:
    """One process' memory. read: id → name of those that have one, None while nobody can say; it raises nothing."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[str, tuple[float, str]] = {}
        self._wanted: set[str] = set()
        self._next: asyncio.Task[None] | None = None
        self._one_query = asyncio.Lock()

    async def of(self, ids: Sequence[str]) -> dict[str, str]:
        """id → name of those of `ids` that have one, as they were at most `NAMES_FOR_S` ago; while they cannot be
        looked up, as they were when they could."""
        now = time.monotonic()
        missing = [user for user in ids if (found := self._known.get(user)) is None or found[0] < now]
        before = {user: found for user in ids if (found := self._known.get(user))}
        if missing:
            self._wanted.update(missing)
            if self._next is None:
                self._next = asyncio.create_task(self._look_up())
            # Shielded: a caller that goes leaves the query to those who wait with it.
            await asyncio.shield(self._next)
        return {
            user: found[1]
            for user in ids
            if (found := self._known.get(user) or before.get(user)) and found[1]
        }

    async def _look_up(self) -> None:
        async with self._one_query:
            # From here on it is under way: who comes now waits for the next one.
            self._next = None
            wanted, self._wanted = self._wanted, set()
            read = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_UP_S):
                    read = await self._read(sorted(wanted))
        if read is None:
            return
        for user in list(self._known)[: len(self._known) + len(wanted) - REMEMBERED_NAMES]:
            del self._known[user]  # those that were learned first
        until = time.monotonic() + NAMES_FOR_S
        self._known.update({user: (until, read.get(user, "")) for user in wanted})
