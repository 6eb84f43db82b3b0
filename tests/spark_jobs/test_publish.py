"""Partitions on an audit branch: replaced whole, also by nothing; other zones' rows carried over; main as it was."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from contracts import names

if TYPE_CHECKING:
    from tests.spark_jobs.conftest import Lake

FIRST, SECOND = date(2031, 1, 1), date(2031, 1, 2)
"""Days that no other test of this lake has."""
BEFORE = [("global", "UTC", FIRST, 1), ("quiz:a", "Asia/Tokyo", FIRST, 2), ("global", "UTC", SECOND, 3)]


@pytest.mark.unit
def test_partitions_are_named_by_what_stands_before_their_dates() -> None:
    from spark_jobs.publish import _one_of

    values = [("daily", FIRST), ("daily", SECOND), ("monthly", FIRST)]
    assert (
        "(period = 'daily' AND start IN (DATE '2031-01-01', DATE '2031-01-02')) OR "
        "(period = 'monthly' AND start IN (DATE '2031-01-01'))"
    ) == _one_of(["period", "start"], values)
    assert "(day IN (DATE '2031-01-02'))" == _one_of(["day"], [(SECOND,)])


@pytest.mark.engine
def test_a_day_that_a_removal_emptied_is_empty(lake: Lake) -> None:
    from spark_jobs import publish
    from spark_jobs.day_frames import local_rows

    spark, table = lake.spark, names.table("user_days")
    shape = (
        "scope STRING, zone STRING, day DATE, user_no BIGINT, points BIGINT, reached_at_us BIGINT, plays BIGINT, "
        "misses BIGINT"
    )
    rows = spark.createDataFrame([(*row, 5, 9, 1, 0) for row in BEFORE], shape)
    rows.writeTo(table).append()
    publish.open_branches(spark, "999", ["user_days"])
    targets = local_rows(spark, [("UTC", FIRST)], "zone STRING, day DATE")
    publish.replace_partitions(rows.limit(0), "user_days", "999", ["day", "zone"], targets)

    def shown(found: Any) -> list[tuple[Any, ...]]:
        return sorted(
            (r.scope, r.zone, r.day, r.user_no) for r in found.where("day >= '2031-01-01'").collect()
        )

    assert sorted(BEFORE[1:]) == shown(publish.read_branch(spark, "user_days", "999"))
    assert sorted(BEFORE) == shown(spark.table(table))
    publish.drop_branches(spark)
    spark.sql(f"DELETE FROM {table} WHERE day >= DATE '2031-01-01'")
