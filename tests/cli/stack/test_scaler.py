"""The scaler inside a real supervisor: nobody goes before those that are to stay are there."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from cli.stack.layout import Layout
from cli.stack.process import Process
from cli.stack.scale import Scale, write_scale
from cli.stack.scaler import LOOK_S, Scaler, numbers
from cli.stack.supervisor import Supervisor

pytestmark = pytest.mark.service


def sleeper(folder: Path, ready: set[int], number: int) -> Process:
    """A process that is ready when the test says so; nobody answers on its port, so there is nothing to drain."""
    return Process(
        name=f"api_{number}", command=("sleep", "60"), folder=folder, ready=lambda: number in ready
    )


def test_scaling_down_waits_for_those_that_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, 40_000)
    ready = {2}
    routed: list[list[int]] = []
    define = partial(sleeper, tmp_path, ready)
    scaler = Scaler(layout, define, routed.append)
    supervisor = Supervisor(
        [define(1), define(2)], layout.run, tmp_path / "logs", {}, {"profile": "live"}, scaler.run
    )
    (tmp_path / "logs").mkdir()

    async def go() -> None:
        write_scale(layout.run, Scale(1))
        running = asyncio.create_task(supervisor.main())
        await asyncio.sleep(6 * LOOK_S)
        assert [1, 2] == numbers(supervisor)  # the first one, which is to stay, is not there yet
        assert [[2]] == routed
        ready.add(1)
        async with asyncio.timeout(20):
            while numbers(supervisor) != [1]:
                await asyncio.sleep(0.05)
        assert [1] == routed[-1]
        write_scale(layout.run, Scale(3))
        ready.update((2, 3))
        async with asyncio.timeout(20):
            while routed[-1] != [1, 2, 3]:
                await asyncio.sleep(0.05)
        supervisor.stopping.set()
        await running

    asyncio.run(go())
