"""Pacing under a lease: of two processes one does what is due, each move once, and the other takes over when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from contracts import names
from contracts.settings import Settings
from serving.connections import Connections
from serving.live.pacer import LEASE_MS, Pacer
from serving.live.presence import Presence
from serving.live.registry import LOST_US, Registry, alive
from serving.sessions.hosting import Hosting
from serving.sessions.opening import Opening
from serving.sessions.session import ORDER_FIELD, Question
from serving.sessions.store import SessionStore, now_us
from tests.services.daemons import start_valkey

SESSIONS = 20
QUESTION = Question("q1", "Which?", ("a", "b"), "a", "definition_to_word")


class Process:
    """What one api process has of pacing."""

    def __init__(self, *urls: str) -> None:
        self.connections = Connections.of(
            Settings(valkey_urls=urls, postgres_url="postgresql://127.0.0.1:1/x")
        )
        self.store = SessionStore(self.connections)
        self.registry = Registry(self.connections, "api")
        self.presence = Presence(self.store, self.registry)
        self.pacer = Pacer(self.store, Hosting(self.store, Opening(self.store)), self.presence)

    async def die(self) -> None:
        """Ends without giving its lease back."""
        for task in self.pacer._tasks:
            task.cancel()
        await asyncio.gather(*self.pacer._tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.connections.shards.close()
        for client in self.connections.texts:
            await client.aclose()


async def overdue(process: Process, session_id: str, shard: int = 0, **more: str) -> None:
    """A session whose question's time is over, and whose host left long ago."""
    client = process.connections.texts[shard]
    past = now_us() - 3_600_000_000
    fields = {"quiz_id": "quiz", "state": "question", "epoch": 5, "question_id": "q1", "question_index": 0}
    times = {"shown_at_us": past, "deadline_us": past, "started_at_us": past, "tick_ms": 10, "questions": 1}
    await client.hset(names.session(session_id), mapping={**fields, **times, **more})
    await client.hset(
        names.session_questions(session_id), mapping={"q1": QUESTION.to_json(), ORDER_FIELD: '["q1"]'}
    )
    await client.zadd(names.due_sessions(), {session_id: past})


async def states(process: Process) -> set[tuple[str, int]]:
    sessions = [await process.store.load(f"s{number}") for number in range(SESSIONS)]
    return {(session.state, session.epoch) for session in sessions}


async def until(process: Process, wanted: set[tuple[str, int]]) -> None:
    async with asyncio.timeout(20):
        while await states(process) != wanted:
            await asyncio.sleep(0.02)


@pytest.mark.service
def test_one_process_paces_and_another_takes_over(tmp_path: Path) -> None:
    daemon = start_valkey(tmp_path)

    async def play() -> None:
        first, second = Process(daemon.url), Process(daemon.url)
        assert await first.pacer.holds(0) and not await second.pacer.holds(0)
        for number in range(SESSIONS):
            await overdue(first, f"s{number}")
        first.pacer.start()
        second.pacer.start()
        # Closed, then revealed: two moves each, whoever looked.
        await until(first, {("reveal", 7)})
        assert not await second.pacer.holds(0)
        await first.die()
        client = first.connections.texts[0]
        for number in range(SESSIONS):  # the reveal has been up for an hour, the host away for longer
            await client.hset(names.session(f"s{number}"), "phase_at_us", 1)
            await client.zadd(names.due_sessions(), {f"s{number}": 1})
        began = asyncio.get_running_loop().time()
        await until(second, {("podium", 8)})
        assert asyncio.get_running_loop().time() - began < 5 * LEASE_MS / 1000
        # A process that stops in good order leaves the lease at once.
        await second.pacer.stop()
        assert await client.get(names.lease("pacer")) is None
        for process in (first, second):
            await process.close()

    try:
        asyncio.run(play())
    finally:
        daemon.stop()


@pytest.mark.service
def test_a_shard_that_is_away_holds_no_other_up(tmp_path: Path) -> None:
    away, there = (start_valkey(tmp_path / name) for name in ("away", "there"))

    async def play() -> None:
        process = Process(away.url, there.url)
        await overdue(process, "s1", shard=1)
        away.kill()
        # Asked for by a process that has never seen it: the first shard cannot tell, the second has it.
        assert 1 == await process.store.shard_of("s1")
        process.connections.session_shards.clear()
        process.pacer.start()
        async with asyncio.timeout(20):
            while (await process.store.load("s1")).state != "reveal":
                await asyncio.sleep(0.05)
        await process.pacer.stop()
        await process.close()

    try:
        asyncio.run(play())
    finally:
        away.stop()
        there.stop()


@pytest.mark.service
def test_a_session_that_cannot_move_makes_room_for_others(tmp_path: Path) -> None:
    daemon = start_valkey(tmp_path)

    async def play() -> None:
        process = Process(daemon.url)
        await overdue(
            process, "s1", state="reveal", mode="challenge"
        )  # a phase that a challenge does not have
        assert 0 == await process.pacer.look(0)
        assert await process.connections.texts[0].zscore(names.due_sessions(), "s1") > now_us()
        await process.close()

    try:
        asyncio.run(play())
    finally:
        daemon.stop()


@pytest.mark.service
def test_a_host_is_seen_until_their_last_socket_also_when_the_shard_is_away_then(tmp_path: Path) -> None:
    daemon = start_valkey(tmp_path)

    async def play() -> None:
        process = Process(daemon.url)
        await overdue(process, "s1", host_id="h")
        await process.registry.beat()
        session = await process.store.load("s1")
        await process.presence.enter("s1", "host", "h")
        assert await process.presence.host_here(0, session)
        daemon.kill()
        gone = now_us()
        await process.presence.leave("s1", "host", "h")
        daemon.start()
        async with asyncio.timeout(20):
            while (await process.store.load("s1")).host_seen_us < gone:
                await asyncio.sleep(0.05)
        await process.registry.beat()
        assert not await process.presence.host_here(0, session)
        await process.close()

    try:
        asyncio.run(play())
    finally:
        daemon.stop()


@pytest.mark.faults
def test_a_shard_that_hangs_loses_no_handler_on_the_others(tmp_path: Path) -> None:
    hung, there = (start_valkey(tmp_path / name) for name in ("hung", "there"))

    async def play() -> None:
        process = Process(hung.url, there.url)
        await process.registry.start()
        os.kill(hung.pid, signal.SIGSTOP)
        end = time.monotonic() + 2 * LOST_US / 1e6
        while time.monotonic() < end:
            entries = await process.connections.texts[1].hgetall(names.handlers())
            assert [process.registry.id] == list(alive(entries, now_us()))
            await asyncio.sleep(0.2)
        os.kill(hung.pid, signal.SIGCONT)
        await process.registry.stop()
        await process.close()

    try:
        asyncio.run(play())
    finally:
        hung.stop()
        there.stop()
