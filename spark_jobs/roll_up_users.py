"""Answers → user-days, one row per (scope, day in the scope's zone, user_no) → user-months (CONTRACTS D6)."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.day_frames import UTC_DAY_US

GLOBAL_ZONE = "UTC"


def scoped_answers(answers: DataFrame, day_rows: DataFrame) -> DataFrame:
    """One row per (answer, scope) that falls into one of the days: global in UTC and quiz:ID in the quiz's zone.

    day_rows: spark_jobs.day_frames.day_frame. Columns: scope, zone, day, user_no, user_id, points, correct,
    occurred_at_us, shard, seq, barrier_seq.
    """
    scopes = F.array(
        F.struct(F.lit("global").alias("scope"), F.lit(GLOBAL_ZONE).alias("zone")),
        F.struct(F.concat(F.lit("quiz:"), "quiz_id").alias("scope"), F.col("quiz_zone").alias("zone")),
    )
    each = (
        answers.select(
            "user_no",
            "user_id",
            "points",
            "correct",
            "occurred_at_us",
            "shard",
            "seq",
            F.floor(F.col("occurred_at_us") / F.lit(UTC_DAY_US)).alias("utc_day"),
            F.explode(scopes).alias("to"),
        )
        .select("*", "to.scope", "to.zone")
        .drop("to")
    )
    inside = (F.col("occurred_at_us") >= F.col("start_us")) & (F.col("occurred_at_us") < F.col("end_us"))
    return (
        each.join(F.broadcast(day_rows), ["zone", "utc_day", "shard"])
        .where(inside)
        .drop("utc_day", "start_us", "end_us")
    )


def user_days(scoped: DataFrame) -> DataFrame:
    """One row per (scope, zone, day, user_no): points, reached_at_us (null at 0 points), plays, misses."""
    return scoped.groupBy("scope", "zone", "day", "user_no").agg(
        F.sum("points").alias("points"),
        # A maximum, so the order of arrival does not matter; an answer without points does not move it.
        F.max(F.when(F.col("points") > 0, F.col("occurred_at_us"))).alias("reached_at_us"),
        F.count("*").alias("plays"),
        F.count_if(~F.col("correct")).alias("misses"),
    )


def user_months(per_day: DataFrame, month_rows: DataFrame) -> DataFrame:
    """One row per (scope, zone, month, user_no): the sums of its user-days.

    month_rows: day_frames.period_frame of the months.
    """
    months = month_rows.select("zone", "day", F.col("start").alias("month"))
    return (
        per_day.join(F.broadcast(months), ["zone", "day"])
        .groupBy("scope", "zone", "month", "user_no")
        .agg(
            F.sum("points").alias("points"),
            F.max("reached_at_us").alias("reached_at_us"),
            F.sum("plays").alias("plays"),
            F.sum("misses").alias("misses"),
        )
    )
