"""Pages of settled boards: the rows of `rankings` at a settlement's snapshot (CONTRACTS D3, D4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb
from pyiceberg.expressions import And, BooleanExpression, EqualTo

from contracts.periods import iso_ms
from contracts.replies import DEFAULT_K, DEFAULT_M, BoardPage, Entry
from lake.views import Lake

_COLUMNS = "rank, user_id, points, reached_at_us"


def _entries(rows: list[tuple[int, str, int, int | None]]) -> tuple[Entry, ...]:
    return tuple(Entry(r[0], r[1], r[2], None if r[3] is None else iso_ms(r[3])) for r in rows)


def _equal(column: str, value: str) -> BooleanExpression:
    # The stubs describe the pydantic fields, not the constructor that the documentation shows.
    return EqualTo(column, value)  # type: ignore[call-arg, arg-type]


def open_board(lake: Lake, snapshot_id: int, period: str, start: date) -> duckdb.DuckDBPyConnection:
    """A DuckDB whose view `rankings` has the files of one (period, start) partition at one snapshot."""
    connection = duckdb.connect()
    where = And(_equal("period", period), _equal("start", start.isoformat()))
    lake.view(connection, "rankings", snapshot_id, where)
    return connection


def page(
    lake: Lake,
    snapshot_id: int,
    scope: str,
    period: str,
    start: date,
    *,
    k: int = DEFAULT_K,
    user_id: str | None = None,
    m: int = DEFAULT_M,
) -> BoardPage:
    """The top k of a settled board and, for `user_id`, its row and m rows above and below, cut at the ends.

    snapshot_id: of `rankings`, from the settlement. A user who is not on the board has me None and no neighbours.
    """
    with open_board(lake, snapshot_id, period, start) as connection:
        where = "period = ? AND start = ? AND scope = ?"
        return read_page(connection, "rankings", where, [period, start, scope], k, user_id, m)


def read_page(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    where: str,
    board: Sequence[object],
    k: int,
    user_id: str | None,
    m: int,
) -> BoardPage:
    """The page of the one board in `relation` (rank, user_id, points, reached_at_us) that `where` and its values name."""

    def rows(more: str, values: Sequence[object]) -> tuple[Entry, ...]:
        query = f"SELECT {_COLUMNS} FROM {relation} WHERE {where} AND {more} ORDER BY rank"
        return _entries(connection.execute(query, [*board, *values]).fetchall())

    count = connection.execute(f"SELECT count(*) FROM {relation} WHERE {where}", list(board)).fetchall()[0][0]
    entries = rows("rank <= ?", [k])
    mine = rows("user_id = ?", [user_id]) if user_id is not None else ()
    near = rows("rank BETWEEN ? AND ?", [mine[0].rank - m, mine[0].rank + m]) if mine else ()
    return BoardPage(entries, count, mine[0] if mine else None, near)
