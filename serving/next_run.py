"""Work that many ask for at once: one run at a time, and who asks while one is under way shares the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serving.ending import end_tasks


class NextRun:
    """Runs `work` for those who ask. Each gets a run that began after they asked; any number costs two at most.

    The work takes at its beginning what it needs of those who asked: from there on nobody else joins it.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._one_run = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()

    async def done(self) -> None:
        """Returns when a run that began after this call has ended; raises what it raises. It goes on if its caller goes."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._runs.add(self._next)
            self._next.add_done_callback(self._over)
        await asyncio.shield(self._next)

    async def end(self) -> None:
        """Ends what is under way and what waits."""
        await end_tasks(self._runs)

    def _over(self, run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        if not run.cancelled():
            run.exception()  # looked at here, since its callers may have gone

    async def _run(self) -> None:
        async with self._one_run:
            self._next = None
            await self._work()
