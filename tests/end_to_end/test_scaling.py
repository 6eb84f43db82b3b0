"""`scale api N` while people play: every answer is taken, every socket lands somewhere, no request fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cli.stack.scale import read_scale
from clients.live_client import LiveClient
from tests.end_to_end.whole_stack import WholeStack, until
from tests.serving.live.test_play import right_choice

pytestmark = pytest.mark.end_to_end
PLAYERS = 40
STEPS = (4, 1, 2)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[WholeStack]:
    """Live play alone."""
    stack = WholeStack(tmp_path)
    stack.run("up", "--profile", "live")
    yield stack
    stack.run("down", "--purge")


async def _scale(stack: WholeStack, *arguments: str) -> Any:
    return await asyncio.to_thread(stack.document, "scale", "api", *arguments, "--json")


class Game:
    """One challenge, in which each player answers at once whatever is shown, over and over in new challenges."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = {"X-API-Key": key}
        self.over = asyncio.Event()
        self.answers = 0
        self.connects = 0
        self.reads = 0
        self.handlers: set[str] = set()

    async def play(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, headers=self.key, timeout=30) as http:
            while not self.over.is_set():
                made = await http.post("/v1/sessions", json={"quiz_id": "starter-a1", "open_for_s": 600})
                session = made.raise_for_status().json()["session_id"]
                joined = await http.post(f"/v1/sessions/{session}/join", json={"name": f"p{number}"})
                await self._answer_all(joined.raise_for_status().json()["token"])

    async def _answer_all(self, token: str) -> None:
        socket = self.url.replace("http", "ws") + "/v1/live"
        async with LiveClient(socket, token) as client:
            while (question := await client.next())["type"] == "question" and not self.over.is_set():
                result = await client.answer(question["question_id"], right_choice(question))
                assert result["correct"] and result["total"] > 0
                assert client.welcome
                self.handlers.add(client.welcome["handler"])
                self.answers += 1
                await asyncio.sleep(0.1)
            self.connects += client.connects

    async def read(self) -> None:
        """A page that somebody keeps asking for."""
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            while not self.over.is_set():
                reply = await http.get("/v1/leaderboards/quiz:starter-a1/daily/current")
                assert 200 == reply.status_code, reply.text
                self.reads += 1
                await asyncio.sleep(0.02)


@pytest.mark.long
def test_more_and_fewer_processes_during_a_game(stack: WholeStack) -> None:
    settings = stack.layout.settings("live")
    url = f"http://127.0.0.1:{stack.layout.port('web')}"

    async def play() -> Game:
        game = Game(url, stack.layout.secrets["importer_key"])
        tasks = [asyncio.create_task(game.play(number)) for number in range(PLAYERS)]
        tasks.append(asyncio.create_task(game.read()))
        await asyncio.sleep(2)
        for count in STEPS:
            game.handlers.clear()
            assert {"wanted": count, "ready": count, "auto": None} == await _scale(stack, str(count))
            await asyncio.sleep(3)
            if count > 1:
                assert count == len({name.rsplit("-", 1)[0] for name in game.handlers}), game.handlers
        game.over.set()
        # gather raises what any of them met: a refused answer, a page that was not 200.
        await asyncio.gather(*tasks)
        return game

    game = asyncio.run(play())
    assert game.answers > 100 and game.reads > 50
    with psycopg.connect(settings.postgres_url, autocommit=True) as sql:
        recorded = "select count(*) from history where type = 'answer.v1'"
        until(
            lambda: sql.execute(recorded).fetchone() == (game.answers,), 60, "history has every answer once"
        )


async def _ask_on_and_on(port: int, over: Callable[[], bool]) -> None:
    """Requests without a client's own cost: what is measured is the server's load."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not over():
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: api\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        await reader.readexactly(length)
    writer.close()


@pytest.mark.long
def test_load_adds_a_process_and_calm_takes_it_away(stack: WholeStack) -> None:
    assert 1 == stack.document("scale", "api", "1", "--json")["ready"]
    auto = stack.document("scale", "api", "auto", "--min", "1", "--max", "2", "--json")
    assert {"wanted": 1, "ready": 1, "auto": {"min": 1, "max": 2}} == auto

    def count() -> int:
        return read_scale(stack.layout.run).count

    async def crowd() -> None:
        deadline = time.monotonic() + 90
        asks = [
            _ask_on_and_on(stack.layout.port("api_1"), lambda: count() == 2 or time.monotonic() > deadline)
            for _ in range(4)
        ]
        await asyncio.gather(*asks)

    asyncio.run(crowd())
    assert 2 == count()
    until(lambda: stack.document("scale", "api", "--json")["ready"] == 2, 60, "the second one is ready")
    until(lambda: count() == 1, 150, "calm takes it away")
    until(lambda: stack.document("scale", "api", "--json")["ready"] == 1, 60, "it has ended")
