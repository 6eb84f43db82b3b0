"""A settlement that is cut, run twice at once, or short of a record: it publishes once, whole, or says what it lacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts import names
from contracts.errors import BrokenContract
from contracts.events import AnswerEvent
from contracts.periods import days
from tests.spark_jobs.play import Outboxes, days_of_play, model
from tests.spark_jobs.rows import boards_in

if TYPE_CHECKING:
    from spark_jobs.settle import Job
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake

pytestmark = [pytest.mark.engine]
FIRST, LAST = date(2024, 4, 2), date(2024, 4, 3)
DAYS = ("daily",)


class Killed(Exception):
    """Stands in for the end of the process at one step."""


@pytest.fixture
def play() -> list[AnswerEvent]:
    return days_of_play(seed=11, count=120, first=FIRST, length_days=2)


@pytest.fixture
def outboxes(empty_lake: None) -> Iterator[Outboxes]:
    yield Outboxes()


def _job(lake: Lake, broker: Broker, outboxes: Outboxes, wait_s: float = 30) -> Job:
    from spark_jobs.settle import Job

    return Job(
        postgres_url=lake.postgres_url,
        bootstrap=broker.bootstrap,
        checkpoint=lake.new_checkpoint(),
        shards=outboxes.shards,
        ask_barriers=lambda zone, wanted: broker.send(outboxes.barriers(zone, wanted)),
        now_us=lambda: 1_800_000_000_000_000,
        wait_s=wait_s,
    )


def _settlements(lake: Lake) -> list[Any]:
    with psycopg.connect(lake.postgres_url) as connection:
        return connection.execute("SELECT id, version, reason FROM settlements ORDER BY id").fetchall()


def _daily(events: list[AnswerEvent]) -> dict[Any, Any]:
    """The model's daily boards of the span, in each scope's own zone."""
    return {key: rows for key, rows in model(events).items() if key[0] == "daily" and FIRST <= key[1] <= LAST}


def _refs(lake: Lake, kind: str) -> list[str]:
    return [
        row[0]
        for row in lake.spark.sql(
            f"SELECT name FROM {names.table('rankings')}.refs WHERE type = '{kind}' ORDER BY name"
        ).collect()
    ]


def test_a_crash_before_the_row_is_run_again_to_the_same_boards(
    lake: Lake,
    broker: Broker,
    outboxes: Outboxes,
    play: list[AnswerEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from spark_jobs.settle import settle

    def cut(*_: Any) -> None:
        raise Killed

    broker.send(outboxes.answers(play))
    job = _job(lake, broker, outboxes)
    with monkeypatch.context() as before_publishing:
        before_publishing.setattr("spark_jobs.publish.fast_forward", cut)
        with pytest.raises(Killed):
            settle(lake.spark, job, FIRST, LAST, DAYS)
    assert [names.audit_branch("1"), "main"] == sorted({*_refs(lake, "BRANCH"), "main"}, reverse=True)
    assert ([], {}) == (_settlements(lake), boards_in(lake))
    with monkeypatch.context() as before_the_row:
        before_the_row.setattr("spark_jobs.publish.insert_settlement", cut)
        with pytest.raises(Killed):
            settle(lake.spark, job, FIRST, LAST, DAYS)
    assert [] == _settlements(lake)
    settle(lake.spark, job, FIRST, LAST, DAYS)
    assert [("1", 1, "period_ended")] == _settlements(lake)
    assert _daily(play) == boards_in(lake)
    assert (["main"], [names.settlement_tag("1")]) == (_refs(lake, "BRANCH"), _refs(lake, "TAG"))


@pytest.mark.long
def test_two_settles_of_a_week_at_once_publish_it_and_its_days_once(
    lake: Lake,
    broker: Broker,
    outboxes: Outboxes,
    play: list[AnswerEvent],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from spark_jobs.settle import settle

    caplog.set_level(logging.INFO, "locks")

    broker.send(outboxes.answers(play))
    job = _job(lake, broker, outboxes)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(settle, lake.spark, job, FIRST, FIRST, ("weekly",)) for _ in range(2)]
        documents = [one.result() for one in both]
    assert [[], ["1"]] == sorted(document["settlements"] for document in documents)
    assert [("1", 1, "period_ended")] == _settlements(lake)
    assert {key: rows for key, rows in model(play).items() if key[0] != "monthly"} == boards_in(lake)
    published = {(one["period"], one["start"]) for document in documents for one in document["settled"]}
    week = {("daily", str(day)) for day in days(date(2024, 4, 1), date(2024, 4, 7))}
    assert week | {("weekly", "2024-04-01")} == published
    told = [record.getMessage() for record in caplog.records if record.name == "locks"]
    assert ["lock_waits", "lock_taken"] == [line.split()[0] for line in told if ".settle" in line]


@pytest.mark.long
def test_three_kinds_at_once_publish_each_period_once(
    lake: Lake, broker: Broker, outboxes: Outboxes, play: list[AnswerEvent]
) -> None:
    from spark_jobs.settle import settle

    broker.send(outboxes.answers(play))
    job = _job(lake, broker, outboxes)
    settle(lake.spark, job, FIRST, FIRST, ("weekly",))
    late = days_of_play(seed=12, count=20, first=LAST, length_days=1, offset=500)
    broker.send(outboxes.answers(late))
    with ThreadPoolExecutor(3) as pool:
        kinds = [("daily",), ("weekly",), ("monthly",)]
        for one in [pool.submit(settle, lake.spark, job, FIRST, LAST, kind) for kind in kinds]:
            one.result()
    with psycopg.connect(lake.postgres_url) as connection:
        versions = connection.execute(
            "SELECT period, start, array_agg(version ORDER BY settlement_id::bigint) FROM settlement_periods "
            "WHERE zone = 'UTC' GROUP BY 1, 2"
        ).fetchall()
    again = {("daily", LAST), ("weekly", date(2024, 4, 1)), ("monthly", date(2024, 4, 1))}
    assert 30 + 1 + 1 == len(versions)
    for period, start, found in versions:
        assert ([1, 2] if (period, start) in again else [1]) == found, (period, start)
    assert model(play + late) == boards_in(lake)


def test_a_day_with_a_gap_is_not_settled_and_says_what_it_lacks(
    lake: Lake, broker: Broker, outboxes: Outboxes, play: list[AnswerEvent]
) -> None:
    from spark_jobs.settle import settle

    records = outboxes.answers(play)
    lost = next(record for record in records if record[2] == 1 and record[3] == 20)
    broker.send([record for record in records if record is not lost])
    first = settle(lake.spark, _job(lake, broker, outboxes, wait_s=0), FIRST, LAST, DAYS)
    assert [] == first["settled"] == _settlements(lake)
    assert {"incomplete"} == {item["why"] for item in first["skipped"]}
    assert all([{"shard": 1, "seq": 20}] == item["missing"] for item in first["skipped"])
    broker.send([lost])
    second = settle(lake.spark, _job(lake, broker, outboxes), FIRST, LAST, DAYS)
    assert [] == second["skipped"]
    assert _daily(play) == boards_in(lake)


@pytest.mark.long
def test_records_that_come_again_under_their_offsets_are_dropped(
    lake: Lake, broker: Broker, outboxes: Outboxes, play: list[AnswerEvent]
) -> None:
    from spark_jobs.ingest_answers import write_batch

    broker.send(outboxes.answers(play))

    def batch() -> Any:
        return (
            lake.spark.read.format("kafka")
            .option("kafka.bootstrap.servers", broker.bootstrap)
            .option("subscribe", names.ANSWERS)
            .option("includeHeaders", "true")
            .load()
        )

    write_batch(batch(), broker.bootstrap)
    broker.send(outboxes.answers(days_of_play(seed=12, count=10, first=FIRST, length_days=1, offset=500)))
    write_batch(batch(), broker.bootstrap)
    write_batch(batch(), broker.bootstrap)
    found = lake.spark.table(names.table("answers"))
    assert (130, 130) == (found.count(), found.select("event_id").distinct().count())


def test_a_seq_that_comes_twice_stops_the_settlement(
    lake: Lake, broker: Broker, outboxes: Outboxes, play: list[AnswerEvent]
) -> None:
    from spark_jobs.settle import settle

    records = outboxes.answers(play)
    broker.send([*records, records[7]])
    with pytest.raises(BrokenContract, match="more than once"):
        settle(lake.spark, _job(lake, broker, outboxes), FIRST, LAST, DAYS)
    assert ([], {}) == (_settlements(lake), boards_in(lake))
