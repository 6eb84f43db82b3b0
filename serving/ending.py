"""Ends the background tasks of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

# A task that has not ended by then has lost its cancellation, or cleans up: both stand another one.
CANCEL_AGAIN_S = 0.5


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels the tasks until all have ended, whatever they end with.

    Once is not enough: a client's own time-out that expires at the same moment takes the cancellation for its own, and a
    loop that goes on after an error then never ends.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
