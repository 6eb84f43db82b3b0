"""Checks that hold what was written against the record it was made from, by another way than it was made."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from contracts.ranking import Total, floor_reached, rank
from spark_jobs.checks import Check

# Rows of the largest board's top that are sorted again.
TOP = 100
# Ties at the last place of the top are all needed; more than these are left out, with a warning.
_TIES_MAX = 10_000
_DAY = ["zone", "day", "scope"]


def check_days(written: DataFrame, record: DataFrame) -> list[Check]:
    """Each scope and day has as many plays and points as the answers that were counted.

    written: rows of user_days on the branch; record: scoped answers of the same days.
    """
    ours = written.groupBy(*_DAY).agg(
        F.sum("plays").alias("plays"), F.sum("points").alias("points"), F.sum("misses").alias("misses")
    )
    theirs = record.groupBy(*_DAY).agg(
        F.count("*").alias("n"), F.sum("points").alias("sum"), F.count_if(~F.col("correct")).alias("wrong")
    )
    row = (
        ours.join(theirs, _DAY, "full")
        .agg(
            F.count_if(~F.col("plays").eqNullSafe(F.col("n")) | ~F.col("misses").eqNullSafe(F.col("wrong"))),
            F.count_if(~F.col("points").eqNullSafe(F.col("sum"))),
        )
        .collect()[0]
    )
    found = ("plays and misses equal the record's", "points equal the record's")
    return [Check(f"user_days: {name}", "fail", bad) for name, bad in zip(found, row, strict=True)]


def check_months(written: DataFrame, days: DataFrame, month_rows: DataFrame) -> list[Check]:
    """Each month's row is the sum of its user-days, and no user is missing or repeated.

    written: rows of user_months on the branch; days: user-days; month_rows: day_frames.period_frame of the months.
    """
    key = ["zone", "month", "scope"]
    ours = written.groupBy(*key).agg(
        F.sum("points").alias("points"),
        F.sum("plays").alias("plays"),
        F.sum("misses").alias("misses"),
        F.count("*").alias("users"),
        F.count_distinct("user_no").alias("different"),
    )
    theirs = (
        days.join(
            F.broadcast(month_rows.select("zone", "day", F.col("start").alias("month"))), ["zone", "day"]
        )
        .groupBy(*key)
        .agg(
            F.sum("points").alias("points_in"),
            F.sum("plays").alias("plays_in"),
            F.sum("misses").alias("misses_in"),
            F.count_distinct("user_no").alias("users_in"),
        )
    )
    differ = [~F.col(n).eqNullSafe(F.col(f"{n}_in")) for n in ("points", "plays", "misses", "users")]
    row = (
        ours.join(theirs, key, "full")
        .agg(
            F.count_if(differ[0] | differ[1] | differ[2]),
            F.count_if(differ[3] | (F.col("users") != F.col("different"))),
        )
        .collect()[0]
    )
    found = ("sums equal the days'", "a user once a scope and month")
    return [Check(f"user_months: {name}", "fail", bad) for name, bad in zip(found, row, strict=True)]


def check_top(written: DataFrame, board_totals: DataFrame) -> list[Check]:
    """The top of the largest board equals a sort of its totals by contracts.ranking, row for row."""
    board = ["period", "start", "zone", "scope"]
    largest = board_totals.groupBy(*board).count().orderBy(F.desc("count"), *board).limit(1).collect()
    if not largest:
        return []
    only = F.lit(True)
    for name in board:
        only = only & (F.col(name) == F.lit(largest[0][name]))
    totals = board_totals.where(only)
    least = totals.select("points").orderBy(F.desc("points")).limit(TOP).agg(F.min("points")).collect()[0][0]
    rows = totals.where(F.col("points") >= least).limit(_TIES_MAX + 1).collect()
    if len(rows) > _TIES_MAX:
        return [Check("rankings: the top has too many ties to be sorted again", "warn", len(rows))]
    ranked = rank(
        Total(
            row.user_id,
            row.points,
            floor_reached(row.reached_at_us, row.anchor_us, row.tick_us) if row.points else None,
        )
        for row in rows
    )[:TOP]
    found = written.where(only & (F.col("rank") <= TOP)).orderBy("rank").collect()
    ours = [(row.rank, row.user_id, row.points, row.reached_at_us) for row in found]
    expected = [(one.rank, one.user_id, one.points, one.reached_at_us) for one in ranked]
    bad = sum(a != b for a, b in zip(ours, expected, strict=False)) + abs(len(ours) - len(expected))
    return [Check("rankings: top of the largest board equals a full sort", "fail", bad)]
