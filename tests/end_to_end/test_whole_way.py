"""The whole way: a file through import, Redis, relay, Kafka and the lake, with processes killed on the way.

Every board (live from Redis, settled from the lake) must be the reference model's, row for row, and every counted
answer must be in the outbox's numbering, in history and in the lake exactly once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

from contracts import names
from tests import model
from tests.end_to_end.whole_stack import WholeStack, until

pytestmark = pytest.mark.end_to_end
SEED = 20240330
SPAN = ("--from", "2024-03-30", "--to", "2024-04-02")
Key = tuple[str, str, str]


def in_file_order(answers: list[model.Answer]) -> list[model.Answer]:
    """What csv can say of the answers, in the order in which they must count, with the sessions' anchors."""
    told = [replace(a, zone="UTC", occurred_at_us=a.occurred_at_us // 1000 * 1000) for a in answers]
    started: dict[str, int] = {}
    for a in told:
        started[a.session_id] = min(a.occurred_at_us, started.get(a.session_id, a.occurred_at_us))
    told = [replace(a, session_started_at_us=started[a.session_id]) for a in told]
    return sorted(
        told,
        key=lambda a: (a.occurred_at_us, a.session_id, a.question_id, a.user_id, a.elapsed_ms, a.correct),
    )


def write_csv(answers: list[model.Answer], path: Path) -> None:
    """In order of arrival, which is not the order of time."""
    lines = ["occurred_at,user_id,session_id,quiz_id,question_id,correct,elapsed_ms"]
    for a in answers:
        fields = (a.occurred_at_us // 1000, a.user_id, a.session_id, a.quiz_id, a.question_id)
        lines.append(",".join(map(str, (*fields, int(a.correct), a.elapsed_ms))))
    path.write_text("\n".join(lines) + "\n")


def iso(instant_us: int | None) -> str | None:
    """As replies write an instant."""
    if instant_us is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def shown(client: httpx.Client, key: Key) -> dict[str, Any]:
    reply = client.get(f"/v1/leaderboards/{'/'.join(key)}", params={"k": 1000})
    assert 200 == reply.status_code, reply.text
    found: dict[str, Any] = reply.json()
    return found


def assert_boards(stack: WholeStack, expected: dict[Key, list[model.Row]], settled: tuple[str, ...]) -> int:
    """Every board over HTTP against the model; returns the rows compared."""
    rows = 0
    with stack.client() as client:
        for key, wanted in expected.items():
            board = shown(client, key)
            found = [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in board["entries"]]
            assert [(r.rank, r.user_id, r.points, iso(r.reached_at_us)) for r in wanted] == found, (SEED, key)
            is_settled = key[1] in settled and not key[0].startswith("session:")
            source = ("rankings", "settled") if is_settled else ("redis", board["provenance"]["state"])
            assert source == (board["provenance"]["source"], board["provenance"]["state"]), key
            rows += len(wanted)
    return rows


def counted_by_outboxes(stack: WholeStack) -> list[int]:
    """The last seq of each shard."""
    urls = stack.layout.settings("full").valkey_urls
    return [int(Redis.from_url(url).get(names.outbox_seq()) or 0) for url in urls]


def test_a_file_reaches_every_store_once_though_relay_and_shard_are_killed(
    stack: WholeStack, tmp_path: Path
) -> None:
    answers = model.play(SEED, users=60, quizzes=4, sessions=40)
    file = tmp_path / "answers.csv"
    write_csv(answers, file)
    arrivals = in_file_order(answers)
    total = len(model.counted(arrivals))
    expected = model.all_boards(arrivals)

    replay = stack.start("replay", str(file), "--format", "csv", "--keep-boards", "--json")
    until(lambda: sum(counted_by_outboxes(stack)) > 500, 60, "500 answers")
    stack.kill("relay")
    stack.kill("valkey_1")
    assert replay.poll() is None, "the replay was over before anything was killed: make the file longer"
    out, _ = replay.communicate(timeout=180)
    report = json.loads(out)
    assert (0, 0, len(answers)) == (
        replay.returncode,
        report["refused"],
        report["counted"] + report["repeated"],
    )
    assert total == sum(counted_by_outboxes(stack)), "each counted answer has one seq"
    assert {"127.0.0.1"} == stack.listening()

    url = stack.layout.settings("full").postgres_url
    with psycopg.connect(url, autocommit=True) as sql:
        whole = "select count(*), count(distinct event_id), count(distinct (shard, seq)) from history"
        until(
            lambda: sql.execute("select count(*) from history").fetchone() == (total,), 60, "all in history"
        )
        assert (total, total, total) == sql.execute(whole).fetchone()
        last = sql.execute("select max(seq) from history group by shard order by shard").fetchall()
        assert counted_by_outboxes(stack) == [row[0] for row in last]
    stack.until_relayed()  # all participants are there before all of their points
    assert 1_000 < assert_boards(stack, expected, ())


def test_settled_boards_are_the_models_and_a_second_run_publishes_nothing(stack: WholeStack) -> None:
    arrivals = in_file_order(model.play(SEED, users=60, quizzes=4, sessions=40))
    expected = model.all_boards(arrivals)
    done = stack.document("settle", *SPAN)
    assert [] == done["skipped"]
    assert {key[1:] for key in expected if key[1] != "all_time"} <= {
        (line["period"], line["start"]) for line in done["settled"]
    }
    assert_boards(stack, expected, ("daily", "weekly", "monthly"))

    total = len(model.counted(arrivals))
    assert [{"n": total, "ids": total}] == stack.rows(
        "select count(*) as n, count(distinct event_id) as ids from answers"
    )
    for row in stack.rows(
        "select shard, count(*) as n, min(seq) as first, max(seq) as last from "
        "(select shard, seq from answers union all select shard, seq from barriers) group by shard"
    ):
        assert (1, row["n"]) == (row["first"], row["last"]), f"a gap in the numbering of shard {row['shard']}"
    compared = stack.document("reconcile", *SPAN, "--json")
    assert 0 == compared["differences"] < compared["boards"]
    assert [] == stack.document("settle", *SPAN)["settled"]
    # One DataNode: a writer that asked for more copies would leave every file under-replicated.
    jmx = f"{stack.layout.settings('full').webhdfs_url}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystem"
    assert 0 == httpx.get(jmx).json()["beans"][0]["UnderReplicatedBlocks"]


def test_enrolments_reach_the_lake_and_are_counted(stack: WholeStack) -> None:
    url = stack.layout.settings("full").postgres_url
    with stack.client() as http:
        person = {"login_name": "ada@example.org", "password": "rope tin lake 7", "name": "Ada"}
        signed_up = http.post("/v1/auth/sign-up", json=person).raise_for_status().json()
    me = {"Authorization": f"Bearer {signed_up['access_token']}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{stack.layout.port('web')}", headers=me, timeout=60
    ) as http:
        for course, what in (("starter-a1", "enrol"), ("starter-b1", "enrol"), ("starter-b1", "leave")):
            assert http.post(f"/v1/courses/{course}/{what}").raise_for_status().json()["new"]
        counted = stack.document("job", "count_enrolments")
        assert 3 == counted["enrolments"]
        rows = stack.rows("select course_id, kind, user_id from enrolments order by enrolment_id")
        wanted = [("starter-a1", "enrolled"), ("starter-b1", "enrolled"), ("starter-b1", "left")]
        assert [(*one, signed_up["user_id"]) for one in wanted] == [tuple(row.values()) for row in rows]
        assert 403 == http.get("/v1/courses/starter-a1/days").status_code
    with psycopg.connect(url) as sql:
        through = sql.execute(
            "select value from deployment where key = %s", (names.COURSES_COUNTED,)
        ).fetchone()
    assert through == (counted["through"],)
    assert 0 == stack.document("job", "count_enrolments")["enrolments"]
