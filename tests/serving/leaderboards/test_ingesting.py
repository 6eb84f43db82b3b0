"""`fresh=true`: who asks sees a run that began after them; one run at a time; what fails, hangs or is left is said or ended."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from contracts.errors import BadInput, LakeboardError
from serving.leaderboards.ingesting import Ingest

pytestmark = pytest.mark.unit


def command(folder: Path, end: str) -> str:
    """Writes a begin and an end with the clock between a pause, then does `end`."""
    log = folder / "log"
    return f"sh -c 'date +begin-%s%N >> {log}; sleep 0.2; date +end-%s%N >> {log}; {end}'"


def runs(folder: Path) -> list[tuple[int, int]]:
    """(begin, end) of each run in ns; they never overlap if the file alternates."""
    lines = (folder / "log").read_text().split()
    assert ["begin", "end"] * (len(lines) // 2) == [line.split("-")[0] for line in lines]
    times = [int(line.split("-")[1]) for line in lines]
    return list(zip(times[::2], times[1::2], strict=True))


def test_everybody_gets_a_run_that_began_after_they_asked(tmp_path: Path) -> None:
    async def ask(ingest: Ingest) -> tuple[int, int]:
        asked = time.time_ns()
        await ingest.done()
        return asked, time.time_ns()

    async def go() -> list[tuple[int, int]]:
        ingest = Ingest(command(tmp_path, "exit 0"))
        asks = []
        for _ in range(12):
            asks.append(asyncio.create_task(ask(ingest)))
            await asyncio.sleep(0.04)
        return await asyncio.gather(*asks)

    told = asyncio.run(go())
    done = runs(tmp_path)
    assert len(done) < len(told)
    for asked, answered in told:
        assert any(asked <= begin and end <= answered for begin, end in done)


@pytest.mark.parametrize(("end", "code"), [("exit 3", "system_missing"), ("exit 1", "overloaded")])
def test_a_run_that_fails_is_said(tmp_path: Path, end: str, code: str) -> None:
    ingest = Ingest(command(tmp_path, end))
    with pytest.raises(LakeboardError) as caught:
        asyncio.run(ingest.done())
    assert code == caught.value.code


def test_a_run_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    # The child would write its end in 0.2 s if the group did not go with it.
    ingest = Ingest(f'sh -c "{command(tmp_path, "exit 0")} & wait"', limit_s=0.1)
    with pytest.raises(LakeboardError) as caught:
        asyncio.run(ingest.done())
    time.sleep(0.4)
    assert ("overloaded", 1) == (caught.value.code, len((tmp_path / "log").read_text().split()))


def test_a_caller_that_goes_takes_no_run_from_others(tmp_path: Path) -> None:
    async def go() -> None:
        ingest = Ingest(command(tmp_path, "exit 0"))
        first, second = asyncio.create_task(ingest.done()), asyncio.create_task(ingest.done())
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        # A process that stops leaves nothing running.
        last = asyncio.create_task(ingest.done())
        await asyncio.sleep(0.1)
        await ingest.end()
        assert isinstance((await asyncio.gather(last, return_exceptions=True))[0], BaseException)

    asyncio.run(go())
    time.sleep(0.3)
    assert ["begin", "end", "begin"] == [
        line.split("-")[0] for line in (tmp_path / "log").read_text().split()
    ]


def test_without_a_command_it_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        asyncio.run(Ingest("").done())
    assert "ingest_command" in caught.value.detail
