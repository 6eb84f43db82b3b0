"""A class of a thousand: all join over HTTP, in the middle of play; some leave, come back, are removed; boards stay exact."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests import model
from tests.serving.api_process import ApiProcess
from tests.serving.leaderboards.classes import StayOf, accounts_of, class_board, counted_by
from tests.serving.leaderboards.test_any_range import shown
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals

pytestmark = pytest.mark.service
MEMBERS = 1_000
AT_ONCE = 16
QUIZ_ZONE = "UTC"


@pytest.fixture
def api(record: Recorded, tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, limit_requests="")
    yield process
    process.stop()


def answers_now(chance: random.Random, users: list[str], session: str) -> list[model.Answer]:
    """Each user's answers of this moment, a few users without points."""
    now = time.time_ns() // 1_000
    return [
        model.Answer(
            now - chance.randrange(1_000),
            user,
            session,
            "q0",
            f"w{question}",
            chance.random() < 0.8,
            chance.randrange(60_000),
            now - 2_000,
            QUIZ_ZONE,
        )
        for user in users
        for question in range(chance.randrange(1, 3))
    ]


def played(record: Recorded, answers: list[model.Answer]) -> list[model.Answer]:
    record.play(answers)
    record.relay()
    return arrivals(answers)


def posts(api: ApiProcess, calls: list[tuple[str, dict[str, str], dict[str, Any]]]) -> set[int]:
    """Calls of many callers, some at once; the statuses."""

    async def run() -> set[int]:
        turns = asyncio.Semaphore(AT_ONCE)
        async with httpx.AsyncClient(base_url=f"{api.url}/v1/classes", timeout=60) as http:

            async def one(path: str, headers: dict[str, str], body: dict[str, Any]) -> int:
                async with turns:
                    return (await http.post(path, headers=headers, json=body)).status_code

            return set(await asyncio.gather(*(one(*call) for call in calls)))

    return asyncio.run(run())


def stays_of(record: Recorded, class_id: str) -> list[StayOf]:
    with psycopg.connect(record.postgres_url) as sql:
        rows = sql.execute(
            "SELECT user_id, joined_at_us, left_at_us FROM class_members WHERE class_id = %s", (class_id,)
        ).fetchall()
    return [StayOf(*row) for row in rows]


def test_a_thousand_members(api: ApiProcess, record: Recorded) -> None:
    chance, users = random.Random(7), [f"m{n:04d}" for n in range(MEMBERS + 200)]
    left_s = 86_400 - time.time() % 86_400
    if left_s < 120:  # not over midnight: today's board is then one board
        time.sleep(left_s + 1)
    answers = played(record, answers_now(chance, users, "before"))
    logged_in = accounts_of(record.postgres_url, [*users, "teacher"])
    owner = logged_in["teacher"]
    made = httpx.post(f"{api.url}/v1/classes", json={"name": "everybody"}, headers=owner).raise_for_status()
    ident, body = made.json()["class_id"], {"code": made.json()["code"]}
    members = users[:MEMBERS]
    assert {201} == posts(api, [("/join", logged_in[user], body) for user in members])
    answers += played(record, answers_now(chance, users, "all"))
    gone, back, removed = members[:50], members[50:80], members[80:100]
    assert {200} == posts(api, [(f"/{ident}/leave", logged_in[user], {}) for user in (*gone, *back)])
    assert {200} == posts(api, [(f"/{ident}/members/{user}/remove", owner, {}) for user in removed])
    answers += played(record, answers_now(chance, users, "fewer"))
    assert {201} == posts(api, [("/join", logged_in[user], body) for user in back])
    assert {403} == posts(api, [("/join", logged_in[user], body) for user in removed])
    answers += played(record, answers_now(chance, users, "after"))
    stays = stays_of(record, ident)
    assert MEMBERS + len(back) == len(stays)
    counted, me = counted_by(answers, stays), logged_in[members[500]]
    for period, tick_us in (("daily", 1_000_000), ("monthly", 1_000_000), ("all_time", 3_600_000_000)):
        board = httpx.get(
            f"{api.url}/v1/leaderboards/class:{ident}/{period}/current",
            params={"k": 1000, "explain": True},
            headers=me,
            timeout=60,
        ).json()
        rows = class_board(counted, 0, 1 << 62, tick_us)
        assert MEMBERS == len(rows) == board["participants"]
        assert rows == shown(board["entries"]), period
        assert "history" == board["provenance"]["source"]
    # Whoever left sees no more of it, and the global board knows nothing of classes.
    for user in (gone[0], removed[0], users[-1]):
        seen = httpx.get(f"{api.url}/v1/leaderboards/class:{ident}/daily/current", headers=logged_in[user])
        assert 403 == seen.status_code
    everybody = httpx.get(f"{api.url}/v1/leaderboards/global/daily/current").json()
    assert len(users) == everybody["participants"]


def test_as_if_all_had_been_members_for_ever(api: ApiProcess, record: Recorded) -> None:
    """Stays put back to before the first answer: the boards of Redis alone, and a late joiner beside them."""
    chance, users = random.Random(8), [f"m{n:04d}" for n in range(MEMBERS)]
    answers = played(record, answers_now(chance, users, "one"))
    logged_in = accounts_of(record.postgres_url, [*users, "teacher"])
    ident = httpx.post(f"{api.url}/v1/classes", json={"name": "old"}, headers=logged_in["teacher"]).json()[
        "class_id"
    ]
    now = time.time_ns() // 1_000
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "INSERT INTO class_members (class_id, user_id, user_no, joined_at_us)"
            " SELECT %s, user_id, user_no, CASE user_id WHEN 'm0007' THEN %s ELSE 0 END FROM users WHERE user_id LIKE 'm%%'",
            (ident, now),
        )
    answers += played(record, [replace(a, session_id="two") for a in answers_now(chance, users, "two")])
    stays = [StayOf(user, now if user == "m0007" else 0, None) for user in users]
    counted = counted_by(answers, stays)
    board = httpx.get(
        f"{api.url}/v1/leaderboards/class:{ident}/daily/current",
        params={"k": 1000, "explain": True},
        headers=logged_in[users[0]],
        timeout=60,
    ).json()
    assert class_board(counted, 0, 1 << 62) == shown(board["entries"])
    assert ["redis", "history"] == sorted(
        (part["source"] for part in board["explain"]["parts"]), reverse=True
    )
    assert "mixed" == board["provenance"]["source"]
