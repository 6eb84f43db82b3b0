"""Days, periods and barriers as small tables, so that engines compare integers and never compute a boundary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts.periods import days, next_start, span
from contracts.ranking import PERIOD_TICK_US

UTC_DAY_US = 86_400_000_000
Period = tuple[str, date, str]
"""(period, first day, zone)."""


def local_rows(spark: SparkSession, rows: Sequence[Sequence[Any]], columns: str) -> DataFrame:
    """A small table from rows in the order of `columns` (DDL).

    As JSON that the JVM reads: createDataFrame would start Python workers each time the table is used, about 1 s.
    """
    names = [column.split()[0] for column in columns.split(",")]
    text = json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=str)
    parsed = F.from_json(F.lit(text), f"ARRAY<STRUCT<{columns}>>")
    return spark.range(1).select(F.inline(parsed))


def days_of(periods: Iterable[Period]) -> set[tuple[str, date]]:
    """Every (zone, day) that lies in one of the periods."""
    found: set[tuple[str, date]] = set()
    for period, start, zone in periods:
        after = next_start(period, start)
        found.update((zone, day) for day in days(start, after) if day < after)
    return found


def day_frame(
    spark: SparkSession,
    wanted: Iterable[tuple[str, date]],
    barrier_seq: dict[tuple[str, date], dict[int, int]],
) -> DataFrame:
    """One row per (zone, day, UTC day it overlaps, shard): its bounds in UTC µs and the shard's barrier seq.

    `utc_day` makes the join with answers an equality; the bounds then decide.
    """
    rows = []
    for zone, day in sorted(wanted):
        bounds = span("daily", day, zone)
        for utc_day in range(bounds.start_us // UTC_DAY_US, (bounds.end_us - 1) // UTC_DAY_US + 1):
            for shard, seq in barrier_seq.get((zone, day), {}).items():
                rows.append((zone, day, utc_day, bounds.start_us, bounds.end_us, shard, seq))
    return local_rows(
        spark,
        rows,
        "zone STRING, day DATE, utc_day BIGINT, start_us BIGINT, end_us BIGINT, shard INT, barrier_seq BIGINT",
    )


def period_frame(spark: SparkSession, periods: Iterable[Period]) -> DataFrame:
    """One row per (zone, day, period that holds it): the period's first day, anchor_us and tick_us."""
    rows = []
    for period, start, zone in sorted(periods):
        anchor_us = span(period, start, zone).start_us
        for _, day in days_of([(period, start, zone)]):
            rows.append((zone, day, period, start, anchor_us, PERIOD_TICK_US[period]))
    return local_rows(
        spark, rows, "zone STRING, day DATE, period STRING, start DATE, anchor_us BIGINT, tick_us BIGINT"
    )
