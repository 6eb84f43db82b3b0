"""Maintenance changes how the lake is stored, never what it says: boards, old settlements, what ingest has taken in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts import names
from contracts.events import AnswerEvent
from tests.spark_jobs.play import Outboxes, days_of_play
from tests.spark_jobs.rows import boards_in

if TYPE_CHECKING:
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake

DAY = date(2024, 4, 2)
WRITTEN = ("answers", "user_numbers", "rankings")
FOUR_DAYS_S = 4 * 86_400


class Killed(Exception):
    """Stands in for the end of the process at one step."""


def _cut(*_: Any) -> None:
    raise Killed


@pytest.fixture
def outboxes(empty_lake: None) -> Iterator[Outboxes]:
    yield Outboxes()


@pytest.mark.unit
def test_a_snapshot_is_tagged_once_and_one_that_is_gone_is_told() -> None:
    from spark_jobs.maintain_tables import unnamed

    named = {11: "settled_1", 12: "settled_2", 13: "settled_3"}
    assert ({12: "settled_2"}, {13: "settled_3"}) == unnamed(named, tagged={11}, present={11, 12, 14})


@pytest.mark.engine
@pytest.mark.long
def test_maintained_tables_say_what_they_said(
    lake: Lake, broker: Broker, outboxes: Outboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six batches, two settlements, a cut in the middle, all that may expire expired: rows, boards, offsets stay."""
    from spark_jobs.ingest_answers import ingest
    from spark_jobs.maintain_tables import maintain
    from spark_jobs.settle import Job, settle

    played = days_of_play(seed=5, count=60, first=DAY, length_days=1)
    job = Job(
        postgres_url=lake.postgres_url,
        bootstrap=broker.bootstrap,
        checkpoint=lake.new_checkpoint(),
        shards=outboxes.shards,
        ask_barriers=lambda zone, wanted: broker.send(outboxes.barriers(zone, wanted)),
        now_us=lambda: 1_800_000_000_000_000,
        wait_s=30,
    )

    def take_in(events: list[AnswerEvent], checkpoint: str) -> None:
        broker.send(outboxes.answers(events))
        ingest(lake.spark, postgres_url=lake.postgres_url, bootstrap=broker.bootstrap, checkpoint=checkpoint)

    with monkeypatch.context() as in_small_batches:
        in_small_batches.setattr("spark_jobs.ingest_answers.MAX_RECORDS_A_BATCH", 10)
        take_in(played, job.checkpoint)
    settle(lake.spark, job, DAY, DAY, ("daily",))
    boards_1, named_1 = boards_in(lake), _named(lake, "1")
    late = days_of_play(seed=6, count=10, first=DAY, length_days=1, offset=60)
    broker.send(outboxes.answers(late))
    settle(lake.spark, job, DAY, DAY, ("daily",))
    boards_2, named_2 = boards_in(lake), _named(lake, "2")
    # No settlement names the snapshot of this ingest, which says what is in.
    take_in(days_of_play(seed=8, count=5, first=DAY, length_days=1, offset=70), job.checkpoint)
    assert boards_1 != boards_2
    table = names.table("rankings")
    orphan, young = _left_by_crashes(lake, table)
    looked = maintain(lake.spark, lake.postgres_url, WRITTEN, older_than_days=0, dry_run=True)
    assert orphan.exists() and looked["audit_branches"] == 1
    foreseen = looked["tables"]["answers"]
    assert foreseen["compacted_files"] == foreseen["before"]["files"] >= 7 and foreseen["tagged"] == 2
    with monkeypatch.context() as after_compaction:
        after_compaction.setattr("spark_jobs.maintain_tables.carry_offsets", _cut)
        with pytest.raises(Killed):
            maintain(lake.spark, lake.postgres_url, ("answers",), older_than_days=0)
    done = maintain(lake.spark, lake.postgres_url, WRITTEN, older_than_days=0)
    answers, rankings = done["tables"]["answers"], done["tables"]["rankings"]
    assert answers["after"]["files"] < foreseen["before"]["files"]
    assert 0 < foreseen["snapshots_expired"] <= answers["snapshots_expired"]
    assert (answers["after"]["rows"], []) == (75, done["lost"])
    assert (1, False, True) == (rankings["orphans_removed"], orphan.exists(), young.exists())
    branches = lake.spark.sql(f"SELECT name FROM {table}.refs WHERE type = 'BRANCH'").collect()
    assert ["main"] == [row[0] for row in branches]

    assert boards_2 == boards_in(lake)
    for named, counts in ((named_1, (60, boards_1)), (named_2, (70, boards_2))):
        assert counts[0] == _rows_at(lake, "answers", named["answers"])
        assert sum(map(len, counts[1].values())) == _rows_at(lake, "rankings", named["rankings"])
        for name, snapshot in named.items():
            _rows_at(lake, name, snapshot)  # raises if its files are gone

    again = maintain(lake.spark, lake.postgres_url, WRITTEN, older_than_days=0)
    quiet = {"compacted_files": 0, "tagged": 0, "snapshots_expired": 0, "orphans_removed": 0}
    for one in again["tables"].values():
        assert {**one, **quiet, "after": one["before"]} == one
    take_in([], lake.new_checkpoint())
    found = lake.spark.table(names.table("answers"))
    assert (75, 75) == (found.count(), found.select("event_id").distinct().count())


def _left_by_crashes(lake: Lake, table: str) -> tuple[Path, Path]:
    """An audit branch, a file of four days ago that no snapshot names, and one of now."""
    lake.spark.sql(f"ALTER TABLE {table} CREATE BRANCH `{names.audit_branch('9')}`")
    data = Path(lake.warehouse.removeprefix("file://")) / names.NAMESPACE / "rankings" / "data"
    orphan, young = data / "orphan.parquet", data / "young.parquet"
    for path in (orphan, young):
        path.write_bytes(b"left by a task that was killed")
    os.utime(orphan, (time.time() - FOUR_DAYS_S,) * 2)
    return orphan, young


def _named(lake: Lake, settlement: str) -> dict[str, int]:
    with psycopg.connect(lake.postgres_url) as connection:
        row = connection.execute("SELECT snapshots FROM settlements WHERE id = %s", (settlement,)).fetchone()
    assert row is not None
    found: dict[str, int] = row[0]
    return found


def _rows_at(lake: Lake, name: str, snapshot: int) -> Any:
    return len(lake.spark.read.option("versionAsOf", snapshot).table(names.table(name)).collect())
