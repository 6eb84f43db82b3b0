"""Sessions as their players meet them: removal, locks, late joiners, resume, challenges, and a host who goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from clients.live_client import Closed, LiveClient, Message, Refused
from contracts import names
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.live.test_play import Table, bearer, code, right_choice

pytestmark = pytest.mark.service


def line(api: ApiProcess, token: str) -> LiveClient:
    return LiveClient(api.url.replace("http", "ws") + "/v1/live", token)


async def board_where(client: LiveClient, holds: Any) -> Message:
    """The next board for which something holds."""
    async with asyncio.timeout(20):
        while not holds(board := await client.until("board")):
            pass
    return board


@asynccontextmanager
async def shard_with(urls: list[str], session_id: str) -> AsyncIterator[Any]:
    """A client of the shard that has a session."""
    clients: list[Any] = [Redis.from_url(url, decode_responses=True) for url in urls]
    try:
        for client in clients:
            if await client.exists(names.session(session_id)):
                yield client
    finally:
        for client in clients:
            await client.aclose()


def test_a_removed_player_is_out_and_comes_back_with_their_points(api: ApiProcess) -> None:
    table = Table(api, "Ada", "Grace")
    ada, grace = (seat["user_id"] for seat in table.players)

    def players(move: str, user: str) -> Any:
        path = f"/v1/sessions/{table.id}/players/{user}/{move}"
        return table.client.post(path, headers=bearer(table.session["token"]))

    async def play() -> None:
        async with (
            line(api, table.players[0]["token"]) as first,
            line(api, table.players[1]["token"]) as second,
        ):
            await asyncio.to_thread(table.host, "next")
            question = await first.until("question")
            best = await first.answer(question["question_id"], right_choice(question))
            assert 1 == best["rank"]
            assert (await asyncio.to_thread(players, "remove", ada)).status_code == 200
            with pytest.raises(Closed) as closed:
                await first.until("never")
            assert 4403 == closed.value.code
            # What is shown closes the gap; the board itself, a function of the record, keeps the row.
            board = await board_where(second, lambda b: 1 == b["participants"])
            assert [(1, grace)] == [(row["rank"], row["user_id"]) for row in board["entries"]]
            wrong = next(c for c in question["choices"] if c != right_choice(question))
            assert 1 == (await second.answer(question["question_id"], wrong))["rank"]
            whole = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
            assert [ada, grace] == [row["user_id"] for row in whole["entries"]]
            with pytest.raises(Closed):
                async with line(api, table.players[0]["token"]):
                    pass
            # What had counted is told again; nothing new is taken.
            assert table.answer(0, question, wrong).json()["repeat"]
            await asyncio.to_thread(table.host, "next")
            following = await second.until("question")
            refused = table.answer(0, following, right_choice(following))
            assert (403, "player_removed") == code(refused)
            assert (await asyncio.to_thread(players, "readmit", ada)).status_code == 200
            board = await board_where(second, lambda b: 2 == b["participants"])
            assert (ada, best["total"]) == (board["entries"][0]["user_id"], board["entries"][0]["points"])
            assert table.answer(0, following, right_choice(following)).json()["rank"] == 1

    asyncio.run(play())
    assert (404, "unknown_user") == code(players("remove", "nobody"))


def test_a_locked_room_lets_in_only_who_is_in(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("lock").raise_for_status()
    join = {"pin": table.session["pin"], "name": "Late"}
    assert (409, "session_locked") == code(table.client.post("/v1/join", json=join))

    async def back() -> None:
        async with line(api, table.players[0]["token"]) as ada:
            assert (await ada.until("lobby"))["locked"]

    asyncio.run(back())
    table.host("unlock").raise_for_status()
    assert 201 == table.client.post("/v1/join", json=join).status_code


def test_a_late_joiner_gets_the_question_with_the_sessions_clock(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()
    question = table.current()

    async def late() -> None:
        seat = table.client.post("/v1/join", json={"pin": table.session["pin"], "name": "Late"}).json()
        async with line(api, seat["token"]) as client:
            shown = await client.until("question")
            assert (question["shown_at_us"], question["deadline_us"]) == (
                shown["shown_at_us"],
                shown["deadline_us"],
            )
            assert client.welcome["answered"] is None

    asyncio.run(late())


def test_a_client_that_comes_back_gets_only_what_is_newer(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()

    async def play() -> None:
        async with line(api, table.players[0]["token"]) as ada:
            question = await ada.until("question")
            first = await ada.answer(question["question_id"], right_choice(question))
            await board_where(ada, lambda b: b["entries"][0]["points"] == first["total"])
            epoch, before = ada.epoch, ada.connects
            await ada.break_line()
            welcome = await ada.until("welcome")
            assert (before + 1, question["question_id"]) == (ada.connects, welcome["answered"])
            assert (first["points"], first["total"], True) == (
                welcome["last_result"]["points"],
                welcome["last_result"]["total"],
                welcome["last_result"]["repeat"],
            )
            # The phase has not moved: the next one that comes is the host's next move.
            await asyncio.to_thread(table.host, "close")
            assert (epoch or 0) < (await ada.until("question", "closed", "reveal"))["epoch"]

    asyncio.run(play())


def test_an_answer_on_a_broken_line_is_sent_again_and_counts_once(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()

    async def play() -> None:
        async with line(api, table.players[0]["token"]) as ada:
            question = await ada.until("question")
            answering = asyncio.create_task(ada.answer(question["question_id"], right_choice(question)))
            await asyncio.sleep(0)
            await ada.break_line()
            result = await asyncio.wait_for(answering, 20)
            assert result["points"] == result["total"] > 0

    asyncio.run(play())
    board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
    assert 1 == board["participants"] and 500 <= board["entries"][0]["points"] <= 1000


def test_a_move_sent_twice_is_done_once(api: ApiProcess) -> None:
    table = Table(api)
    table.host("next").raise_for_status()
    epoch = table.current()["epoch"]
    path, headers = f"/v1/sessions/{table.id}/next", bearer(table.session["token"])
    assert 200 == table.client.post(path, headers=headers, json={"epoch": epoch}).status_code
    again = table.client.post(path, headers=headers, json={"epoch": epoch})
    assert (409, "session_conflict") == code(again)
    assert 1 == table.current()["question_index"]


def test_of_many_moves_at_once_one_is_done_and_answers_are_either_told_or_refused(api: ApiProcess) -> None:
    table = Table(api, *(f"Player {number}" for number in range(12)))
    table.host("next").raise_for_status()
    question, headers = table.current(), bearer(table.session["token"])
    path = f"/v1/sessions/{table.id}"
    body = {"question_id": question["question_id"], "choice": right_choice(question)}

    async def race() -> tuple[list[int], list[Any]]:
        async with httpx.AsyncClient(base_url=api.url, timeout=20) as http:

            async def close(number: int) -> int:
                await asyncio.sleep(0.002 * number)
                epoch = {"epoch": question["epoch"]}
                return (await http.post(f"{path}/close", headers=headers, json=epoch)).status_code

            async def answer(seat: dict[str, Any], number: int) -> Any:
                await asyncio.sleep(0.002 * number)
                reply = await http.post(f"{path}/answers", headers=bearer(seat["token"]), json=body)
                return reply.json()

            answers = [answer(seat, number) for number, seat in enumerate(table.players)]
            closes = await asyncio.gather(*(close(number) for number in range(6)), *answers)
            return list(closes[:6]), list(closes[6:])

    closed, replies = asyncio.run(race())
    assert [200, 409, 409, 409, 409, 409] == sorted(closed)
    assert "reveal" == table.current()["type"]
    told = {reply["points"] for reply in replies if "points" in reply}
    assert {"question_closed"} >= {reply["code"] for reply in replies if "code" in reply}
    board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current?k=20").json()
    assert sum(reply.get("points", 0) for reply in replies) == sum(row["points"] for row in board["entries"])
    assert all(points >= 500 for points in told)


def test_a_session_goes_on_without_its_host(api: ApiProcess, valkey_urls: list[str]) -> None:
    """The times of `pacing` are tens of seconds, so the test moves the session's past instead of waiting for them."""
    table = Table(api, "Ada")
    table.host("next").raise_for_status()

    async def hour_passes(shard: Any, *fields: str) -> None:
        async with shard.pipeline(transaction=True) as pipe:
            for name in (*fields, "host_seen_us"):
                pipe.hincrby(names.session(table.id), name, -3_600_000_000)
            pipe.zadd(names.due_sessions(), {table.id: 1})
            await pipe.execute()

    async def play() -> None:
        async with (
            shard_with(valkey_urls, table.id) as shard,
            line(api, table.players[0]["token"]) as ada,
        ):
            question = await ada.until("question")
            await hour_passes(shard, "deadline_us")
            assert (await ada.until("reveal"))["answer"] == right_choice(question)
            with pytest.raises(Refused, match="question_closed"):
                await ada.answer(question["question_id"], right_choice(question))
            async with line(api, table.session["token"]):
                # The host is there: nothing moves, however long it takes.
                await hour_passes(shard, "phase_at_us")
                while await shard.zscore(names.due_sessions(), table.id) == 1:
                    await asyncio.sleep(0.02)
                assert "reveal" == (await shard.hget(names.session(table.id), "state"))
            # The host has gone; when the time is over the session goes on.
            await asyncio.sleep(0.2)
            await hour_passes(shard, "phase_at_us")
            await ada.until("standings")
            await hour_passes(shard, "phase_at_us")
            assert 1 == (await ada.until("question"))["question_index"]

    asyncio.run(asyncio.wait_for(play(), 40))


