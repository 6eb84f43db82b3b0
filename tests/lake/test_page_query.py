"""How a range's sums are kept: in a table that user_no addresses where that is small, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.unit
def test_a_table_for_every_user_only_for_many_rows_and_few_threads() -> None:
    from lake.page_query import DIRECT_BYTES, direct_bits

    assert 22 == direct_bits(30_000_000, 2)
    assert 19 == direct_bits(30_000_000, 16)
    assert 4 == direct_bits(12, 2)
    assert 0 == direct_bits(0, 2)
    for threads in (1, 2, 3, 8, 64, 192):
        assert threads * 64 * 2 ** direct_bits(10**12, threads) <= DIRECT_BYTES


@pytest.mark.engine
def test_files_tell_duckdb_their_bounds_so_that_sums_need_no_hashing(tmp_path: Path) -> None:
    import duckdb

    from lake.views import parquet

    paths = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    connection = duckdb.connect()
    for path in paths:
        connection.execute(
            f"COPY (SELECT range + 1 AS user_no, range AS points FROM range(1000)) TO '{path}' (FORMAT parquet)"
        )
    connection.execute("SET perfect_ht_threshold = 11")

    def plan(footers_first: bool) -> str:
        files = parquet(paths, footers_first)
        query = f"SELECT user_no, sum(points) FROM {files} WHERE points > 1 GROUP BY user_no"
        return str(connection.execute(f"EXPLAIN {query}").fetchall()[0][1])

    assert "Perfect Hash Group By" in plan(True)
    # What it costs without them: should DuckDB learn them by itself, the footers need not be read first.
    assert "Perfect" not in plan(False)
