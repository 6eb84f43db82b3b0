"""What the lake has published, in the form of the model."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import TYPE_CHECKING

from contracts import names
from tests.spark_jobs.play import BoardKey

if TYPE_CHECKING:
    from tests.spark_jobs.conftest import Lake


def boards_in(lake: Lake) -> dict[BoardKey, list[tuple[int, str, int, int | None]]]:
    """Every row of `rankings` by board: (rank, user_id, points, reached_at_us)."""
    found = defaultdict(list)
    for row in lake.spark.table(names.table("rankings")).orderBy("rank").collect():
        found[(row.period, row.start, row.scope)].append(
            (row.rank, row.user_id, row.points, row.reached_at_us)
        )
    return dict(found)


def user_days_in(lake: Lake) -> dict[tuple[date, str], set[tuple[str, int]]]:
    """(user_id, points) by (day, scope)."""
    return _sums(lake, "user_days", "day")


def user_months_in(lake: Lake) -> dict[tuple[date, str], set[tuple[str, int]]]:
    """(user_id, points) by (month, scope)."""
    return _sums(lake, "user_months", "month")


def _sums(lake: Lake, name: str, column: str) -> dict[tuple[date, str], set[tuple[str, int]]]:
    users = lake.spark.table(names.table("user_numbers"))
    found = defaultdict(set)
    for row in lake.spark.table(names.table(name)).join(users, "user_no").collect():
        found[(row[column], row.scope)].add((row.user_id, row.points))
    return dict(found)