def test_a_challenge_is_everybodys_own_and_ends_by_the_clock(api: ApiProcess, valkey_urls: list[str]) -> None:
    table = Table(api)
    client = table.client
    assert (409, "session_conflict") == code(
        client.post(f"/v1/sessions/{table.id}/join", json={"name": "Ada"})
    )
    made = client.post("/v1/sessions", json={"quiz_id": "starter-a1", "open_for_s": 600}).json()
    path = f"/v1/sessions/{made['session_id']}"
    ada, bob = (client.post(f"{path}/join", json={"name": name}).json() for name in ("Ada", "Bob"))

    def own_next(seat: dict[str, Any]) -> dict[str, Any]:
        return client.post(f"{path}/own/next", headers=bearer(seat["token"])).json()

    def answer(seat: dict[str, Any], question: dict[str, Any], choice: str) -> Any:
        body = {"question_id": question["question_id"], "choice": choice}
        return client.post(f"{path}/answers", headers=bearer(seat["token"]), json=body)

    first = own_next(ada)
    assert "answer" not in first and first["shown_at_us"] == own_next(ada)["shown_at_us"]
    assert answer(ada, first, right_choice(first)).json()["correct"]
    second = own_next(ada)
    assert 1 == second["question_index"]
    # Bob has not been shown the second question yet.
    assert (409, "question_closed") == code(answer(bob, second, right_choice(second)))
    assert first["question_id"] == own_next(bob)["question_id"]
    assert (409, "session_conflict") == code(client.get(f"{path}/review", headers=bearer(ada["token"])))
    assert (409, "session_conflict") == code(client.post(f"{path}/next", headers=bearer(made["token"])))

    async def time_is_over() -> None:
        async with shard_with(valkey_urls, made["session_id"]) as shard, line(api, bob["token"]) as socket:
            await socket.until("challenge")
            await shard.hset(names.session(made["session_id"]), "deadline_us", 1)
            await shard.zadd(names.due_sessions(), {made["session_id"]: 1})
            await asyncio.wait_for(socket.until("ended"), 20)

    asyncio.run(time_is_over())
    assert (409, "session_ended") == code(answer(bob, first, right_choice(first)))
    questions = client.get(f"{path}/review", headers=bearer(ada["token"])).json()["questions"]
    assert [right_choice(q) for q in questions] == [q["answer"] for q in questions]


