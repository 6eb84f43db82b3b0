"""What the lake has published, in the form of the model."""

from __future__ import annotations

from collections import defaultdict
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
