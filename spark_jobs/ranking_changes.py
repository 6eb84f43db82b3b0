"""What an adjustment moves: the boards as they are published now against the boards on the audit branch."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names

COLUMNS = (
    "settlement_id", "period", "start", "zone", "scope", "user_id", "user_no", "rank_before", "rank_after",
    "points_before", "points_after",
)  # fmt: skip
# Of those who move farthest, as many as a screen shows.
FARTHEST = 20


@dataclass(frozen=True, slots=True)
class Changes:
    """An adjustment in short: boards and rows that changed, users who came or went, points added over all rows."""

    boards: int = 0
    rows: int = 0
    users: int = 0
    joined: int = 0
    left: int = 0
    points_added: int = 0
    farthest: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def short(self) -> dict[str, int]:
        """Without the rows."""
        return {name: value for name, value in asdict(self).items() if name != "farthest"}


def changes_of(written: DataFrame, targets: DataFrame, settlement_id: str) -> DataFrame:
    """Rows of the table `ranking_changes`: one per (board, user) whose rank, points or instant differs.

    written: the rankings on the audit branch, of the periods in targets (period, start, zone) alone.
    """
    key = ["period", "start", "zone", "scope", "user_no"]
    spark: SparkSession = written.sparkSession
    now = spark.table(names.table("rankings")).join(F.broadcast(targets), key[:3], "left_semi")

    def side(rows: DataFrame, when: str) -> DataFrame:
        values = ("user_id", "rank", "points", "reached_at_us")
        return rows.select(*key, *[F.col(name).alias(f"{name}_{when}") for name in values])

    both = side(now, "before").join(side(written, "after"), key, "full")
    same = [
        F.col(f"{name}_before").eqNullSafe(F.col(f"{name}_after"))
        for name in ("rank", "points", "reached_at_us")
    ]
    return (
        both.where(~(same[0] & same[1] & same[2]))
        .withColumn("user_id", F.coalesce("user_id_after", "user_id_before"))
        .withColumn("settlement_id", F.lit(settlement_id))
        .select(*COLUMNS)
    )


def summary(moved: DataFrame) -> Changes:
    """The figures of `changes_of`'s rows, and those who move farthest (by ranks, then by points)."""
    points = F.coalesce("points_after", F.lit(0)) - F.coalesce("points_before", F.lit(0))
    row = moved.agg(
        F.count_distinct("period", "start", "zone", "scope"),
        F.count("*"),
        F.count_distinct("user_no"),
        F.count_if(F.isnull("rank_before")),
        F.count_if(F.isnull("rank_after")),
        F.coalesce(F.sum(points), F.lit(0)),
    ).collect()[0]
    ranks = F.abs(F.coalesce("rank_before", F.lit(0)) - F.coalesce("rank_after", F.lit(0)))
    first = moved.orderBy(ranks.desc(), F.abs(points).desc(), "period", "start", "scope", "user_id")
    farthest = [
        {name: value.isoformat() if name == "start" else value for name, value in one.asDict().items()}
        for one in first.limit(FARTHEST).collect()
    ]
    boards, rows, users, joined, left, added = (int(value) for value in row)
    return Changes(boards, rows, users, joined, left, added, tuple(farthest))


def write_csv(moved: DataFrame, path: Path) -> None:
    """All rows as CSV, by board and rank; written beside and renamed, so that a cut run leaves no half file."""
    part = path.with_suffix(path.suffix + ".part")
    ordered = moved.orderBy("period", "start", "zone", "scope", F.coalesce("rank_after", "rank_before"))
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in ordered.toLocalIterator():
            writer.writerow([_cell(value) for value in row])
    part.replace(path)


def _cell(value: Any) -> Any:
    return "" if value is None else value
