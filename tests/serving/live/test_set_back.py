"""A shard that has less than it had shown, or that hangs: what a promotion without the last writes looks like."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import redis.asyncio
from redis import Redis
from redis.exceptions import RedisError

from clients.live_client import LiveClient
from contracts import names
from serving.live import rooms
from tests.services.daemons import start_valkey
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table

pytestmark = pytest.mark.service


def test_players_come_back_to_what_holds(api: ApiProcess, valkey_urls: list[str]) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()

    async def play() -> tuple[int, int, int]:
        address = api.url.replace("http", "ws") + "/v1/live"
        async with LiveClient(address, table.players[0]["token"]) as ada:
            await ada.until("question")
            await ada.until("board")
            seen_epoch = ada.epoch or 0
            for url in valkey_urls:  # the other shard has nothing of it
                with Redis.from_url(url) as client:
                    if client.exists(names.session(table.id)):
                        lost = {"state": "lobby", "epoch": 0, "version": 0, "question_index": -1}
                        client.hset(names.session(table.id), mapping=lost)
                        client.publish(names.channel(table.id), "state")
            lobby = await asyncio.wait_for(ada.until("lobby"), 15)
            return seen_epoch, lobby["epoch"], ada.connects

    seen, now, connects = asyncio.run(play())
    assert now < seen and connects == 2


def test_reads_side_by_side_set_nobody_back(api: ApiProcess) -> None:
    """Greetings read beside the loop, and replies come in any order: nobody's socket is closed for it."""
    table = Table(api, *(f"p{n}" for n in range(30)))

    async def play() -> list[int]:
        address = api.url.replace("http", "ws") + "/v1/live"
        clients = [LiveClient(address, player["token"]) for player in table.players]
        await asyncio.gather(*(client.__aenter__() for client in clients))
        for move in ("next", "skip", "skip", "pause", "resume", "skip"):
            await asyncio.to_thread(table.host, move)
            await asyncio.gather(*(client.break_line() for client in clients[::5]))
        await asyncio.sleep(2)
        kept = [client.connects for at, client in enumerate(clients) if at % 5]
        await asyncio.gather(*(client.__aexit__() for client in clients))
        return kept

    assert {1} == set(asyncio.run(play()))


def test_a_subscription_to_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    shard = start_valkey(tmp_path)

    async def listen() -> float:
        client = redis.asyncio.Redis.from_url(shard.url, protocol=2, decode_responses=True)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.psubscribe(names.channel("*"))
        await rooms.heard(pubsub)
        with Redis.from_url(shard.url) as other:
            other.publish(names.channel("s1"), "state")
        message = None
        while message is None:
            message = await rooms.heard(pubsub)
        assert "state" == message["data"]
        os.kill(shard.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises((TimeoutError, RedisError)):
                while True:
                    await rooms.heard(pubsub)
            return time.monotonic() - began
        finally:
            os.kill(shard.pid, signal.SIGCONT)
            await client.aclose()

    try:
        assert asyncio.run(listen()) < 4 * rooms.QUIET_S + 2
    finally:
        shard.stop()
