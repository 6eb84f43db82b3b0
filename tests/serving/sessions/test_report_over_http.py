"""The class report of a running, an ended and a sealed session, against a count over the recorded events."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from redis import Redis

from contracts import names
from serving.boards.shards import Shards
from serving.play.importing import clock_us
from serving.play.sealing import QUIET_US, Sealer
from tests.services.daemons import start_postgres
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, bearer, code, right_choice
from tests.serving.relay_stack import Stack, fresh_stack, start_relay, wait_for_relay

pytestmark = pytest.mark.service


def get_report(of: Table, **params: str) -> httpx.Response:
    return of.client.get(f"/v1/sessions/{of.id}/report", headers=bearer(of.session["token"]), params=params)


def events_of(valkey_urls: list[str], session_id: str) -> list[dict[str, Any]]:
    """What was recorded of a session: the outbox' own bytes."""
    found = []
    for url in valkey_urls:
        with Redis.from_url(url) as client:
            entries = client.xrange(names.outbox())
        found += [json.loads(fields[b"e"]) for _, fields in entries if fields[b"t"] == b"answer.v1"]
    return [event for event in found if event["session_id"] == session_id]


def counted(events: list[dict[str, Any]]) -> dict[str, tuple[int, int, float, float, str | None]]:
    """question_id → (answered, right, median s, mean s, most chosen wrong), by plain loops."""
    told = {}
    for question_id in {event["question_id"] for event in events}:
        mine = [event for event in events if event["question_id"] == question_id]
        times = sorted(event["elapsed_ms"] for event in mine)
        middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
        wrong = [event["choice"] for event in mine if not event["correct"]]
        most = max(wrong, key=wrong.count) if wrong else None
        told[question_id] = (
            len(mine), len(mine) - len(wrong), middle, sum(times) / len(times), most
        )  # fmt: skip
    return told


def assert_right(document: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """A report's figures are those of the events."""
    wanted = counted(events)
    rows = {row["question_id"]: row for row in document["questions"]}
    assert set(wanted) == {ident for ident, row in rows.items() if row["answered"]}
    for ident, (answered, right, median, mean, wrong) in wanted.items():
        row = rows[ident]
        assert (answered, right) == (row["answered"], row["right"])
        assert abs(row["share_right"] - right / answered) < 0.0001
        assert abs(row["median_ms"] - median) <= 0.5 and abs(row["mean_ms"] - mean) <= 0.5
        chosen = {one["choice"]: one["count"] for one in row["choices"]}
        assert row["most_chosen_wrong"] == wrong or chosen[row["most_chosen_wrong"]] == chosen[wrong or ""]
    shares = [row["share_right"] for row in document["questions"] if row["answered"]]
    assert sorted(shares) == shares
    for row in document["players"]:
        mine = [event for event in events if event["user_id"] == row["user_id"]]
        assert row["points"] == sum(event["points"] for event in mine)
        assert (row["answered"], row["right"]) == (len(mine), sum(event["correct"] for event in mine))


def play(table: Table, questions: int, seed: int) -> None:
    """Some questions, each answered by most players, right or wrong as the seed says."""
    chance = random.Random(seed)
    for _ in range(questions):
        table.host("next").raise_for_status()
        question = table.current()
        for player in range(len(table.players)):
            if chance.random() < 0.85:
                wrong = [choice for choice in question["choices"] if choice != right_choice(question)]
                choice = right_choice(question) if chance.random() < 0.5 else chance.choice(wrong)
                assert table.answer(player, question, choice).status_code == 200
        table.host("close").raise_for_status()


def test_the_report_while_it_runs_and_after_its_end(api: ApiProcess, valkey_urls: list[str]) -> None:
    table = Table(api, "Ada", "Grace", "=HYPERLINK(1)", "Linus")
    play(table, 5, seed=7)
    table.host("next").raise_for_status()
    question = table.current()
    table.answer(1, question, right_choice(question)).raise_for_status()
    running = get_report(table).raise_for_status().json()
    open_row = next(row for row in running["questions"] if row["open"])
    assert (1, 1, None, [], None) == tuple(
        open_row[name] for name in ("answered", "right", "answer", "choices", "most_chosen_wrong")
    )
    table.host("end").raise_for_status()
    document = get_report(table).raise_for_status().json()
    assert (6, 4, "redis", "ended") == (
        len(document["questions"]), document["participants"], document["source"], document["state"]
    )  # fmt: skip
    assert_right(document, events_of(valkey_urls, table.id))
    board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
    assert [(row["rank"], row["user_id"], row["points"]) for row in board["entries"]] == [
        (row["rank"], row["user_id"], row["points"]) for row in document["players"]
    ]
    reply = get_report(table, format="csv", table="players").raise_for_status()
    assert "attachment" in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.content.decode("utf-8-sig"), newline="")))
    assert "'=HYPERLINK(1)" in [row["name"] for row in rows]
    assert [str(row["points"]) for row in document["players"]] == [row["points"] for row in rows]
    reply = get_report(table, format="csv").raise_for_status()
    rows = list(csv.DictReader(io.StringIO(reply.content.decode("utf-8-sig"), newline="")))
    assert [row["question_id"] for row in document["questions"]] == [row["question_id"] for row in rows]


