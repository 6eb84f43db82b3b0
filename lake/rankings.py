"""Pages of settled boards: the rows of `rankings` at a settlement's snapshot (CONTRACTS D3, D4)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date

import duckdb
from pyiceberg.expressions import And, BooleanExpression, EqualTo

from contracts.periods import iso_ms
from contracts.replies import DEFAULT_K, DEFAULT_M, BoardPage, Entry, RangePage, UserRank, Wanted
from lake.hot_boards import PARTITION_ROWS
from lake.views import Lake, parquet

_COLUMNS = "rank, user_id, points, reached_at_us"


def _entries(rows: list[tuple[int, str, int, int | None]]) -> tuple[Entry, ...]:
    return tuple(Entry(r[0], r[1], r[2], None if r[3] is None else iso_ms(r[3])) for r in rows)


def _equal(column: str, value: str) -> BooleanExpression:
    # The stubs describe the pydantic fields, not the constructor that the documentation shows.
    return EqualTo(column, value)  # type: ignore[call-arg, arg-type]


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
    """The top k of a settled board and, for `user_id`, its row and m rows above and below, cut at the ends."""
    return read(lake, snapshot_id, scope, period, start, Wanted(k, user_id or "", m)).page


def read(lake: Lake, snapshot_id: int, scope: str, period: str, start: date, wanted: Wanted) -> RangePage:
    """The page of a settled board, and the files it may lie in.

    snapshot_id: of `rankings`, from the settlement. A user who is not on the board has me None and no neighbours.
    Raises BadInput(unknown_settlement) if the snapshot has expired.
    """
    where = And(_equal("period", period), _equal("start", start.isoformat()))
    paths, scan = lake.listed("rankings", snapshot_id, where)
    if not paths:
        nobody = tuple(UserRank(user, None) for user in wanted.users)
        return RangePage(BoardPage((), 0, ranks=nobody))
    board = [period, start, scope]
    files = f"{parquet(paths)} WHERE period = ? AND start = ? AND scope = ?"
    # A cursor of the one database that keeps boards and footers: opening a database takes as long as a page.
    with lake.cursor() as cursor:
        if scan.rows <= PARTITION_ROWS:
            query = f"SELECT {_COLUMNS} FROM {files} ORDER BY rank"
            with suppress(duckdb.CatalogException):  # dropped by another who needed the room: read the files
                name, _ = lake.hot_boards.table(cursor, (snapshot_id, *board), query, board)
                return RangePage(
                    _page(cursor, f"{name} WHERE true", [], wanted), scan.files, scan.bytes, scan.rows
                )
        return RangePage(_page(cursor, files, board, wanted), scan.files, scan.bytes, scan.rows)


def _page(
    cursor: duckdb.DuckDBPyConnection, source: str, board: Sequence[object], wanted: Wanted
) -> BoardPage:
    """The page of the one board that `source` (a relation and a condition) and its values name."""

    def rows(more: str, values: Sequence[object]) -> tuple[Entry, ...]:
        query = f"SELECT {_COLUMNS} FROM {source} AND {more} ORDER BY rank"
        return _entries(cursor.execute(query, [*board, *values]).fetchall())

    count = cursor.execute(f"SELECT count(*) FROM {source}", list(board)).fetchall()[0][0]
    entries = rows("rank <= ?", [wanted.k]) if wanted.k else ()
    asked_for = sorted({wanted.user_id, *wanted.users} - {""})
    # Equality, not a list's membership: it can use the Parquet files' Bloom filters.
    one_of = " OR ".join(["user_id = ?"] * len(asked_for))
    found = {entry.user_id: entry for entry in rows(f"({one_of})", asked_for)} if asked_for else {}
    me = found.get(wanted.user_id)
    near = rows("rank BETWEEN ? AND ?", [me.rank - wanted.m, me.rank + wanted.m]) if me else ()
    ranks = tuple(UserRank(user, found.get(user)) for user in wanted.users)
    return BoardPage(entries, count, me, near, ranks)
