"""The time-series tables: each column is used by what writes it, has a meaning, and stands in the page for people."""

from __future__ import annotations

import pytest

from cli.places import ROOT
from contracts import tsdb

pytestmark = pytest.mark.unit
PAGE = (ROOT / "docs/tsdb.md").read_text("utf-8")


def test_ddl() -> None:
    assert tsdb.TRENDING.ddl() == (
        "CREATE TABLE IF NOT EXISTS trending (ts TIMESTAMP, kind SYMBOL, place INT, subject_id VARCHAR, plays LONG, "
        "expected DOUBLE, score DOUBLE, window_end TIMESTAMP) TIMESTAMP(ts) PARTITION BY DAY TTL 90 DAYS WAL "
        "DEDUP UPSERT KEYS(ts, kind, place)"
    )
    assert tsdb.ROLLUPS[0].ddl() == (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS pipeline_health_hours WITH BASE pipeline_health AS (SELECT ts, measure, "
        "source, avg(value) AS mean, max(value) AS worst, count() AS samples FROM pipeline_health SAMPLE BY 1h) "
        "PARTITION BY MONTH TTL 24 MONTHS"
    )


@pytest.mark.parametrize("table", tsdb.TABLES, ids=lambda table: table.name)
def test_keys_and_meanings(table: tsdb.Table) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names) and "ts" not in names
    assert set(table.key) <= set(names)
    kinds = {column.kind for column in table.columns if column.name in table.key}
    assert kinds <= {"SYMBOL", "VARCHAR", "INT"}
    assert all(column.doc for column in table.columns) and table.doc
    # A row a window and level: without the level, windows that begin together would overwrite each other.
    assert "level" not in names or "level" in table.key
    assert f"## `{table.name}`" in PAGE and table.doc in PAGE
    for column in table.columns:
        assert f"| `{column.name}` | {column.kind} | {column.doc} |" in PAGE, column.name


def test_roll_ups_are_in_the_page() -> None:
    for rollup in tsdb.ROLLUPS:
        assert f"## `{rollup.name}`" in PAGE and rollup.doc in PAGE


def test_which_table_a_window_goes_to() -> None:
    assert tsdb.top_k_table("users", "global", "minute") is tsdb.TOP_K
    assert tsdb.top_k_table("health", "global", "day") is tsdb.TOP_K
    assert {tsdb.top_k_table("words", "global", level) for level in ("ten_minutes", "hour", "day")} == {
        tsdb.TOP_K_LONGER
    }
    assert tsdb.top_k_table("users", "quiz:a", "minute") is tsdb.TOP_K_QUIZZES
