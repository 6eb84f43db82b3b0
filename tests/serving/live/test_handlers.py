"""One session over two handlers: all see the same; one drains, or dies, and nobody's answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from clients.live_client import LiveClient, Message
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.live.test_play import Table, bearer, right_choice

KEY = {"X-API-Key": IMPORTER_KEY}


@pytest.fixture
def second(tmp_path: Path, valkey_urls: list[str], postgres_url: str) -> Iterator[ApiProcess]:
    """Another handler over the same shards."""
    process = ApiProcess(tmp_path / "second", valkey_urls, postgres_url)
    yield process
    process.stop()


class Seen(LiveClient):
    """A client of one handler, that may go to the other one, and keeps the boards and phases it saw."""

    def __init__(self, first: ApiProcess, other: ApiProcess, token: str) -> None:
        url, another = (api.url.replace("http", "ws") + "/v1/live" for api in (first, other))
        super().__init__(url, token, others=(another,))
        self.boards: dict[int, Message] = {}
        self.phases: dict[int, Message] = {}

    def _take(self, message: Message) -> None:
        if message["type"] == "board":
            self.boards[message["seq"]] = message
        elif "epoch" in message and message["type"] != "welcome":
            self.phases[message["epoch"]] = {**message, "now_us": 0, "seq": 0}
        super()._take(message)


async def everybody_answers(table: Table, players: list[Seen]) -> list[Message]:
    """Opens a question; each player answers it, every third wrongly."""
    await asyncio.to_thread(table.host, "next")

    async def one(number: int, player: Seen) -> Message:
        question = await player.until("question")
        wrong = next(c for c in question["choices"] if c != right_choice(question))
        choice = wrong if number % 3 == 2 else right_choice(question)
        return await player.answer(question["question_id"], choice)

    return list(await asyncio.gather(*(one(number, player) for number, player in enumerate(players))))


async def seated(stack: AsyncExitStack, table: Table, apis: list[ApiProcess]) -> list[Seen]:
    """A connected client a player, on the two handlers in turn."""
    return [
        await stack.enter_async_context(Seen(apis[number % 2], apis[1 - number % 2], seat["token"]))
        for number, seat in enumerate(table.players)
    ]


async def agree(players: list[Seen], total: int) -> Message:
    """Waits until every player has been shown a board with this sum; returns the newest. Equal numbers, equal boards."""

    def newest(player: Seen) -> Message | None:
        return player.boards[max(player.boards)] if player.boards else None

    async with asyncio.timeout(30):
        while True:
            boards = [newest(player) for player in players]
            if all(board and total == sum(row["points"] for row in board["entries"]) for board in boards):
                break
            await asyncio.sleep(0.05)
    for kind in ("phases", "boards"):
        by_number: dict[int, Message] = {}
        for player in players:
            for number, message in getattr(player, kind).items():
                shown = {**message, "connected": 0}
                assert by_number.setdefault(number, shown) == shown
    assert boards[0] is not None
    return boards[0]


@pytest.mark.service
def test_two_handlers_show_the_same_and_one_drains(api: ApiProcess, second: ApiProcess) -> None:
    table = Table(api, *(f"Player {number}" for number in range(8)))
    headers = bearer(table.session["token"])

    def placed() -> str:
        return str(table.client.get(f"/v1/sessions/{table.id}/handler", headers=headers).json()["handler"])

    async def play() -> None:
        async with AsyncExitStack() as stack:
            players = await seated(stack, table, [api, second])
            handlers = {player.welcome["handler"].rpartition("-")[0] for player in players}
            assert {f"api-{api.port}", f"api-{second.port}"} == handlers
            first = await everybody_answers(table, players)
            await agree(players, sum(result["points"] for result in first))
            drained = httpx.post(f"{second.url}/internal/drain", headers=KEY).json()
            assert 4 == drained["sockets"]
            ready = httpx.get(f"{second.url}/readyz")
            assert (503, "draining") == (ready.status_code, ready.json()["code"])
            # Nobody waits for the others to have moved: what is under way is answered on either.
            again = await everybody_answers(table, players)
            await agree(players, sum(result["points"] for result in [*first, *again]))
            async with asyncio.timeout(20):
                while httpx.post(f"{second.url}/internal/drain", headers=KEY).json()["sockets"]:
                    await asyncio.sleep(0.1)
            async with asyncio.timeout(20):
                while any(p.welcome["handler"].rpartition("-")[0] != f"api-{api.port}" for p in players):
                    await asyncio.sleep(0.1)
            assert f"api-{api.port}" == await asyncio.to_thread(placed)

    asyncio.run(asyncio.wait_for(play(), 90))


@pytest.mark.faults
def test_a_handler_is_killed_under_two_hundred_players(api: ApiProcess, second: ApiProcess) -> None:
    table = Table(api, *(f"Player {number}" for number in range(200)))

    async def play() -> None:
        async with AsyncExitStack() as stack:
            players = await seated(stack, table, [api, second])
            before = await everybody_answers(table, players)
            answering = asyncio.create_task(everybody_answers(table, players))
            await asyncio.sleep(0.3)
            second.child.kill()
            after = await asyncio.wait_for(answering, 60)
            assert all(result["points"] == 0 for result in after[2::3])
            board = table.client.get(
                f"/v1/leaderboards/session:{table.id}/all_time/current", params={"k": 200}
            ).json()
            assert 200 == board["participants"] == len(board["entries"])
            told = sum(result["points"] for result in [*before, *after])
            assert told == sum(row["points"] for row in board["entries"])

    asyncio.run(asyncio.wait_for(play(), 150))
