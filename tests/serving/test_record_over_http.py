"""Import, barriers and boards_since through a real api process and relay: every line answered, nothing lost or twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from serving.play.boards_since import left_out
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.relay_stack import Stack, fresh_stack, global_boards_behind, start_relay, wait_until

DAY_US = 86_400_000_000
MAR_15 = 1_710_460_800_000_000  # 2024-03-15T00:00Z, a Friday


@dataclass
class Deployment:
    """An api, a relay, and their shards and database."""

    http: httpx.Client
    stack: Stack

    def send(self, *lines: str | dict[str, Any]) -> list[dict[str, Any]]:
        """Import lines; the outcomes."""
        body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        reply = self.http.post("/v1/import/answers", content=body.encode())
        reply.raise_for_status()
        return reply.json()["lines"]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with psycopg.connect(self.stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            return sql.execute(query).fetchall()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, new_postgres_url: Callable[[], str]
) -> Iterator[Deployment]:
    """boards_since is 2024-03-15."""
    folder = tmp_path_factory.mktemp("record")
    with fresh_stack(folder, new_postgres_url()) as (stack, _):
        with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            sql.execute("UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(MAR_15),))
        api = ApiProcess(
            folder / "api", stack["LAKEBOARD_VALKEY_URLS"].split(","), stack["LAKEBOARD_POSTGRES_URL"]
        )
        relay = start_relay(stack)
        with httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as http:
            yield Deployment(http, stack)
        relay.kill()
        relay.wait()
        api.stop()


def line(name: str, at_us: int = MAR_15 + DAY_US, **changes: Any) -> dict[str, Any]:
    """A right answer of user u-NAME in a session of that name."""
    return {
        "occurred_at_us": at_us,
        "user_id": f"u-{name}",
        "session_id": f"s-{name}",
        "quiz_id": f"q-{name}",
        "question_id": "w1",
        "correct": True,
        "elapsed_ms": 0,
    } | changes


@pytest.mark.service
def test_an_outcome_for_every_line(deployment: Deployment) -> None:
    good = line("bad", session_started_at_us=MAR_15)
    cases: list[tuple[str | dict[str, Any], str]] = [
        (good, "counted"),
        (good | {"correct": False, "occurred_at_us": good["occurred_at_us"] + 1}, "repeat"),
        ("{not json", "malformed_line"),
        ("[]", "malformed_line"),
        (good | {"extra": 1}, "unknown_field"),
        (good | {"occurred_at_us": time.time_ns() // 1_000 + 10**9}, "future_time"),
        (good | {"elapsed_ms": -1}, "negative_elapsed"),
        (good | {"quiz_id": "another", "question_id": "w2"}, "session_quiz_mismatch"),
        (good | {"question_id": "w3"}, "counted"),
    ]
    found = deployment.send(*(case for case, _ in cases))
    assert [wanted for _, wanted in cases] == [row.get("code") or row["status"] for row in found]
    assert list(range(1, len(cases) + 1)) == [row["line"] for row in found]
    again = deployment.send(*(case for case, _ in cases))
    assert ["repeat", "repeat"] == [again[0]["status"], again[-1]["status"]]
    assert [found[0]["seq"], found[-1]["seq"]] == [again[0]["seq"], again[-1]["seq"]]
    wait_until(lambda: global_boards_behind(deployment.stack) == 0)
    rows = "SELECT question_id, points FROM history WHERE user_id = 'u-bad' ORDER BY 1"
    wait_until(lambda: len(deployment.rows(rows)) == 2)
    assert [("w1", 1_000), ("w3", 1_000)] == deployment.rows(rows)
    for scope in ("global", "quiz:q-bad"):
        board = deployment.http.get(f"/v1/leaderboards/{scope}/daily/2024-03-16", params={"k": 100}).json()
        assert [2_000] == [e["points"] for e in board["entries"] if e["user_id"] == "u-bad"]
    history = deployment.http.get("/v1/users/u-bad/history").json()
    assert "w1" in json.dumps(history) and "w3" in json.dumps(history)


@pytest.mark.service
def test_bodies_and_keys_that_are_refused(deployment: Deployment) -> None:
    http = deployment.http
    before = deployment.rows("SELECT count(*) FROM history")
    many = b"{}\n" * 2_002
    huge = b"x" * 10_000_000
    wrong = {"X-API-Key": "wrong"}
    assert [(413, "body_too_large")] * 2 == [
        (reply.status_code, reply.json()["code"])
        for reply in (http.post("/v1/import/answers", content=body) for body in (many, huge))
    ]
    for path in ("/v1/import/answers", "/internal/barriers", "/v1/import/boards_since"):
        reply = http.post(path, content=b"{}", headers=wrong)
        assert (401, "unauthenticated") == (reply.status_code, reply.json()["code"]), path
        reply = httpx.post(str(http.base_url.join(path)), content=b"{}")
        assert 401 == reply.status_code, path
    assert before == deployment.rows("SELECT count(*) FROM history")


@pytest.mark.service
def test_barriers_are_written_once(deployment: Deployment) -> None:
    def send(**body: Any) -> httpx.Response:
        return deployment.http.post("/internal/barriers", json=body)

    first = send(zone="UTC", days=["2024-03-16", "2024-03-17"]).json()["barriers"]
    assert {"written"} == {row["status"] for row in first} and len(first) == 4
    again = send(zone="UTC", days=["2024-03-17", "2024-03-16"]).json()["barriers"]
    assert [{**row, "status": "there"} for row in first] == again
    assert (422, "unknown_zone") == _code(send(zone="Mars/One", days=["2024-03-16"]))
    assert (422, "period_not_ended") == _code(send(days=[time.strftime("%Y-%m-%d", time.gmtime())]))
    assert 422 == send(days=["2024-02-30"]).status_code
    for day in ("0001-01-01", "9999-12-31"):
        assert (422, "wrong_start") == _code(send(zone="Asia/Tokyo", days=[day]))
    assert (422, "unknown_field") == _code(send(days=[], more=1))
    count = "SELECT count(*), count(DISTINCT (shard, seq)) FROM history WHERE type = 'barrier.v1'"
    wait_until(lambda: deployment.rows(count) == [(4, 4)])


def _code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


@pytest.mark.service
def test_boards_since_sees_what_the_record_has(deployment: Deployment) -> None:
    def move(since_us: int) -> httpx.Response:
        return deployment.http.post("/v1/import/boards_since", json={"since_us": since_us})

    assert {"boards_since_us": MAR_15} == move(MAR_15 + 1).json(), "it never moves forward"
    early = line("early", MAR_15 - 30 * DAY_US)
    assert "counted" == deployment.send(early)[0]["status"]
    # Its answer may still be in the outbox alone: asked at once.
    assert (409, "check_failed") == _code(move(MAR_15 - 40 * DAY_US))
    back = MAR_15 - 14 * DAY_US  # 1 March: February's answer is in no board that is kept from then
    assert {"boards_since_us": back} == move(back).json()
    assert "counted" == deployment.send(line("march", back + DAY_US))[0]["status"]
    wait_until(lambda: global_boards_behind(deployment.stack) == 0)
    board = deployment.http.get("/v1/leaderboards/global/daily/2024-03-02").json()
    assert ["u-march"] == [entry["user_id"] for entry in board["entries"]]


@pytest.mark.unit
def test_what_a_move_leaves_out() -> None:
    new, old = MAR_15 - 14 * DAY_US, MAR_15
    assert left_out(new, "UTC", new, old)
    assert left_out(new - DAY_US, "UTC", new, old), "its week ends in March"
    assert not left_out(new - 5 * DAY_US, "UTC", new, old)
    assert not left_out(old, "UTC", new, old)
