"""Background tasks end, also one whose first cancellation is taken by a time-out inside it."""

from __future__ import annotations

import asyncio

import pytest

from serving.ending import end_tasks

pytestmark = [pytest.mark.unit]


def test_a_task_that_swallows_a_cancellation_ends_all_the_same() -> None:
    async def run() -> list[bool]:
        swallowed = 0

        async def stubborn() -> None:
            nonlocal swallowed
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    swallowed += 1
                    if swallowed > 1:
                        raise

        async def failed() -> None:
            raise ValueError("had ended by itself")

        tasks = [asyncio.create_task(task()) for task in (stubborn, failed)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await end_tasks(tasks)
        return [task.done() for task in tasks]

    assert [True, True] == asyncio.run(run())
