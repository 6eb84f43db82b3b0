"""What a board's route says when it cannot say: never an empty board for one that is not here, never a 500."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cli.stack.process import free_port
from contracts import names
from serving.boards.shards import Shards
from serving.play import import_facts
from serving.play.importing import clock_us
from serving.play.sealing import QUIET_US, Sealer
from tests import model
from tests.services.daemons import start_postgres, start_valkey
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.recorded import Recorded, recorded
from tests.serving.relay_stack import body_of, wait_until

pytestmark = pytest.mark.service
DAY_US = 86_400_000_000


@pytest.fixture
def http(record: Recorded, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client with the importer key, of an api without a lake."""
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url)
    with httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as client:
        yield client
    api.stop()


def code_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json().get("code", "")


def keep_boards_since(record: Recorded, instant_us: int) -> None:
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute("UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(instant_us),))


def test_input_that_no_board_has(http: httpx.Client) -> None:
    boards = "/v1/leaderboards"
    for path in ("daily/9999-12-31", "weekly/9999-12-27", "monthly/9999-12-01", "daily/0001-01-01"):
        assert (422, "wrong_start") == code_of(http.get(f"{boards}/global/{path}"))
    for settlement in ("\0", "1;", "-1", "9" * 19):
        reply = http.get(f"{boards}/global/daily/2024-01-01", params={"settlement": settlement})
        assert (422, "invalid_field") == code_of(reply)
    forged = base64.urlsafe_b64encode(b"1/" + b"x" * 36).decode()
    assert (422, "invalid_field") == code_of(http.get("/v1/users/u1/history", params={"cursor": forged}))
    assert (404, "unknown_session") == code_of(http.get("/v1/sessions/a:answers"))


def test_a_session_that_redis_left_out_is_not_an_empty_board(http: httpx.Client, record: Recorded) -> None:
    keep_boards_since(record, clock_us() - 40 * DAY_US)
    answers = model.play(61, sessions=2)
    record.play(answers)
    reply = http.get(f"/v1/leaderboards/session:{answers[0].session_id}/all_time/current")
    assert (404, "board_not_kept") == code_of(reply)


def test_a_sealed_sessions_board_is_still_there(http: httpx.Client, record: Recorded) -> None:
    answers = [a for a in model.play(62, sessions=3) if a.session_id == "s0"]
    record.play(answers)
    record.relay()
    before = http.get("/v1/leaderboards/session:s0/all_time/current").raise_for_status().json()

    async def seal() -> int:
        shards = Shards(record.valkey_urls)

        async def everything(_: int) -> int:
            return 10**9

        sealer = Sealer(shards, record.postgres_url, lambda: clock_us() + QUIET_US + 1, everything)
        sealed = sum([await sealer.seal_quiet(shard) for shard in range(len(shards))])
        await shards.close()
        return sealed

    assert 1 == asyncio.run(seal())
    assert (404, "unknown_session") == code_of(http.get("/v1/sessions/s0"))
    after = http.get("/v1/leaderboards/session:s0/all_time/current").raise_for_status().json()
    assert before["entries"] and {**before, "provenance": None} == {**after, "provenance": None}
    assert before["provenance"]["rules"] == after["provenance"]["rules"]


def test_rules_are_those_that_scored(http: httpx.Client, record: Recorded) -> None:
    lines = [json.loads(line) for line in body_of(model.play(63, users=3, sessions=1)).splitlines()]
    body = b"\n".join(json.dumps({**line, "rule": "correct@1"}).encode() for line in lines)
    http.post("/v1/import/answers", content=body).raise_for_status()
    board = http.get(f"/v1/leaderboards/quiz:{lines[0]['quiz_id']}/all_time/current").json()
    assert board["entries"] and ["correct@1"] == board["provenance"]["rules"]


def test_more_users_than_one_process_remembers(record: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_facts, "_REMEMBERED", 2)
    answers = model.play(64, users=30, quizzes=4, sessions=12)
    assert len(model.counted(answers)) == record.play(answers)


def test_without_postgres_a_board_is_told_or_refused(tmp_path: Path) -> None:
    postgres, daemons = start_postgres(tmp_path / "postgres"), [start_valkey(tmp_path / "valkey")]
    record = recorded([daemon.url for daemon in daemons], postgres.new_database())
    keep_boards_since(record, clock_us() - 40 * DAY_US)
    recent = [
        replace(a, occurred_at_us=clock_us() - 2 * DAY_US, session_started_at_us=clock_us() - 2 * DAY_US)
        for a in model.play(65, users=4, sessions=2)
    ]
    record.play(recent)
    record.relay()
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url)
    try:
        day = time.strftime("%Y-%m-%d", time.gmtime((clock_us() - 2 * DAY_US) / 1e6))
        paths = ("global/daily/2020-01-01", f"global/daily/{day}", "global/daily/current")
        urls = [f"{api.url}/v1/leaderboards/{path}" for path in paths]
        assert (404, "board_not_kept") == code_of(httpx.get(urls[0]))
        players = httpx.get(urls[1]).json()["participants"]
        assert players > 0
        postgres.kill()
        assert (503, "system_missing") == code_of(httpx.get(urls[0], timeout=30))
        assert players == httpx.get(urls[1], timeout=30).json()["participants"]
        assert 200 == httpx.get(urls[2], timeout=30).status_code
    finally:
        api.stop()
        postgres.stop()
        for daemon in daemons:
            daemon.stop()


