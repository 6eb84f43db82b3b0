"""Kafka → lake → settled boards, on a real Spark, Kafka and Postgres: equal to the model, late answers, reruns."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts import names
from contracts.events import AnswerEvent
from contracts.periods import widen
from tests.spark_jobs.play import Outboxes, days_of_play, model
from tests.spark_jobs.rows import boards_in

if TYPE_CHECKING:
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake

pytestmark = [pytest.mark.engine]
FIRST, LAST = date(2024, 3, 29), date(2024, 4, 2)
"""Over a month's end, a week's end and a change of the clock in Paris (31 March)."""


def _duckdb_daily_global(events: list[AnswerEvent]) -> list[tuple[Any, ...]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("create table e (u varchar, t bigint, p bigint)")
    connection.executemany(
        "insert into e values (?, ?, ?)", [(e.user_id, e.occurred_at_us, e.points) for e in events]
    )
    return connection.execute(
        "with s as (select make_timestamp(t)::date d, u, sum(p)::bigint p, max(t) filter (p > 0) // 1000000 * 1000000 r "
        "from e group by all) select d, row_number() over (partition by d order by p desc, r, u desc) k, u, p, r "
        "from s order by d, k"
    ).fetchall()


@pytest.fixture(scope="module", autouse=True)
def _empty(lake: Lake, broker: Broker) -> None:
    lake.empty(broker)


@pytest.fixture(scope="module")
def play() -> list[AnswerEvent]:
    return days_of_play(seed=7, count=1500, first=date(2024, 3, 25), length_days=14)


def _job(lake: Lake, broker: Broker, outboxes: Outboxes) -> Any:
    from spark_jobs.settle import Job

    return Job(
        postgres_url=lake.postgres_url,
        bootstrap=broker.bootstrap,
        checkpoint=f"{lake.warehouse}/_checkpoints/x",
        shards=outboxes.shards,
        ask_barriers=lambda zone, wanted: broker.send(outboxes.barriers(zone, wanted)),
        now_us=lambda: 1_800_000_000_000_000,
        wait_s=30,
    )


def test_boards_equal_the_model_then_late_answers_then_nothing(
    lake: Lake, broker: Broker, play: list[AnswerEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spark_jobs import publication
    from spark_jobs.settle import settle
    from spark_jobs.settled_rankings import SettledRankings

    outboxes = Outboxes()
    broker.send(outboxes.answers(play))
    bad = ("answer.v1", "u1", 0, outboxes.seq[0] + 1, b'{"event_id": 1}')
    outboxes.seq[0] += 1
    broker.send([bad, ("mystery", "u1", 1, outboxes.seq[1] + 1, b"not json")])
    outboxes.seq[1] += 1
    job = _job(lake, broker, outboxes)
    low, high = widen(FIRST, LAST)

    first = settle(lake.spark, job, low, high)
    assert [] == [
        item for item in first["skipped"] if item["start"] <= "2024-04-30" and item["why"] == "incomplete"
    ]
    expected = model(play)
    found = boards_in(lake)
    assert expected.keys() <= found.keys()
    assert expected == found
    daily = [
        (k[1], *row)
        for k, rows in sorted(found.items())
        if k[0] == "daily" and k[2] == "global"
        for row in rows
    ]
    assert _duckdb_daily_global(play) == daily
    letters = lake.spark.table(names.table("dead_letters")).orderBy("shard").collect()
    assert ["fields missing or unknown", "header type is missing or unknown"] == [
        row.reason for row in letters
    ]

    again = settle(lake.spark, job, low, high)
    assert ([], []) == (again["settled"], again["settlements"])

    # The adjustment ranks its largest boards by ranges: several files in a partition that else has one.
    by_ranges = partial(SettledRankings, big_rows=150, range_rows=100)
    monkeypatch.setattr(publication, "SettledRankings", by_ranges)
    late = days_of_play(seed=8, count=20, first=date(2024, 3, 30), length_days=2, offset=100_000)
    broker.send(outboxes.answers(late))
    second = settle(lake.spark, job, FIRST, LAST)
    assert {2} == {item["version"] for item in second["settled"]}
    assert model(play + late) == boards_in(lake)
    files = lake.spark.sql(
        f"SELECT partition.period AS period, count(*) AS n FROM {names.table('rankings')}.files GROUP BY partition"
    ).collect()
    assert {"weekly", "monthly"} == {row.period for row in files if row.n > 1}
    assert [] == settle(lake.spark, job, FIRST, LAST)["settled"]
    with psycopg.connect(lake.postgres_url) as connection:
        rows = connection.execute("SELECT id, version, reason FROM settlements ORDER BY id").fetchall()
    assert [("1", 1, "period_ended"), ("2", 2, "late_answers")] == rows


def test_a_batch_that_is_run_again_writes_nothing(lake: Lake, broker: Broker) -> None:
    from spark_jobs.ingest_answers import ingest

    before = lake.spark.table(names.table("answers")).count()
    for number in range(2):
        # A lost checkpoint makes Spark read the topic from its start.
        ingest(
            lake.spark,
            postgres_url=lake.postgres_url,
            bootstrap=broker.bootstrap,
            checkpoint=f"{lake.warehouse}/_checkpoints/lost{number}",
        )
    assert before == lake.spark.table(names.table("answers")).count()


def test_duckdb_reads_settled_boards_of_each_settlement(
    lake: Lake, play: list[AnswerEvent], tmp_path: Path
) -> None:
    from lake.rankings import page
    from lake.views import Lake as Reader

    with psycopg.connect(lake.postgres_url) as connection:
        rows = connection.execute("SELECT snapshots FROM settlements ORDER BY created_at").fetchall()
    reader = Reader(lake.postgres_url, lake.warehouse, tmp_path)
    month = model(play)[("monthly", date(2024, 3, 1), "global")]
    user = month[7][1]
    found = page(
        reader, rows[0][0]["rankings"], "global", "monthly", date(2024, 3, 1), k=5, user_id=user, m=2
    )
    assert [row[:3] for row in month[:5]] == [(e.rank, e.user_id, e.points) for e in found.entries]
    assert (len(month), user) == (found.participants, found.me.user_id if found.me else None)
    assert [row[1] for row in month[5:10]] == [e.user_id for e in found.around]
    absent = page(reader, rows[0][0]["rankings"], "global", "monthly", date(2024, 3, 1), user_id="nobody")
    assert (None, ()) == (absent.me, absent.around)
    counts = reader.open().sql("select count(*), count(distinct event_id) from answers").fetchall()
    assert counts[0][0] == counts[0][1] > len(play)
