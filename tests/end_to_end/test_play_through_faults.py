"""A game on the whole stack while parts of it are away: every acknowledged answer is kept once, play never stops.

Postgres, Kafka, HDFS and QuestDB stand still for the first questions; then each api process and a Valkey primary is
killed in the middle of a question. Players do what the page does: come back, and send again what was not answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import websockets

from tests.end_to_end.whole_stack import WholeStack, until

pytestmark = pytest.mark.faults
PLAYERS = 6
AWAY = ("postgres", "kafka", "namenode", "datanode", "questdb")
# Question number → what is killed while it is open. Before these all of AWAY stands still.
KILLED = {5: "api_1", 7: "api_2", 9: "valkey_1", 10: "valkey_2"}
ANSWER_S = 30.0


class Player:
    """One player: answers each question once, over sockets that may end at any time."""

    def __init__(self, url: str, skill: int) -> None:
        self.url = url
        self.skill = skill
        self.results: dict[str, dict[str, Any]] = {}
        self.asked: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def play(self) -> None:
        while (question := await self.asked.get()) is not None:
            self.results[question["question_id"]] = await self._answer(question)

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The result, after as many sockets as it takes."""
        choice = question["choices"][self.skill % len(question["choices"])]
        frame = json.dumps({"type": "answer", "question_id": question["question_id"], "choice": choice})
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    async with websockets.connect(self.url) as socket:
                        await socket.send(frame)
                        async for text in socket:
                            message = json.loads(text)
                            if message["type"] == "result":
                                return dict(message)
                            if message["type"] == "error":
                                assert message["status"] >= 500, message
                                break
                except (OSError, websockets.WebSocketException):
                    pass
                await asyncio.sleep(0.1)


class Game:
    """The host's side, over HTTP through the gateway."""

    def __init__(self, http: httpx.AsyncClient, made: dict[str, Any]) -> None:
        self.http, self.made = http, made
        self.path = f"/v1/sessions/{made['session_id']}"

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The reply of a read, asked until a process answers."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    reply = await self.http.request(method, path, **more)
                    if reply.status_code < 500:
                        return dict(reply.raise_for_status().json())
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)

    async def current(self) -> dict[str, Any]:
        return dict((await self._ask("GET", self.path))["current"])

    async def next(self) -> dict[str, Any]:
        """The next question. A move whose reply was lost is seen by the epoch."""
        before = (await self.current())["epoch"]
        headers = {"Authorization": f"Bearer {self.made['token']}"}
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    await self.http.post(f"{self.path}/next", headers=headers)
                except httpx.TransportError:
                    pass
                now = await self.current()
                if now["epoch"] > before:
                    return now


@asynccontextmanager
async def game(stack: WholeStack) -> AsyncIterator[tuple[Game, list[Player]]]:
    base = f"http://127.0.0.1:{stack.layout.port('web')}"
    async with httpx.AsyncClient(base_url=base, timeout=5) as http:
        made = (await http.post("/v1/sessions", json={"quiz_id": "starter-a1"})).raise_for_status().json()
        players = []
        for number in range(PLAYERS):
            seat = await http.post("/v1/join", json={"pin": made["pin"], "name": f"Player {number}"})
            token = seat.raise_for_status().json()["token"]
            players.append(Player(f"{base.replace('http', 'ws')}/v1/live?token={token}", number))
        yield Game(http, made), players


async def play(stack: WholeStack) -> tuple[str, list[Player]]:
    """A whole game with its faults; the session's id and what each player was told."""
    async with game(stack) as (host, players):
        playing = [asyncio.create_task(player.play()) for player in players]
        with stack.frozen(*AWAY):
            for _ in range(1, min(KILLED)):
                await one_question(host, players)
        for number in range(min(KILLED), host.made["questions"] + 1):
            await one_question(host, players, stack, KILLED.get(number, ""))
        assert (await host.next())["type"] == "podium"
        for player in players:
            player.asked.put_nowait(None)
        await asyncio.gather(*playing)
    return host.made["session_id"], players


async def one_question(
    host: Game, players: list[Player], stack: WholeStack | None = None, kill: str = ""
) -> None:
    """Opens a question, lets half answer, kills a process, lets the rest answer, and waits for every result."""
    question = await host.next()
    assert question["type"] == "question", question
    for player in players[::2]:
        player.asked.put_nowait(question)
    if kill and stack:
        await asyncio.sleep(0.02)
        stack.kill(kill)
    for player in players[1::2]:
        player.asked.put_nowait(question)
    async with asyncio.timeout(ANSWER_S):
        while not all(question["question_id"] in player.results for player in players):
            await asyncio.sleep(0.02)


def test_a_game_goes_on_and_every_acknowledged_answer_is_kept_once(tmp_path: Path) -> None:
    stack = WholeStack(tmp_path)
    try:
        stack.run("up", "--without", "airflow,flink")
        session_id, players = asyncio.run(play(stack))
        told = {
            (result["question_id"], number): result["points"]
            for number, player in enumerate(players)
            for result in player.results.values()
        }
        assert PLAYERS * 12 == len(told)
        assert {"question_id", "points"} <= next(iter(players[0].results.values())).keys()
        stack.until_relayed()
        with stack.client() as client:
            board = client.get(f"/v1/leaderboards/session:{session_id}/all_time/current").json()
        expected = {
            f"Player {number}": sum(points for (_, who), points in told.items() if who == number)
            for number in range(PLAYERS)
        }
        assert expected == {entry["name"]: entry["points"] for entry in board["entries"]}
        with psycopg.connect(stack.layout.settings("full").postgres_url) as sql:
            kept = sql.execute(
                "select u.name, h.question_id, h.points from history h join users u using (user_id) "
                "where h.session_id = %s",
                (session_id,),
            ).fetchall()
        assert sorted(
            (f"Player {who}", question, points) for (question, who), points in told.items()
        ) == sorted(kept)
        in_the_lake(stack, session_id, len(told))
        until(lambda: stack.process("questdb")["state"] == "ready", 30, "nothing was taken down for good")
    finally:
        stack.run("down")


def in_the_lake(stack: WholeStack, session_id: str, answers: int) -> None:
    """Ingests (today is not settled, it has not ended) and counts."""
    today = datetime.now(UTC).date()
    stack.document("settle", "--from", str(today), "--to", str(today))
    query = (
        "select count(*) as n, count(distinct event_id) as ids, count(distinct (shard, seq)) as places "
        f"from answers where session_id = '{session_id}'"
    )
    assert [{"n": answers, "ids": answers, "places": answers}] == stack.rows(query)
