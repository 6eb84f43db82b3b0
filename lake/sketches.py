"""Sketches of the lake: those windows that the streams' topic keeps no longer (CONTRACTS E4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThanOrEqual, Or

from contracts.correction_sql import text
from contracts.errors import BadInput
from lake.iceberg import answering, probe
from lake.views import Lake

Window = tuple[str, int]


def read_sketches(lake: Lake, kind: str, windows: Sequence[Window]) -> list[tuple[Window, bytes]]:
    """The newest bytes of a kind's windows (level, start in UTC µs); those without play are not among them.

    Raises SystemMissing if the catalog or HDFS does not answer. Cost: the files of the months that the windows fall into.
    """
    if not windows:
        return []
    probe(str(lake.catalog.properties["warehouse"]))
    by_level: dict[str, list[int]] = {}
    for level, start in windows:
        by_level.setdefault(level, []).append(start)
    where: BooleanExpression | None = None
    for level, starts in by_level.items():
        one = And(
            EqualTo("level", level),  # type: ignore[call-arg, arg-type]
            And(
                GreaterThanOrEqual("window_start", _iso(min(starts))),  # type: ignore[call-arg, arg-type]
                LessThanOrEqual("window_start", _iso(max(starts))),  # type: ignore[call-arg, arg-type]
            ),
        )
        where = one if where is None else Or(where, one)
    try:
        with answering(), lake.cursor() as connection:
            paths, _ = lake.listed("sketches", None, where)
            return _newest(connection, paths, kind, by_level) if paths else []
    except (NoSuchTableError, BadInput) as error:
        if isinstance(error, BadInput) and error.code != "not_found":
            raise
        return []  # a lake into which nothing has been taken yet


def _newest(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str], kind: str, by_level: dict[str, list[int]]
) -> list[tuple[Window, bytes]]:
    files = ", ".join(text(path) for path in paths)
    wanted = " OR ".join(
        f"(level = {text(level)} AND window_start_us IN (SELECT unnest([{', '.join(map(str, starts))}])))"
        for level, starts in by_level.items()
    )
    rows = connection.execute(
        "SELECT level, window_start_us, arg_max(sketch, kafka_offset) "
        f"FROM read_parquet([{files}]) WHERE kind = {text(kind)} AND ({wanted}) "
        "GROUP BY level, window_start_us ORDER BY level, window_start_us"
    ).fetchall()
    return [((level, start), bytes(data)) for level, start, data in rows]


def _iso(instant_us: int) -> str:
    return datetime.fromtimestamp(instant_us / 1e6, UTC).isoformat()