def test_a_settled_board_without_postgres_or_hdfs_says_so(tmp_path: Path, valkey_urls: list[str]) -> None:
    postgres = start_postgres(tmp_path / "postgres")
    record = recorded(valkey_urls, postgres.new_database())
    nobody = f"hdfs://127.0.0.1:{free_port()}/warehouse"
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "INSERT INTO settlements (id, from_day, to_day, version, rule, snapshots, last_seq) "
            "VALUES ('1', '2024-03-04', '2024-03-04', 1, 'speed@1', '{\"rankings\": 1}', '{}')"
        )
        sql.execute(
            "INSERT INTO settlement_periods (settlement_id, period, start, version) "
            "VALUES ('1', 'daily', '2024-03-04', 1)"
        )
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, nobody)
    try:
        path = f"{api.url}/v1/leaderboards/global/daily/2024-03-04"
        # hdfs-native alone would take 180 s.
        assert (503, "system_missing") == code_of(httpx.get(path, timeout=30))
        postgres.kill()
        assert (503, "system_missing") == code_of(httpx.get(path, timeout=60))
    finally:
        api.stop()
        postgres.stop()


def test_a_shard_that_is_away_takes_no_other_with_it(tmp_path: Path, postgres_url: str) -> None:
    daemons = [start_valkey(tmp_path / f"valkey_{number}") for number in (1, 2)]
    api = ApiProcess(tmp_path / "api", [daemon.url for daemon in daemons], postgres_url)

    def ready() -> tuple[int, Any]:
        reply = httpx.get(f"{api.url}/readyz", timeout=30)
        return reply.status_code, reply.json().get("shards_away")

    try:
        wait_until(lambda: ready() == (200, []))
        daemons[0].kill()
        wait_until(lambda: ready() == (200, [0]))
        daemons[1].kill()
        wait_until(lambda: ready() == (503, None))
        daemons[0].start()
        wait_until(lambda: ready() == (200, [1]))
    finally:
        api.stop()
        for daemon in daemons:
            daemon.stop()


def test_a_seal_is_not_opened_by_a_move(record: Recorded, http: httpx.Client) -> None:
    made = http.post("/v1/sessions", json={"quiz_id": "starter-a1"}).raise_for_status().json()

    async def mark() -> None:
        shards = Shards(record.valkey_urls)
        shard = shards.shard_of("starter-a1")
        status, _ = await shards.mark_sealed(shard, made["session_id"], clock_us() + DAY_US)
        assert "sealed" == status
        move = shards.clients[shard].register_script(Path("serving/sessions/move_session.lua").read_text())
        key = names.session(made["session_id"])
        keys = [key, names.session_removed(made["session_id"]), names.due_sessions()]
        args = ["0", made["session_id"], "", "", "", names.channel(made["session_id"]), "state", "question"]
        assert 0 == await move(keys=keys, args=args)
        assert b"sealed" == await shards.clients[shard].hget(key, "state")
        await shards.close()

    asyncio.run(mark())