def test_a_hosts_token_opens_the_report_for_a_month(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    host, player = (
        jwt.decode(token, options={"verify_signature": False})
        for token in (table.session["token"], table.players[0]["token"])
    )
    assert 31 * 86_400 == host["exp"] - host["iat"] and 86_400 == player["exp"] - player["iat"]


def test_it_is_the_hosts_alone(api: ApiProcess) -> None:
    table, other = Table(api, "Ada"), Table(api)
    path = f"/v1/sessions/{table.id}/report"
    assert (401, "unauthenticated") == code(table.client.get(path))
    assert (403, "forbidden") == code(table.client.get(path, headers=bearer(table.players[0]["token"])))
    assert (403, "forbidden") == code(table.client.get(path, headers=bearer(other.session["token"])))
    assert (422, "invalid_field") == code(get_report(table, format="pdf"))


@pytest.fixture
def stack(tmp_path: Path, new_postgres_url: Callable[[], str]) -> Iterator[Stack]:
    with fresh_stack(tmp_path, new_postgres_url()) as (settings, _):
        yield settings


def _seal_all(stack: Stack) -> int:
    """Seals every session as if two days had passed; how many."""
    url = stack["LAKEBOARD_POSTGRES_URL"]

    async def position(shard: int) -> int:
        with psycopg.connect(url) as sql:
            row = sql.execute(
                "SELECT position FROM relay_position WHERE sink = 'history' AND shard = %s", (shard,)
            ).fetchone()
        return row[0] if row else 0

    async def seal() -> int:
        shards = Shards(stack["LAKEBOARD_VALKEY_URLS"].split(","))
        sealer = Sealer(shards, url, lambda: clock_us() + QUIET_US + 1, position)
        sealed = sum([await sealer.seal_quiet(shard) for shard in range(len(shards))])
        await shards.close()
        return sealed

    return asyncio.run(seal())


def test_a_sealed_sessions_report_is_the_same(stack: Stack, tmp_path: Path) -> None:
    urls = stack["LAKEBOARD_VALKEY_URLS"].split(",")
    api = ApiProcess(tmp_path / "api", urls, stack["LAKEBOARD_POSTGRES_URL"])
    relay = None
    try:
        table = Table(api, "Ada", "Grace", "Linus", "Silent", "Removed")
        silent = table.players.pop(3)
        play(table, 4, seed=3)
        table.client.post(
            f"/v1/sessions/{table.id}/players/{table.players[3]['user_id']}/remove",
            headers=bearer(table.session["token"]),
        ).raise_for_status()
        table.host("end").raise_for_status()
        before = get_report(table).raise_for_status().json()
        gone = table.players[3]["user_id"]
        assert [(None, gone, True)] == [
            (row["rank"], row["user_id"], row["removed"]) for row in before["players"] if row["removed"]
        ]
        assert silent["user_id"] in [row["user_id"] for row in before["players"]]
        events = events_of(urls, table.id)
        relay = start_relay(stack)
        wait_for_relay(stack, len(events), relay)
        assert 1 == _seal_all(stack)
        after = get_report(table).raise_for_status().json()
        assert ("history", "sealed") == (after["source"], after["state"])
        changing = ("source", "state", "as_of")
        assert {k: v for k, v in before.items() if k not in changing} == {
            k: v for k, v in after.items() if k not in changing
        }
        with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            sql.execute(
                "INSERT INTO archived_months (month, entries, checksum, through, snapshots) VALUES "
                "(date_trunc('month', now()), 1, 1, '{}', '{}')"
            )
            sql.commit()
            assert (409, "session_sealed") == code(get_report(table))
            assert table.id in get_report(table).json()["next_step"]
            sql.execute(
                "INSERT INTO restored VALUES ('session', %s, date_trunc('month', now()), 1)", [table.id]
            )
            sql.commit()
            assert after["questions"] == get_report(table).json()["questions"]
    finally:
        api.stop()
        if relay is not None:
            relay.kill()


def test_a_running_session_is_reported_while_postgres_is_away(valkey_urls: list[str], tmp_path: Path) -> None:
    postgres = start_postgres(tmp_path / "postgres")
    api = None
    try:
        api = ApiProcess(tmp_path / "api", valkey_urls, postgres.new_database())
        table = Table(api, "Ada", "Grace")
        play(table, 2, seed=1)
        postgres.stop()
        play(table, 2, seed=2)
        document = get_report(table).raise_for_status().json()
        assert ("redis", 4) == (document["source"], len(document["questions"]))
        assert_right(document, events_of(valkey_urls, table.id))
    finally:
        if api is not None:
            api.stop()
        postgres.stop()
