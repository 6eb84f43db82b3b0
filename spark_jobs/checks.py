"""Checks of what a settlement has written, before it is published: `fail` stops it, `warn` is told."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from contracts.errors import BrokenContract
from spark_jobs.rank_by_range import BOARD

log = logging.getLogger(__name__)
RANKING_CHECKS = ("a user once a board", "ranks 1..n without gap", "rows equal", "sums of points equal")


@dataclass(frozen=True, slots=True)
class Check:
    """One check's outcome: `bad` counts what breaks it, 0 is right."""

    name: str
    level: str
    bad: int


def check_rankings(written: DataFrame, board_totals: DataFrame) -> list[Check]:
    """Rows unique, ranks 1..n without gap, points and rows equal to the totals, board by board."""
    row = _counts(written, board_totals)
    return [Check(f"rankings: {name}", "fail", bad) for name, bad in zip(RANKING_CHECKS, row, strict=True)]


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


def check_answers(answers: DataFrame) -> list[Check]:
    """event_id, (partition, offset) and (shard, seq) unique; one number a user and one user a number.

    Distinct values of several columns in one aggregation would multiply the rows. Places are dense, so bitmaps count them;
    ids are counted by 96 bits of hash: a repeat is never missed, and 100 million ids are refused wrongly once in 10^13.
    """
    ids = answers.select(F.xxhash64("event_id").alias("a"), F.hash("event_id").alias("b")).distinct()
    users = answers.select("user_id", "user_no").distinct()
    row = (
        answers.agg(F.count("*").alias("n"))
        .crossJoin(ids.agg(F.count("*").alias("ids")))
        .crossJoin(dense_count(answers, "kafka_offset", "kafka_partition").withColumnRenamed("n", "offsets"))
        .crossJoin(dense_count(answers, "seq", "shard").withColumnRenamed("n", "seqs"))
        .crossJoin(
            users.agg(
                (F.count("*") - F.count_distinct("user_id")).alias("numbers"),
                (F.count("*") - F.count_distinct("user_no")).alias("users"),
            )
        )
        .collect()[0]
    )
    found = {
        "event_id unique": row.n - row.ids,
        "(partition, offset) unique": row.n - row.offsets,
        "(shard, seq) unique": row.n - row.seqs,
        "one number a user": row.numbers,
        "one user a number": row.users,
    }
    return [Check(f"answers: {name}", "fail", bad) for name, bad in found.items()]


def dense_count(rows: DataFrame, number: str, *within: str) -> DataFrame:
    """One row, one column `n`: the exact number of distinct (within, number), of dense numbers; 4 KB for each 32,768."""
    return (
        rows.groupBy(*within, F.bitmap_bucket_number(number).alias("bucket"))
        .agg(F.bitmap_count(F.bitmap_construct_agg(F.bitmap_bit_position(F.col(number)))).alias("ones"))
        .agg(F.coalesce(F.sum("ones"), F.lit(0)).alias("n"))
    )


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
