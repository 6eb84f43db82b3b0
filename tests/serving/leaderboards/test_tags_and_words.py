"""Boards of tags, and boards whose subject is a word: from the lake, row for row as SQL over the answers says."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pytest

from contracts.names import word_tag
from contracts.periods import iso_ms
from tests import model
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.leaderboards.test_any_range import instant_of, shown
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals, body_of
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
WORDS = ("apple", "Ice  Cream", "don't", "Élan", "")
PERIODS = {
    "daily/2024-03-31": ("2024-03-31", "2024-04-01"),
    "weekly/2024-03-25": ("2024-03-25", "2024-04-01"),
    "monthly/2024-03-01": ("2024-03-01", "2024-04-01"),
}
RANGES = [*PERIODS.values(), ("2024-03-30T13:00:00Z", "2024-04-01T02:00:00Z")]


def tags_of(question_id: str, quiz_id: str) -> list[str]:
    """A question's tags: a level, the word among them, somewhere."""
    number = int(question_id[1:]) + int(quiz_id[1:])
    word = WORDS[number % len(WORDS)]
    tags = [f"level-{number % 2}", "noun", *([word_tag(word)] if word else [])]
    return tags if number % 2 else tags[::-1]


def sent(http: httpx.Client, answers: list[model.Answer]) -> None:
    lines = [json.loads(line) for line in body_of(answers).splitlines()]
    for line in lines:
        line["skill_tags"] = tags_of(line["question_id"], line["quiz_id"])
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    assert 0 == http.post("/v1/import/answers", content=body).raise_for_status().json()["refused"]


def counted_of(answers: list[model.Answer]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    rows = [
        {
            "at_us": a.occurred_at_us,
            "user_id": a.user_id,
            "tags": tags_of(a.question_id, a.quiz_id),
            "word": (WORDS[(int(a.question_id[1:]) + int(a.quiz_id[1:])) % len(WORDS)]).lower() or None,
            "points": model.points_of(a),
            "correct": a.correct,
        }
        for a in model.counted(answers)
    ]
    connection.register("rows", pa.Table.from_pylist(rows))
    connection.execute(
        "CREATE TABLE counted AS SELECT * REPLACE (replace(word, '  ', '-') AS word) FROM rows"
    )
    return connection


def board(
    counted: duckdb.DuckDBPyConnection, subject: str, value: str, where: str, low: str, high: str
) -> list[tuple[Any, ...]]:
    instant = "max(at_us) FILTER (points > 0) // 1000000 * 1000000" if value == "sum(points)" else "NULL"
    low_us, high_us = instant_of(low, "UTC"), instant_of(high, "UTC")
    rows = counted.execute(
        "SELECT row_number() OVER (ORDER BY value DESC, reached ASC NULLS LAST, encode(id) DESC), id, value, reached FROM ("
        f"SELECT {subject} AS id, ({value})::BIGINT AS value, {instant} AS reached FROM counted WHERE {where} "
        f"AND {subject} IS NOT NULL AND at_us >= {low_us} AND at_us < {high_us} GROUP BY 1) ORDER BY 1"
    ).fetchall()
    return [(rank, one, points, None if at is None else iso_ms(at)) for rank, one, points, at in rows]


def test_tags_and_words(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> None:
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    answers, chance = model.play(101, days=4, users=10, sessions=12), random.Random(101)
    try:
        http = httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60)
        sent(http, answers)
        record.relay()
        small_lake.take()
        counted = counted_of(arrivals(answers))

        def ask(path: str, **params: Any) -> dict[str, Any]:
            reply = http.get(f"/v1/leaderboards/{path}", params={"k": 1000, **params})
            assert 200 == reply.status_code, reply.text
            found: dict[str, Any] = reply.json()
            return found

        for settled in (False, True):
            if settled:
                small_lake.settle()
            of_tag = "list_contains(tags, 'level-1')"
            for path, (low, high) in PERIODS.items():
                rows = board(counted, "user_id", "sum(points)", of_tag, low, high)
                reply = ask(f"tag:level-1/{path}", explain=True)
                assert rows and rows == shown(reply["entries"]), (settled, path)
                assert {"answers"} == {part["source"] for part in reply["explain"]["parts"]}
                me = chance.choice(rows)
                near = ask(f"tag:level-1/{path}", around=me[1], m=1, users=me[1])
                assert rows[max(me[0] - 2, 0) : me[0] + 1] == shown(near["around"])
                plays = ask(f"tag:level-1/{path}", measure="plays")
                assert board(counted, "user_id", "count(*)", of_tag, low, high) == shown(plays["entries"])
            for low, high in RANGES:
                reply = ask("tag:level-1", **{"from": low, "to": high})
                assert board(counted, "user_id", "sum(points)", of_tag, low, high) == shown(reply["entries"])
                for measure, value in (
                    ("points", "sum(points)"),
                    ("plays", "count(*)"),
                    ("misses", "count(*) - count(*) FILTER (correct)"),
                ):
                    reply = ask("global", **{"from": low, "to": high}, subject="word", measure=measure)
                    rows = board(counted, "word", value, "true", low, high)
                    assert rows == shown(reply["entries"]), (settled, measure, low)
                    assert {"apple", "ice-cream", "don't", "élan"} >= {row[1] for row in rows}
            one = ask(
                "global/daily/2024-03-31", subject="word", around="ice-cream", users="ice-cream,élan", m=1
            )
            assert "ice-cream" == one["me"]["user_id"] and one["ranks"][1]["entry"]
        ever = http.get("/v1/leaderboards/tag:level-1/all_time/current").json()
        assert ("unknown_period", True) == (ever["code"], "?from=" in ever["next_step"])
        ranks = http.get("/v1/users/u1/ranks", params={"boards": "tag:level-1/daily/2024-03-31"}).json()[
            "ranks"
        ]
        assert ranks[0]["error"] is None
    finally:
        api.stop()
    api = ApiProcess(tmp_path / "live", record.valkey_urls, record.postgres_url)
    try:
        reply = httpx.get(f"{api.url}/v1/leaderboards/tag:level-1/daily/2024-03-31")
        assert (404, "board_not_kept") == (reply.status_code, reply.json()["code"])
    finally:
        api.stop()
