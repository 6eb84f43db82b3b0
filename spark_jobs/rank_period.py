"""User-days → exact rankings of every board of the periods: small boards by contracts/board.sql over the view `totals`,
big ones by ranges (spark_jobs/rank_by_range.py)."""

from __future__ import annotations

from importlib.resources import files

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.rank_by_range import BIG_BOARD_ROWS, RANGE_ROWS, big_boards, not_on, ranked_by_range

COLUMNS = ("period", "start", "zone", "scope", "rank", "user_id", "user_no", "points", "reached_at_us")


def board_sql() -> str:
    """The one text of the exact board query."""
    return files("contracts").joinpath("board.sql").read_text()


def totals(per_day: DataFrame, period_rows: DataFrame, user_numbers: DataFrame) -> DataFrame:
    """One row per (period, start, zone, scope, user): the view that board.sql reads.

    per_day: user-days; period_rows: day_frames.period_frame; user_numbers: (user_no, user_id), joined before any
    order so that ties are cut by the user's bytes.
    """
    board = ["period", "start", "zone"]
    days = period_rows.select("zone", "day", "period", "start")
    frames = period_rows.select(*board, "anchor_us", "tick_us").distinct()
    return (
        per_day.join(F.broadcast(days), ["zone", "day"])
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


def rankings(
    board_totals: DataFrame, big_rows: int = BIG_BOARD_ROWS, range_rows: int = RANGE_ROWS
) -> DataFrame:
    """All rows of all boards with their rank, in the columns of the table `rankings`.

    A board of `big_rows` rows or more goes by ranges, thousands of small ones together through board.sql. board_totals
    is read several times if there is a big one: the caller persists it.
    """
    big = big_boards(board_totals, big_rows)
    few = not_on(board_totals, big)
    few.createOrReplaceTempView("totals")
    found = board_totals.sparkSession.sql(board_sql()).select(
        *[F.col(name).cast("bigint") if name == "rank" else F.col(name) for name in COLUMNS]
    )
    if not big:
        return found
    return found.unionByName(ranked_by_range(board_totals, big, range_rows).select(*COLUMNS))
