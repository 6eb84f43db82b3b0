"""What an adjustment moved: rows of `ranking_changes`, those who moved farthest first."""

from __future__ import annotations

from typing import Any

import duckdb
from pyiceberg.expressions import EqualTo

from lake.views import Lake

COLUMNS = (
    "period", "start", "zone", "scope", "user_id", "rank_before", "rank_after", "points_before", "points_after",
)  # fmt: skip
# Ranks first; a user who came or went counts from 0.
_FARTHEST = (
    "abs(coalesce(rank_before, 0) - coalesce(rank_after, 0)) DESC, "
    "abs(coalesce(points_after, 0) - coalesce(points_before, 0)) DESC, period, start, scope, user_id"
)


def changes(
    lake: Lake, snapshot_id: int, settlement: str, *, scope: str = "", user_id: str = "", limit: int
) -> list[dict[str, Any]]:
    """At most `limit` rows of one settlement, of one scope or user if named; `start` is YYYY-MM-DD.

    snapshot_id: of ranking_changes, from the settlement.
    """
    # The stubs describe the pydantic fields, not the constructor that the documentation shows.
    where = EqualTo("settlement_id", settlement)  # type: ignore[call-arg, arg-type]
    with duckdb.connect() as connection:
        lake.view(connection, "ranking_changes", snapshot_id, where)
        rows = connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM ranking_changes WHERE settlement_id = $settlement "
            "AND ($scope = '' OR scope = $scope) AND ($user = '' OR user_id = $user) "
            f"ORDER BY {_FARTHEST} LIMIT $limit",
            {"settlement": settlement, "scope": scope, "user": user_id, "limit": limit},
        ).fetchall()
    found = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return [{**row, "start": row["start"].isoformat()} for row in found]
