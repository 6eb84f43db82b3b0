"""What a hostile or broken client sends to the play socket, and what comes of it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import jwt
import pytest
import websockets
from redis import Redis

from clients.live_client import LiveClient, Refused
from contracts import names
from serving.access.tokens import PLAYER, TOKEN_LIFE_S, Identity, sign
from tests.serving.api_process import JWT_KEY, ApiProcess
from tests.serving.live.test_play import Table, right_choice

pytestmark = pytest.mark.service


def address(api: ApiProcess, token: str) -> str:
    return api.url.replace("http", "ws") + "/v1/live?token=" + token


async def _refused(api: ApiProcess, token: str, **options: Any) -> tuple[str, int]:
    """The error and close code that a socket gets."""
    async with websockets.connect(address(api, token), **options) as line:
        error = json.loads(await line.recv())
        await line.wait_closed()
        return error["code"], line.close_code or 0


def test_tokens_that_open_nothing(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    claims = jwt.decode(table.players[0]["token"], options={"verify_signature": False})
    ada = Identity("ada", PLAYER, 7, table.id, "starter-a1", "Ada")
    expired = sign(ada, JWT_KEY, now_s=time.time() - TOKEN_LIFE_S - 60)
    unsigned = jwt.encode(claims, "", "none")
    other_key = jwt.encode(claims, "another key that is also long enough", "HS256")
    other_role = jwt.encode({**claims, "role": "importer-or-god"}, JWT_KEY, "HS256")
    for token in (expired, unsigned, other_key, other_role, "", "x.y.z"):
        assert ("unauthenticated", 4401) == asyncio.run(_refused(api, token)), token
    gone = jwt.encode({**claims, "session": "gone"}, JWT_KEY, "HS256")
    assert ("unknown_session", 4404) == asyncio.run(_refused(api, gone))
    spoken = [websockets.Subprotocol("live.v0")]
    found = asyncio.run(_refused(api, table.players[0]["token"], subprotocols=spoken))
    assert ("unsupported_protocol", 4400) == found


def test_an_id_does_not_tell_the_pin(api: ApiProcess) -> None:
    """The id is in the addresses of a session's boards; the PIN is what lets in."""
    table = Table(api, "Ada")
    shown = table.client.get(f"/v1/sessions/{table.id}").json()
    assert "lobby" == shown["current"]["type"]
    assert table.session["pin"] not in json.dumps({k: v for k, v in shown.items() if k != "now_us"})


def test_the_sockets_of_a_session_that_is_gone_are_closed(api: ApiProcess, valkey_urls: list[str]) -> None:
    table = Table(api, "Ada")

    async def play() -> int:
        async with websockets.connect(address(api, table.players[0]["token"])) as line:
            while json.loads(await line.recv())["type"] != "board":
                pass
            for url in valkey_urls:  # as sealing leaves it; the other shard has nothing of it
                with Redis.from_url(url) as client:
                    if client.delete(names.session(table.id)):
                        client.publish(names.channel(table.id), "state")
            async with asyncio.timeout(10):
                await line.wait_closed()
            return line.close_code or 0

    assert 4404 == asyncio.run(play())


def test_a_token_opens_its_own_session_only(api: ApiProcess) -> None:
    """Two sessions show the same question; the answer of one's player moves nothing in the other."""
    mine, theirs = Table(api, "Ada"), Table(api, "Grace")
    mine.host("next").raise_for_status()
    theirs.host("next").raise_for_status()

    async def play() -> None:
        async with LiveClient(address(api, "").partition("?")[0], mine.players[0]["token"]) as ada:
            question = theirs.current()
            assert (await ada.answer(question["question_id"], right_choice(question)))["points"] > 0

    asyncio.run(play())
    board = mine.client.get(f"/v1/leaderboards/session:{theirs.id}/all_time/current").json()
    assert [0] == [row["points"] for row in board["entries"]]


