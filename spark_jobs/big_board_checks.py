"""Checks of big boards against their user-days, by Spark's own sums: another way than DuckDB's, which ranked them."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from spark_jobs.checks import RANKING_CHECKS, Check, dense_count
from spark_jobs.rank_by_range import BOARD, BigBoard, is_board
from spark_jobs.total_checks import TOP, check_top


def check_big_rankings(
    written: DataFrame, rows: DataFrame, user_numbers: DataFrame, boards: Sequence[BigBoard]
) -> list[Check]:
    """As checks.check_rankings and total_checks.check_top, for every one of the boards.

    written: rows of `rankings` on the branch; rows: rank_by_range.summands of the boards.
    """
    sums = (
        rows.groupBy("board", "user_no")
        .agg(F.sum("points").alias("points"), F.max("reached_at_us").alias("reached_at_us"))
        .persist(StorageLevel.DISK_ONLY)
    )
    try:
        bad = [0] * len(RANKING_CHECKS)
        tops = []
        for index, board in enumerate(boards):
            here, own = written.where(is_board(board)), sums.where(F.col("board") == index)
            counts = _counts(here, own, user_numbers)
            bad = [a + b for a, b in zip(bad, counts, strict=True)]
            tops += check_top(here, _top_totals(here, own, user_numbers, board))
        return [
            Check(f"rankings: {name}", "fail", n) for name, n in zip(RANKING_CHECKS, bad, strict=True)
        ] + tops
    finally:
        sums.unpersist()


def _counts(written: DataFrame, sums: DataFrame, user_numbers: DataFrame) -> list[int]:
    """0 or 1 for each of RANKING_CHECKS, of one board.

    Ranks and user numbers are dense, so that bitmaps count their distinct values exactly in a bit each. Who has how many
    points is compared by the sum of 64-bit hashes of (number, points).
    """
    pairs = F.sum(F.xxhash64("user_no", "points").cast("decimal(20,0)"))
    mine = (
        written.agg(F.count("*"), F.min("rank"), F.max("rank"), F.sum("points"), pairs)
        .toDF("n", "low", "high", "points", "pairs")
        .collect()[0]
    )
    theirs = sums.agg(F.count("*"), F.sum("points"), pairs).toDF("n", "points", "pairs").collect()[0]
    users, ranks = (dense_count(written, name).collect()[0].n for name in ("user_no", "rank"))
    known = written.join(user_numbers, ["user_no", "user_id"], "left_semi").count()
    return [
        int((users, known) != (mine.n, mine.n)),
        int((mine.low, mine.high, ranks) != (1, mine.n, mine.n)),
        int(mine.n != theirs.n),
        int((mine.points, mine.pairs) != (theirs.points, theirs.pairs)),
    ]


def _top_totals(written: DataFrame, sums: DataFrame, user_numbers: DataFrame, board: BigBoard) -> DataFrame:
    """Totals, as board.sql reads them, of all who have at least the points of the last row of the written top."""
    least = written.where(F.col("rank") <= TOP).agg(F.min("points")).collect()[0][0]
    names = {name: F.lit(getattr(board, name)) for name in (*BOARD, "anchor_us", "tick_us")}
    return sums.where(F.col("points") >= F.lit(least or 0)).join(user_numbers, "user_no").withColumns(names)
