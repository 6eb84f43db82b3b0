"""Answers as they count: with the corrections that are in force (CONTRACTS D4), as a DuckDB view.

Which are in force is said by Postgres: a correction in the lake whose boards are not published yet changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from contracts.correction_sql import counted_points_sql
from contracts.corrections import Correction


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
