"""User-days → totals → exact rankings of the boards of the periods, thousands together, by contracts/board.sql over the view
`totals`. Big boards go by ranges: spark_jobs/rank_by_range.py."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.rank_by_range import BigBoard, not_on

COLUMNS = ("period", "start", "zone", "scope", "rank", "user_id", "user_no", "points", "reached_at_us")


def board_sql() -> str:
    """The one text of the exact board query."""
    return files("contracts").joinpath("board.sql").read_text()


def totals(
    per_day: DataFrame, period_rows: DataFrame, user_numbers: DataFrame, without: Sequence[BigBoard] = ()
) -> DataFrame:
    """One row per (period, start, zone, scope, user): the view that board.sql reads. without: boards that are left out.

    per_day: user-days; period_rows: day_frames.period_frame; user_numbers: (user_no, user_id), joined before any
    order so that ties are cut by the user's bytes.
    """
    board = ["period", "start", "zone"]
    days = period_rows.select("zone", "day", "period", "start")
    frames = period_rows.select(*board, "anchor_us", "tick_us").distinct()
    here = per_day.join(F.broadcast(days), ["zone", "day"])
    return (
        not_on(here, without)
        .select(*board, "scope", "user_no", "points", "reached_at_us")
        # One shuffle serves the sum and the join: a board's users are as many as its rows, so that sums before a shuffle
        # save little.
        .repartition("user_no")
        .groupBy(*board, "scope", "user_no")
        .agg(F.sum("points").alias("points"), F.max("reached_at_us").alias("reached_at_us"))
        .join(user_numbers, "user_no")
        .join(F.broadcast(frames), board)
        .select(*board, "scope", "user_no", "points", "reached_at_us", "anchor_us", "tick_us", "user_id")
    )


def rankings(board_totals: DataFrame) -> DataFrame:
    """All rows of all boards of the totals with their rank, in the columns of the table `rankings`, by board.sql."""
    board_totals.createOrReplaceTempView("totals")
    return board_totals.sparkSession.sql(board_sql()).select(
        *[F.col(name).cast("bigint") if name == "rank" else F.col(name) for name in COLUMNS]
    )
