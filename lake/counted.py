"""Answers as they count: with the corrections that are in force (CONTRACTS D4), as a DuckDB view; measures as SQL.

Which are in force is said by Postgres: a correction in the lake whose boards are not published yet changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from contracts.correction_sql import counted_points_sql
from contracts.corrections import Correction

_NO_INSTANT = "CAST(NULL AS BIGINT) AS reached_at_us"
# A measure as (points, reached_at_us) of groups of `counted`, and of rows of user_days and user_months. Plays and misses
# have no instant: roll-ups have only that of points, and every source must give the same.
SUMMED = {
    "points": "CAST(sum(points) AS BIGINT) AS points, max(occurred_at_us) FILTER (points > 0) AS reached_at_us",
    "plays": f"count(*) AS points, {_NO_INSTANT}",
    "misses": f"count(*) FILTER (NOT correct) AS points, {_NO_INSTANT}",
}
ROLLED_UP = {
    "points": "points, reached_at_us",
    "plays": f"plays AS points, {_NO_INSTANT}",
    "misses": f"misses AS points, {_NO_INSTANT}",
}


def count_answers(
    connection: duckdb.DuckDBPyConnection, corrections: Iterable[Correction], relation: str = "answers"
) -> None:
    """Make the view `counted` over a relation of answers: its columns, `points` as they count, removed rows left out.

    Raises BadInput(too_many_corrections).
    """
    counted = counted_points_sql(corrections)
    connection.execute(
        f"CREATE OR REPLACE VIEW counted AS SELECT * REPLACE ({counted} AS points) FROM {relation} "
        f"WHERE ({counted}) IS NOT NULL"
    )
