"""A line to a shard: replies in order, errors as redis-py's, and what a server that dies, hangs or comes back does to it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts.settings import ShardAddress
from serving.boards import line as module
from serving.boards.line import Line
from serving.boards.ticks import Ticks
from tests.services.daemons import Daemon, start_valkey

pytestmark = pytest.mark.service


def run(daemon: Daemon, body: Callable[[Line], Awaitable[None]]) -> None:
    async def main() -> None:
        line = Line(ShardAddress(daemon.url))
        try:
            await body(line)
        finally:
            line.close()

    asyncio.run(main())


@pytest.fixture
def daemon(tmp_path: Path) -> Any:
    found = start_valkey(tmp_path)
    yield found
    found.stop()


def test_many_calls_at_once_get_their_own_replies(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        asked = [line.ask(("SET", f"k{n}", n), ("GET", f"k{n}"), ("LPUSH", f"k{n}", 1)) for n in range(500)]
        for number, (done, value, wrong) in enumerate(await asyncio.gather(*asked)):
            assert (b"OK", str(number).encode()) == (done, value)
            assert isinstance(wrong, ResponseError)

    run(daemon, body)


def test_a_server_that_dies_fails_what_is_under_way_and_is_used_again_when_it_is_back(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        assert [b"PONG"] == await line.ask(("PING",))
        waiting = [asyncio.ensure_future(line.ask(("BLPOP", "nothing", 30))) for _ in range(3)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(daemon.kill)
        for one in waiting:
            with pytest.raises(RedisConnectionError):
                await one
        # What was not sent yet waits until the server is back, and is sent once.
        late = asyncio.ensure_future(line.ask(("INCR", "count")))
        await asyncio.sleep(0.3)
        assert not late.done()
        await asyncio.to_thread(daemon.start)
        assert [1] == await late

    run(daemon, body)


def test_a_server_that_stays_away_is_given_up(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        await asyncio.to_thread(daemon.kill)
        began = time.monotonic()
        with pytest.raises(RedisConnectionError, match="cannot connect"):
            await line.ask(("PING",))
        assert time.monotonic() - began < module.UNSENT_WAIT_S + 2 * module.CONNECT_WAIT_S
        await asyncio.to_thread(daemon.start)
        assert [b"PONG"] == await line.ask(("PING",))

    run(daemon, body)


def test_a_server_that_hangs_is_given_up(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND_WAIT_S", 0.5)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.1)

    async def body(line: Line) -> None:
        await line.ask(("PING",))
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                await line.ask(("PING",))
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        assert [b"PONG"] == await line.ask(("PING",))

    run(daemon, body)


def test_a_wrong_password_is_an_error_of_every_call(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        wrong = Line(ShardAddress(daemon.url.replace("redis://", "redis://:nonsense@")))
        with pytest.raises(RedisConnectionError, match="the login failed"):
            await wrong.ask(("PING",))
        wrong.close()

    run(daemon, body)


def test_one_that_is_a_replica_now_refuses_and_is_left(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        (before,) = await line.ask(("CLIENT", "ID"))
        await line.ask(("REPLICAOF", "127.0.0.1", 1))
        with pytest.raises(ResponseError):
            await line.ask(("SET", "k", 1), ("PING",))
        after, _ = await line.ask(("CLIENT", "ID"), ("REPLICAOF", "NO", "ONE"))
        assert after > before  # a new connection

    run(daemon, body)


def test_reads_of_one_tick_go_together_and_a_script_is_loaded_once_it_is_missed(daemon: Daemon) -> None:
    async def body(line: Line) -> None:
        ticks = Ticks(line, "#!lua flags=no-writes\nreturn {KEYS[1], ARGV[1]}")
        for _ in range(2):
            found = await asyncio.gather(*(ticks.call([f"k{n}"], n) for n in range(200)))
            assert [[f"k{n}".encode(), str(n).encode()] for n in range(200)] == found
            await line.ask(("SCRIPT", "FLUSH"))

    run(daemon, body)
