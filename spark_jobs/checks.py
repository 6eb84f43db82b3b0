"""Checks of what a settlement has written, before it is published: `fail` stops it, `warn` is told."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from contracts.errors import BrokenContract
from spark_jobs.rank_by_range import BIG_BOARD_ROWS, BOARD, big_boards, is_board, not_on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome: `bad` counts what breaks it, 0 is right."""

    name: str
    level: str
    bad: int


def check_rankings(
    written: DataFrame, board_totals: DataFrame, big_rows: int = BIG_BOARD_ROWS
) -> list[Check]:
    """Rows unique, ranks 1..n without gap, points and rows equal to the totals, board by board.

    A board of `big_rows` rows or more is proved without a shuffle of its rows, see _big_counts.
    """
    big = big_boards(board_totals, big_rows)
    row = _counts(not_on(written, big), not_on(board_totals, big))
    for board in big:
        here = is_board(board)
        row = [
            a + b
            for a, b in zip(row, _big_counts(written.where(here), board_totals.where(here)), strict=True)
        ]
    found = ("a user once a board", "ranks 1..n without gap", "rows equal", "sums of points equal")
    return [Check(f"rankings: {name}", "fail", bad) for name, bad in zip(found, row, strict=True)]


def _counts(written: DataFrame, board_totals: DataFrame) -> list[int]:
    """Boards that break each of the four, every board by its distinct values."""
    boards = written.groupBy(*BOARD).agg(
        F.count("*").alias("n"),
        F.min("rank").alias("low"),
        F.max("rank").alias("high"),
        F.count_distinct("rank").alias("ranks"),
        F.count_distinct("user_id").alias("users"),
        F.sum("points").alias("points"),
    )
    wanted = board_totals.groupBy(*BOARD).agg(F.count("*").alias("n_in"), F.sum("points").alias("points_in"))
    both = boards.join(wanted, BOARD, "full")
    n = F.col("n")
    row = both.agg(
        F.count_if(F.col("users") != n),
        F.count_if((F.col("low") != 1) | (F.col("high") != n) | (F.col("ranks") != n)),
        F.count_if(~n.eqNullSafe(F.col("n_in"))),
        F.count_if(~F.col("points").eqNullSafe(F.col("points_in"))),
    ).collect()[0]
    return list(row)


def _big_counts(written: DataFrame, board_totals: DataFrame) -> list[int]:
    """0 or 1 for each of the four, of one board.

    Ranks and user numbers are dense, so that bitmaps count their distinct values exactly in a bit each; the pairs
    (number, user) are those of the totals by the sum of their 64-bit hashes, and in the totals a number is one user's
    (check_answers).
    """
    pairs = F.sum(F.xxhash64("user_no", "user_id").cast("decimal(20,0)"))
    columns = ("n", "low", "high", "points", "pairs")
    ours = written.agg(F.count("*"), F.min("rank"), F.max("rank"), F.sum("points"), pairs).toDF(*columns)
    theirs = board_totals.agg(F.count("*"), F.sum("points"), pairs).collect()[0]
    mine = ours.collect()[0]
    users, ranks = _distinct(written, "user_no"), _distinct(written, "rank")
    return [
        int(users != mine.n or mine.pairs != theirs[2]),
        int((mine.low, mine.high, ranks) != (1, mine.n, mine.n)),
        int(mine.n != theirs[0]),
        int(mine.points != theirs[1]),
    ]


def _distinct(rows: DataFrame, column: str) -> int:
    """Exact number of distinct values of a dense column: 4 KB for each 32,768 numbers."""
    bits = rows.groupBy(F.bitmap_bucket_number(column)).agg(
        F.bitmap_count(F.bitmap_construct_agg(F.bitmap_bit_position(F.col(column)))).alias("ones")
    )
    return bits.agg(F.sum("ones")).collect()[0][0] or 0


def check_answers(answers: DataFrame) -> list[Check]:
    """event_id, (partition, offset) and (shard, seq) unique; one number a user and one user a number."""
    row = answers.agg(
        F.count("*") - F.count_distinct("event_id"),
        F.count("*") - F.count_distinct("kafka_partition", "kafka_offset"),
        F.count("*") - F.count_distinct("shard", "seq"),
        F.count_distinct("user_id", "user_no") - F.count_distinct("user_id"),
        F.count_distinct("user_id", "user_no") - F.count_distinct("user_no"),
    ).collect()[0]
    found = (
        "event_id unique",
        "(partition, offset) unique",
        "(shard, seq) unique",
        "one number a user",
        "one user a number",
    )
    return [Check(f"answers: {name}", "fail", bad) for name, bad in zip(found, row, strict=True)]


def enforce(checks: list[Check]) -> None:
    """Raise BrokenContract(check_failed) for a broken `fail` check; log a broken `warn` check."""
    for check in checks:
        if check.bad and check.level == "warn":
            log.warning("check_warned name=%r bad=%d", check.name, check.bad)
    broken = [f"{check.name} ({check.bad})" for check in checks if check.bad and check.level == "fail"]
    if broken:
        raise BrokenContract(
            "check_failed", "; ".join(broken), next_step="nothing was published; look at the branch"
        )
