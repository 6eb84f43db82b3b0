"""Limits by address and by user: a school gets in, a flood does not; what is counted, said and forgotten."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets

from contracts.errors import BadInput
from contracts.settings import Settings
from serving.access.limits import network_of, policies_of
from tests.services.daemons import start_valkey
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

pytestmark = pytest.mark.service
PHONES = 200


@pytest.fixture
def limited(tmp_path: Path, postgres_url: str) -> Iterator[ApiProcess]:
    """An api with the limits that a user gets, on a shard of its own: nobody else is counted there."""
    shard = start_valkey(tmp_path / "valkey")
    defaults = Settings()
    api = ApiProcess(
        tmp_path / "api",
        [shard.url],
        postgres_url,
        limit_joins=defaults.limit_joins,
        limit_openings=defaults.limit_openings,
        limit_messages="5/2 seconds",
        limit_requests="5/2 seconds",
    )
    yield api
    api.stop()
    shard.stop()


def opened(api: ApiProcess) -> dict[str, str]:
    reply = httpx.post(f"{api.url}/v1/sessions", json={"quiz_id": "starter-a1"})
    assert 201 == reply.status_code, reply.text
    found: dict[str, str] = reply.json()
    return found


async def joins(api: ApiProcess, pin: str, count: int, **headers: str) -> list[httpx.Response]:
    """Replies to joins of so many phones, 50 under way at a time."""
    turns = asyncio.Semaphore(50)
    async with httpx.AsyncClient(base_url=api.url, timeout=60, headers=headers) as client:

        async def one(number: int) -> httpx.Response:
            async with turns:
                return await client.post("/v1/join", json={"pin": pin, "name": f"p{number}"})

        return await asyncio.gather(*(one(number) for number in range(count)))


@pytest.mark.parametrize("flood", [400, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_school_behind_one_address_gets_in_and_a_flood_does_not(limited: ApiProcess, flood: int) -> None:
    pin = opened(limited)["pin"]
    school = asyncio.run(joins(limited, pin, PHONES))
    assert {201} == {reply.status_code for reply in school}
    assert all(reply.headers["ratelimit-policy"].startswith('"joins";q=300;w=10') for reply in school)

    replies = asyncio.run(joins(limited, pin, flood))
    counts = Counter(reply.status_code for reply in replies)
    assert {201, 429} == counts.keys()
    assert counts[201] <= 2_000 - PHONES
    refused = next(reply for reply in replies if reply.status_code == 429)
    problem = refused.json()
    assert ("too_many_requests", 429) == (problem["code"], problem["status"])
    assert f"try again in {refused.headers['retry-after']} s" == problem["next_step"]
    assert refused.headers["ratelimit"].startswith('"joins";r=0;t=')
    # Others are not held by it; the importer's key is not counted; a forged one is.
    elsewhere = asyncio.run(joins(limited, pin, 1, **{"X-Forwarded-For": "192.0.2.7"}))
    assert 201 == elsewhere[0].status_code
    assert 201 == asyncio.run(joins(limited, pin, 1, **{"X-API-Key": IMPORTER_KEY}))[0].status_code
    assert 401 == asyncio.run(joins(limited, pin, 1, **{"X-API-Key": "forged"}))[0].status_code


def test_a_socket_that_floods_is_told_and_then_not_read(limited: ApiProcess) -> None:
    session = opened(limited)
    player = asyncio.run(joins(limited, session["pin"], 1))[0].json()

    async def play() -> tuple[Counter[str], float]:
        address = limited.url.replace("http", "ws") + f"/v1/live?token={player['token']}"
        async with websockets.connect(address) as line:
            # What cannot be read counts too: the pings' turn comes after it.
            for _ in range(3):
                await line.send("garbage")
            for number in range(20):
                await line.send(json.dumps({"type": "ping", "ref": str(number)}))
            began, found = time.monotonic(), Counter[str]()
            while sum(found.values()) < 7:
                message = json.loads(await line.recv())
                if message["type"] in ("pong", "error"):
                    found[message.get("code", message["type"])] += 1
            return found, time.monotonic() - began

    found, took_s = asyncio.run(play())
    assert {"malformed_body": 3, "pong": 2, "too_many_requests": 2} == found
    assert took_s > 1


def test_a_user_that_asks_too_often_over_http_is_told(limited: ApiProcess) -> None:
    session = opened(limited)
    players = [reply.json() for reply in asyncio.run(joins(limited, session["pin"], 2))]
    body = {"question_id": "a1-apple", "choice": "apple"}

    def codes(player: dict[str, str], times: int) -> list[int]:
        headers = {"Authorization": f"Bearer {player['token']}"}
        address = f"{limited.url}/v1/sessions/{session['session_id']}/answers"
        return [httpx.post(address, json=body, headers=headers).status_code for _ in range(times)]

    assert 429 not in codes(players[0], 5)
    assert 429 in codes(players[0], 3)
    assert 429 not in codes(players[1], 1)


def test_while_the_counting_shard_is_away_a_process_counts_alone(tmp_path: Path, postgres_url: str) -> None:
    shard = start_valkey(tmp_path / "valkey")
    api = ApiProcess(tmp_path / "api", [shard.url], postgres_url, limit_joins="3/minute")
    try:
        before = asyncio.run(joins(api, "000000", 1))
        shard.stop()
        replies = asyncio.run(joins(api, "000000", 5))
    finally:
        api.stop()
    assert [404] == [reply.status_code for reply in before]
    # Without its shard no PIN can be looked up, which is another error than the limit's. What was let in before counts.
    assert {429: 3, 503: 2} == Counter(reply.status_code for reply in replies)


def test_addresses_are_counted_by_what_one_customer_has() -> None:
    assert "192.0.2.1" == network_of("192.0.2.1") == network_of("::ffff:192.0.2.1")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert "testclient" == network_of("testclient")


def test_a_limit_that_cannot_be_read_names_its_setting() -> None:
    with pytest.raises(BadInput) as caught:
        policies_of(Settings(limit_joins="many"))
    assert "limit_joins" in caught.value.detail