def test_a_score_or_a_time_of_the_clients_own_is_refused(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()
    question = table.current()
    honest = {"type": "answer", "question_id": question["question_id"], "choice": right_choice(question)}

    async def play() -> None:
        async with websockets.connect(address(api, table.players[0]["token"])) as line:
            for field, value in (
                ("points", 99_999),
                ("correct", True),
                ("elapsed_ms", 0),
                ("user_id", "grace"),
            ):
                await line.send(json.dumps({**honest, field: value}))
                error = json.loads(await line.recv())
                while error["type"] != "error":
                    error = json.loads(await line.recv())
                assert "unknown_field" == error["code"], field

    asyncio.run(play())
    board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
    assert [0] == [row["points"] for row in board["entries"]]


def test_after_the_deadline_nothing_counts_and_a_replay_changes_nothing(
    api: ApiProcess, valkey_urls: list[str]
) -> None:
    table = Table(api, "Ada", "Grace")
    table.host("next").raise_for_status()

    async def play() -> None:
        url = address(api, "").partition("?")[0]
        async with (
            LiveClient(url, table.players[0]["token"]) as ada,
            LiveClient(url, table.players[1]["token"]) as grace,
        ):
            question = await ada.until("question")
            frame = {
                "type": "answer",
                "question_id": question["question_id"],
                "choice": right_choice(question),
            }
            first = await ada.ask(frame)
            for url in valkey_urls:  # the question's time is over, whether or not it was closed yet
                with Redis.from_url(url) as shard:
                    if shard.exists(names.session(table.id)):
                        shard.hset(names.session(table.id), "deadline_us", question["shown_at_us"] + 1)
                        shard.hincrby(names.session(table.id), "epoch", 1)
            with pytest.raises(Refused, match="question_closed"):
                await grace.ask(frame)
            for choice in (frame["choice"], "another"):  # the same message again, and a better idea
                again = await ada.ask({**frame, "choice": choice})
                assert {**first, "repeat": True, "ref": again["ref"]} == again

    asyncio.run(play())


def test_a_frame_of_a_megabyte_ends_its_own_socket_only(api: ApiProcess) -> None:
    table = Table(api, "Ada", "Grace")

    async def play() -> None:
        async with (
            websockets.connect(address(api, table.players[0]["token"])) as bad,
            LiveClient(address(api, "").partition("?")[0], table.players[1]["token"]) as good,
        ):
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await bad.send("x" * 1_000_000)
                while True:
                    await bad.recv()
            code = closed.value.rcvd.code if closed.value.rcvd else 1006
            assert code in (1009, 1006)
            assert "pong" == (await good.ping())["type"]

    asyncio.run(asyncio.wait_for(play(), 30))


def test_a_reader_who_does_not_read_is_dropped_and_holds_nobody_up(api: ApiProcess) -> None:
    """The slow one asks for thousands of pongs and takes none; the other's answers come back meanwhile."""
    table = Table(api, "Ada", "Grace")

    async def play() -> None:
        slow = raw_socket(api, table.players[0]["token"])
        ping = masked(json.dumps({"type": "ping", "ref": "r" * 60}).encode())
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        async with LiveClient(address(api, "").partition("?")[0], table.players[1]["token"]) as good:
            dropped = False
            deadline = loop.time() + 40
            while not dropped and loop.time() < deadline:
                try:
                    await asyncio.wait_for(loop.sock_sendall(slow, ping * 50), 0.5)
                except TimeoutError:
                    pass  # the server has stopped reading from it
                except OSError:
                    dropped = True
                started = loop.time()
                assert "pong" == (await good.ping())["type"]
                assert loop.time() - started < 5
            assert dropped
        slow.close()

    asyncio.run(play())


def raw_socket(api: ApiProcess, token: str) -> socket.socket:
    """A socket after the handshake, with a small receive buffer, which nobody reads."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", api.port))
    found.sendall(
        f"GET /v1/live?token={token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in found.recv(64)
    return found


def masked(payload: bytes) -> bytes:
    """A client's text frame under 126 bytes (RFC 6455: masked, here with zeros)."""
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
