"""A running session while Postgres is down, while an api process dies, and over two api processes at once."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.services.daemons import start_postgres
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice

pytestmark = pytest.mark.faults


def test_a_session_goes_on_without_postgres(tmp_path: Path, valkey_urls: list[str]) -> None:
    postgres = start_postgres(tmp_path / "postgres")
    api = ApiProcess(tmp_path / "api", valkey_urls, postgres.url)
    try:
        table = Table(api, "Ada", "Grace")
        table.host("next").raise_for_status()
        postgres.kill()
        for _ in range(3):
            question = table.current()
            assert table.answer(0, question, right_choice(question)).json()["points"] > 0
            table.host("close").raise_for_status()
            table.host("next").raise_for_status()
        joined = table.client.post("/v1/join", json={"pin": table.session["pin"], "name": "Late"})
        assert (503, "system_missing") == (joined.status_code, joined.json()["code"])
        board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
        assert board["entries"][0]["name"] is None and board["entries"][0]["points"] > 0
        assert table.client.get("/readyz").status_code == 200
        postgres.start()
        deadline = time.monotonic() + 20
        while joined.status_code == 503 and time.monotonic() < deadline:
            joined = table.client.post("/v1/join", json={"pin": table.session["pin"], "name": "Late"})
        assert joined.status_code == 201
    finally:
        api.stop()
        postgres.stop()


async def _until(socket: Any, kind: str) -> dict[str, Any]:
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 10))
        if message["type"] == kind:
            return message


async def _over_two(first: ApiProcess, second: ApiProcess, table: Table) -> None:
    def address(api: ApiProcess, token: str) -> str:
        return api.url.replace("http", "ws") + "/v1/live?token=" + token

    async with websockets.connect(address(second, table.session["token"])) as host:
        player = await websockets.connect(address(first, table.players[0]["token"]))
        await asyncio.to_thread(table.host, "next")
        question = await _until(player, "question")
        assert (await _until(host, "question"))["question_id"] == question["question_id"]
        sent = json.dumps(
            {"type": "answer", "question_id": question["question_id"], "choice": right_choice(question)}
        )
        await player.send(sent)
        result = await _until(player, "result")
        while not (await _until(host, "board"))["entries"][0]["points"]:
            pass
        first.child.kill()
        async with websockets.connect(address(second, table.players[0]["token"])) as back:
            assert (await _until(back, "welcome"))["answered"] == question["question_id"]
            await back.send(sent)
            again = await _until(back, "result")
            assert again["repeat"] and (again["points"], again["total"]) == (
                result["points"],
                result["total"],
            )


def test_an_api_process_dies_and_its_player_comes_back_elsewhere(
    tmp_path: Path, valkey_urls: list[str], postgres_url: str
) -> None:
    second = ApiProcess(tmp_path / "second", valkey_urls, postgres_url)
    first = ApiProcess(tmp_path / "first", valkey_urls, postgres_url)
    try:
        asyncio.run(_over_two(first, second, Table(second, "Ada")))
    finally:
        first.stop()
        second.stop()