def test_presence_and_placement(api: ApiProcess) -> None:
    table = Table(api, "Ada", "Grace")

    async def play() -> None:
        async with (
            line(api, table.session["token"]) as host,
            line(api, table.players[0]["token"]) as ada,
        ):
            await board_where(host, lambda b: (b["participants"], b["connected"]) == (2, 1))
            assert ada.welcome["handler"].startswith(f"api-{api.port}-")
            headers = bearer(table.session["token"])
            rows = table.client.get(f"/v1/sessions/{table.id}/players", headers=headers).json()["players"]
            assert [("Ada", True), ("Grace", False)] == [(row["name"], row["connected"]) for row in rows]
            placed = table.client.get(f"/v1/sessions/{table.id}/handler", headers=headers).json()
            assert {"handler": f"api-{api.port}", "path": f"/v1/live?handler=api-{api.port}"} == placed
            key = {"X-API-Key": IMPORTER_KEY}
            handlers = table.client.get("/internal/handlers", headers=key).json()["handlers"]
            assert f"api-{api.port}" in {handler["name"] for handler in handlers}
            async with line(api, table.players[0]["token"]), line(api, table.players[1]["token"]):
                await board_where(host, lambda b: b["connected"] == 2)
            # A player's second socket has closed: the first one still counts.
            await board_where(host, lambda b: b["connected"] == 1)

    asyncio.run(asyncio.wait_for(play(), 40))
