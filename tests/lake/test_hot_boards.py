"""Boards in memory: loaded once, the ones used longest ago dropped, their tables too."""

from __future__ import annotations

import duckdb
import pytest

from lake.hot_boards import HotBoards

pytestmark = pytest.mark.unit


def tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_boards_are_loaded_once_and_the_oldest_go() -> None:
    boards, connection = HotBoards(rows=25), duckdb.connect()

    def load(key: str, rows: int) -> tuple[str, int]:
        return boards.table(connection, key, "SELECT range AS rank FROM range(?)", [rows])

    first = load("a", 10)
    assert (first, 10) == (load("a", 10), first[1])
    second = load("b", 10)
    load("a", 10)  # used last
    third = load("c", 10)
    assert {first[0], third[0]} == tables(connection)
    assert second != load("b", 10)
    # One that is larger than the room is here alone, for its own page.
    large = load("d", 100)
    assert {large[0]} == tables(connection)
