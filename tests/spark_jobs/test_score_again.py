"""Scored again on a real Spark, Kafka and Postgres: who moves is told, published once, and taken back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts import corrections, names
from contracts.corrections import Correction
from contracts.errors import BadInput
from contracts.events import AnswerEvent
from contracts.periods import midnight_us
from spark_jobs import score_again as module
from tests.spark_jobs.play import Outboxes, days_of_play, model
from tests.spark_jobs.rows import boards_in, user_days_in, user_months_in

if TYPE_CHECKING:
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake

pytestmark = [pytest.mark.engine]
FIRST, LAST = date(2024, 4, 1), date(2024, 4, 30)
NOW_US = 1_800_000_000_000_000
SPAN = midnight_us(date(2024, 4, 3), "UTC"), midnight_us(date(2024, 4, 5), "UTC")
CHANGE = Correction(0, "rule_change", 1, "by truth alone", "part-1", None, *SPAN, "correct@1")
CHEAT = Correction(0, "removal", 1, "cheated", None, "u2", None, SPAN[1])


class Killed(Exception):
    """Stands in for the end of the process at one step."""


@pytest.fixture(scope="module")
def play() -> list[AnswerEvent]:
    """A week over the month's begin, in two zones."""
    return days_of_play(seed=31, count=300, first=date(2024, 4, 1), length_days=7)


@pytest.fixture(scope="module")
def settled(lake: Lake, broker: Broker, play: list[AnswerEvent]) -> Lake:
    from spark_jobs.settle import Job, settle

    lake.empty(broker)
    outboxes = Outboxes()
    broker.send(outboxes.answers(play))
    job = Job(
        postgres_url=lake.postgres_url,
        bootstrap=broker.bootstrap,
        checkpoint=lake.new_checkpoint(),
        shards=outboxes.shards,
        ask_barriers=lambda zone, wanted: broker.send(outboxes.barriers(zone, wanted)),
        now_us=lambda: NOW_US,
        wait_s=30,
    )
    settle(lake.spark, job, FIRST, LAST)
    return lake


def _run(lake: Lake, broker: Broker, wanted: Correction | None, **more: Any) -> dict[str, Any]:
    job = module.Job(
        lake.postgres_url, broker.bootstrap, lake.new_checkpoint(), lambda: NOW_US, wait_s=20, **more
    )
    original = module.decide

    def decide_and_relay(connection: psycopg.Connection, correction: Correction) -> Correction:
        decided = original(connection, correction)
        broker.send_corrections(lake.postgres_url)
        return decided

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decide", decide_and_relay)
        return module.score_again(lake.spark, job, wanted)


def _under(play: Sequence[AnswerEvent], *decided: Correction) -> list[AnswerEvent]:
    numbered = [replace(one, correction_id=number) for number, one in enumerate(decided, 1)]
    counted = [(event, corrections.points_under(numbered, event)) for event in play]
    return [replace(event, points=points) for event, points in counted if points is not None]


def _assert_published(lake: Lake, counted: list[AnswerEvent]) -> None:
    assert model(counted) == boards_in(lake)
    days, months = user_days_in(lake), user_months_in(lake)
    for (kind, start, scope), rows in model(counted).items():
        if kind == "daily":
            assert {(r[1], r[2]) for r in rows} == days[(start, scope)]
        if kind == "monthly":
            assert {(r[1], r[2]) for r in rows} == months[(start, scope)]


def _in_force(lake: Lake) -> list[bool]:
    with psycopg.connect(lake.postgres_url) as sql:
        rows = sql.execute("SELECT in_force_at IS NOT NULL FROM corrections ORDER BY id").fetchall()
    return [row[0] for row in rows]


def test_a_dry_run_tells_who_moves_and_publishes_nothing(
    settled: Lake, broker: Broker, play: list[AnswerEvent], tmp_path: Path
) -> None:
    before, after = model(play), model(_under(play, CHANGE))
    found = _run(settled, broker, CHANGE, dry_run=True, csv_path=tmp_path / "moves.csv")
    assert ([], []) == (found["settlements"], _in_force(settled))
    assert before == boards_in(settled)
    with (tmp_path / "moves.csv").open() as file:
        rows = list(csv.DictReader(file))
    moved = {(r["period"], r["start"], r["scope"], r["user_id"]): r for r in rows}
    expected = {}
    for (period, start, scope), board in before.items():
        now = {row[1]: row for row in after[(period, start, scope)]}
        for row in board:
            if row != now[row[1]]:
                key = (period, start.isoformat(), scope, row[1])
                expected[key] = (str(row[0]), str(now[row[1]][0]), str(row[2]), str(now[row[1]][2]))
    assert expected == {
        key: (r["rank_before"], r["rank_after"], r["points_before"], r["points_after"])
        for key, r in moved.items()
    }
    assert len(expected) == found["changes"]["rows"] > 0
    for name in ("rankings", "user_days", "user_months", "ranking_changes"):
        refs = settled.spark.sql(f"SELECT name FROM {names.table(name)}.refs WHERE type = 'BRANCH'").collect()
        assert {"main"} >= {row[0] for row in refs}


