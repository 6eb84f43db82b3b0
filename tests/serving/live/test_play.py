"""A session from its creation to its end, over HTTP and sockets, with real Valkey and Postgres."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import jwt
import pytest
import websockets

from serving.quizzes.starter import right_answers
from tests.serving.api_process import JWT_KEY, ApiProcess

pytestmark = pytest.mark.service


class Table:
    """A session with its host and named players."""

    def __init__(self, api: ApiProcess, *names: str) -> None:
        self.client = httpx.Client(base_url=api.url, timeout=10)
        self.session = (
            self.client.post("/v1/sessions", json={"quiz_id": "starter-a1"}).raise_for_status().json()
        )
        self.id = self.session["session_id"]
        self.players = [
            self.client.post("/v1/join", json={"pin": self.session["pin"], "name": name})
            .raise_for_status()
            .json()
            for name in names
        ]

    def host(self, move: str) -> httpx.Response:
        return self.client.post(f"/v1/sessions/{self.id}/{move}", headers=bearer(self.session["token"]))

    def current(self) -> dict[str, Any]:
        return self.client.get(f"/v1/sessions/{self.id}").json()["current"]

    def answer(self, player: int, question: dict[str, Any], choice: str) -> httpx.Response:
        return self.client.post(
            f"/v1/sessions/{self.id}/answers",
            headers=bearer(self.players[player]["token"]),
            json={"question_id": question["question_id"], "choice": choice},
        )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def code(reply: httpx.Response) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    return reply.status_code, reply.json()["code"]


def right_choice(question: dict[str, Any]) -> str:
    return right_answers()[question["question_id"]]


def test_a_session_to_its_end(api: ApiProcess) -> None:
    table = Table(api, "Ada", "Grace")
    assert table.current()["type"] == "lobby"
    for _ in range(12):
        table.host("next").raise_for_status()
        question = table.current()
        assert "answer" not in question
        wrong = next(c for c in question["choices"] if c != right_choice(question))
        good = table.answer(0, question, right_choice(question)).json()
        bad = table.answer(1, question, wrong).json()
        assert good["correct"] and 500 <= good["points"] <= 1000 and good["rank"] == 1
        assert not bad["correct"] and bad["points"] == 0 and bad["rank"] == 2
        table.host("close").raise_for_status()
        assert right_choice(question) == table.current()["answer"]
    table.host("next").raise_for_status()
    assert table.current()["type"] == "podium"
    board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
    assert [("Ada", 1, good["total"]), ("Grace", 2, 0)] == [
        (e["name"], e["rank"], e["points"]) for e in board["entries"]
    ]
    assert board["participants"] == 2 and board["provenance"]["source"] == "redis"


def test_a_second_answer_is_a_repeat_even_after_the_end(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next")
    question = table.current()
    first = table.answer(0, question, right_choice(question)).json()
    wrong = next(c for c in question["choices"] if c != right_choice(question))
    for move in ("next", "end"):
        again = table.answer(0, question, wrong).json()
        assert again["repeat"] and again["points"] == first["points"]
        table.host(move)
    assert table.answer(0, question, wrong).json()["repeat"]


def test_quiz_boards_move_at_once(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next")
    question = table.current()
    result = table.answer(0, question, right_choice(question)).json()
    user = table.players[0]["user_id"]
    board = table.client.get("/v1/leaderboards/quiz:starter-a1/daily/current", params={"around": user}).json()
    assert result["points"] == board["me"]["points"]
    assert board["me"]["name"] == "Ada" and board["me"]["reached_at"].endswith("Z")


@pytest.mark.parametrize(
    ("move", "expected"), [("end", (409, "session_ended")), ("close", (409, "question_closed"))]
)
def test_late_answers_are_refused(api: ApiProcess, move: str, expected: tuple[int, str]) -> None:
    table = Table(api, "Ada")
    table.host("next")
    question = table.current()
    table.host(move)
    assert expected == code(table.answer(0, question, right_choice(question)))


def test_bad_input_has_stable_codes(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next")
    question, headers = table.current(), bearer(table.players[0]["token"])
    post, path = table.client.post, f"/v1/sessions/{table.id}/answers"
    body = {"question_id": question["question_id"], "choice": "bread"}
    assert (422, "unknown_field") == code(post(path, headers=headers, json={**body, "points": 999}))
    assert (422, "missing_field") == code(post(path, headers=headers, json={"choice": "bread"}))
    as_json = {**headers, "Content-Type": "application/json"}
    assert (400, "malformed_body") == code(post(path, headers=as_json, content=b'{"a":'))
    assert (422, "invalid_field") == code(
        post(path, headers=headers, json={**body, "choice": "no such choice"})
    )
    assert (404, "unknown_question") == code(
        post(path, headers=headers, json={**body, "question_id": "nope"})
    )
    assert (413, "body_too_large") == code(
        post(path, headers=headers, content=b"[" + b"1," * 5_000_000 + b"1]")
    )
    assert (401, "unauthenticated") == code(post(path, json=body))
    claims = jwt.decode(table.players[0]["token"], options={"verify_signature": False})
    forged = jwt.encode(claims, "another key that is also long enough", "HS256")
    assert (401, "unauthenticated") == code(post(path, headers=bearer(forged), json=body))
    assert (403, "forbidden") == code(post(path, headers=bearer(table.session["token"]), json=body))
    assert (403, "forbidden") == code(post("/v1/sessions/another/answers", headers=headers, json=body))
    gone = jwt.encode({**claims, "session": "gone"}, JWT_KEY, "HS256")
    assert (404, "unknown_session") == code(
        post("/v1/sessions/gone/answers", headers=bearer(gone), json=body)
    )
    assert (404, "unknown_session") == code(table.client.get("/v1/sessions/gone"))
    assert (404, "unknown_quiz") == code(post("/v1/sessions", json={"quiz_id": "gone"}))
    assert (404, "unknown_pin") == code(post("/v1/join", json={"pin": "999999", "name": "x"}))
    assert (404, "not_found") == code(table.client.get("/nothing"))
    assert (405, "method_not_allowed") == code(table.client.delete("/v1/quizzes"))
    assert (422, "unknown_scope") == code(table.client.get("/v1/leaderboards/x/daily/current"))
    assert (422, "wrong_start") == code(table.client.get("/v1/leaderboards/global/weekly/2024-01-02"))
    assert table.answer(0, question, right_choice(question)).json()["points"] > 0


def test_health_and_metrics(api: ApiProcess) -> None:
    assert abs(httpx.get(api.url + "/readyz").json()["clock_offset_ms"]) < 50
    assert 'lakeboard_requests_total{method="GET",route="/v1/quizzes"' in httpx.get(api.url + "/metrics").text


async def _until(socket: Any, kind: str) -> dict[str, Any]:
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 5))
        if message["type"] == kind:
            return message


async def _play_over_sockets(api: ApiProcess, table: Table) -> None:
    base = api.url.replace("http", "ws") + "/v1/live?token="
    async with (
        websockets.connect(base + table.players[0]["token"]) as player,
        websockets.connect(base + table.session["token"]) as host,
    ):
        assert (await _until(player, "welcome"))["name"] == "Ada"
        await _until(player, "lobby")
        await asyncio.to_thread(table.host, "next")
        question = await _until(player, "question")
        await player.send(
            json.dumps(
                {
                    "type": "answer",
                    "ref": "7",
                    "question_id": question["question_id"],
                    "choice": right_choice(question),
                }
            )
        )
        result = await _until(player, "result")
        assert result["ref"] == "7" and result["rank"] == 1 and result["total"] == result["points"] > 0
        board = await _until(host, "board")
        while not board["entries"][0]["points"]:
            board = await _until(host, "board")
        assert ("Ada", result["total"]) == (board["entries"][0]["name"], board["entries"][0]["points"])
        for frame, expected in (
            ('{"type":"answer"', "malformed_body"),
            ('{"type":"dance"}', "invalid_field"),
            ('{"type":"ping","x":1}', "unknown_field"),
        ):
            await player.send(frame)
            assert expected == (await _until(player, "error"))["code"]
        await host.send(json.dumps({"type": "answer", "question_id": "x", "choice": "y"}))
        assert (await _until(host, "error"))["code"] == "forbidden"
        await asyncio.to_thread(table.host, "close")
        assert (await _until(player, "reveal"))["answer"] == right_choice(question)
        await asyncio.to_thread(table.host, "end")
        await _until(player, "ended")
        await player.send("x" * 5000)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await _until(player, "never")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_play_over_sockets(api: ApiProcess) -> None:
    asyncio.run(_play_over_sockets(api, Table(api, "Ada")))


async def _forged(api: ApiProcess) -> tuple[str, int]:
    async with websockets.connect(api.url.replace("http", "ws") + "/v1/live?token=forged") as socket:
        error = json.loads(await socket.recv())
        await socket.wait_closed()
        return error["code"], socket.close_code or 0


def test_a_forged_token_closes_the_socket_with_a_reason(api: ApiProcess) -> None:
    assert ("unauthenticated", 4401) == asyncio.run(_forged(api))