@pytest.mark.long
def test_published_once_whatever_dies_and_taken_back(
    settled: Lake, broker: Broker, play: list[AnswerEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any, **__: Any) -> None:
        raise Killed

    before_the_row = monkeypatch.context()
    with before_the_row as patch:
        patch.setattr("spark_jobs.publish.insert_settlement", cut)
        with pytest.raises(Killed):
            _run(settled, broker, CHANGE)
    assert [False] == _in_force(settled)
    first = _run(settled, broker, CHANGE)
    assert ([1], ["2"], [True]) == (first["corrections"], first["settlements"], _in_force(settled))
    _assert_published(settled, _under(play, CHANGE))

    second = _run(settled, broker, CHEAT)
    assert [2] == second["corrections"] and second["changes"]["left"] > 0
    _assert_published(settled, _under(play, CHANGE, CHEAT))
    changes = settled.spark.table(names.table("ranking_changes"))
    gone = changes.where("user_id = 'u2' AND rank_after IS NULL").count()
    assert gone == second["changes"]["left"]

    with pytest.raises(BadInput, match="unknown_correction"):
        _run(settled, broker, Correction(0, "retraction", 1, "a slip", retracts=9))
    _run(settled, broker, Correction(0, "retraction", 1, "he did not", retracts=2))
    _assert_published(settled, _under(play, CHANGE))
    _run(settled, broker, Correction(0, "retraction", 1, "as before", retracts=1))
    _assert_published(settled, play)
    with psycopg.connect(settled.postgres_url) as sql:
        rows = sql.execute(
            "SELECT reason, last_correction, rule FROM settlements ORDER BY id::int"
        ).fetchall()
        stale = sql.execute("SELECT value FROM deployment WHERE key = 'boards_stale'").fetchall()
    assert ("retraction 4: as before", 4, "speed@1") == rows[-1] and 5 == len(rows)
    assert "correct@1,speed@1" == rows[1][2]
    assert [("5",)] == stale


@pytest.mark.long
def test_a_board_as_published_before_is_still_there(
    settled: Lake, play: list[AnswerEvent], tmp_path: Path
) -> None:
    from lake.rankings import page
    from lake.views import Lake as Reader

    with psycopg.connect(settled.postgres_url) as sql:
        rows = sql.execute(
            "SELECT (snapshots->>'rankings')::bigint FROM settlements ORDER BY id::int"
        ).fetchall()
    reader = Reader(settled.postgres_url, settled.warehouse, tmp_path)
    for (snapshot,), decided in zip(rows, [(), (CHANGE,), (CHANGE, CHEAT), (CHANGE,), ()], strict=True):
        expected = model(_under(play, *decided))[("monthly", date(2024, 4, 1), "global")]
        found = page(reader, snapshot, "global", "monthly", date(2024, 4, 1), k=1000)
        assert [row[:3] for row in expected] == [(e.rank, e.user_id, e.points) for e in found.entries]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--rule correct@1", "wrong_start"),
        ("--rule correct@1 --from 2024-04-02 --to 2024-04-01", "wrong_start"),
        ("--rule correct@1 --from 2024-04-01 --to 2999-01-01", "wrong_start"),
        ("--from 2024-04-01 --to 2024-04-02", "invalid_field"),
        ("--rule a@1 --remove-user u --from 2024-04-01 --to 2024-04-02", "invalid_field"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(line: str, code: str) -> None:
    known = [
        "--postgres-url",
        "x",
        "--kafka-bootstrap",
        "x",
        "--warehouse",
        "x",
        "--jars",
        "x",
        "--local-dir",
        "x",
    ]
    with pytest.raises(BadInput, match=code):
        module.wanted_correction(module._arguments([*line.split(), *known]), NOW_US)
