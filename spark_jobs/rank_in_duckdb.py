"""What a task of a big board's ranking does, in DuckDB: split rows by user, sum and cut, sort and number.

Between tasks go Parquet files as values of one row each: Spark moves a few large values instead of millions of rows,
and no row is built in Python. Home of the order: contracts/ranking.py; tests/vectors hold this twin too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.ranking import TICK_BITS, TICK_MAX, TICK_SPAN

if TYPE_CHECKING:
    import duckdb

# Arrow batches in, Arrow batches out: what DataFrame.mapInArrow takes.
Task = Callable[[Iterable[Any]], Iterable[Any]]
# A task holds a bucket's sums or a range's rows, a million or so at about 100 bytes; what is more goes to its folder.
MEMORY_LIMIT = "512MB"
BATCH_ROWS = 20_000
SUMMANDS, NUMBERS = "summands", "numbers"
SPLIT_SHAPE = "bucket INT, kind STRING, content BINARY"
CUT_SHAPE = "piece INT, rows BIGINT, content BINARY"
NUMBERED_SHAPE = "piece INT, rank BIGINT, user_id STRING, user_no BIGINT, points BIGINT, reached_at_us BIGINT"
# (packed score, user_id): greater comes first on a board, user_id by bytes.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Cut:
    """How one board is cut: the keys that end its ranges, worst first, the number of its first range; its clock."""

    board: int
    bounds: Sequence[Key]
    first: int
    anchor_us: int
    tick_us: int

    @property
    def anchor_tick(self) -> int:
        return self.anchor_us // self.tick_us


@dataclass(frozen=True, slots=True)
class Piece:
    """One range: the rows of its board that rank above it, and its board's clock."""

    before: int
    anchor_tick: int
    tick_us: int


def split_by_user(kind: str, buckets: int, scratch: str) -> Task:
    """Rows (any columns, user_no among them) → SPLIT_SHAPE: one file of them for each bucket of users.

    kind: SUMMANDS (board, user_no, points, reached_at_us) or NUMBERS (user_no, user_id).
    """

    def task(batches: Iterable[Any]) -> Iterator[Any]:
        with _folder(scratch) as folder, _connection(folder) as sql:
            begun = False
            for batch in batches:
                what = "INSERT INTO rows" if begun else "CREATE TABLE rows AS"
                sql.register("batch", batch)
                sql.execute(
                    f"{what} SELECT *, CAST(user_no % {int(buckets)} AS INTEGER) AS bucket FROM batch"
                )
                sql.unregister("batch")
                begun = True
            if begun:
                sql.execute(
                    f"COPY rows TO '{folder}/out' (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (bucket))"
                )
                for bucket, path in _parts(folder / "out"):
                    yield from _as_value(sql, path, f"CAST({bucket} AS INTEGER) AS bucket, '{kind}' AS kind")

    return task


def sum_and_cut(cuts: Sequence[Cut], scratch: str) -> Task:
    """SPLIT_SHAPE of one bucket → CUT_SHAPE: its users' sums, packed, one file for each range.

    A file has the columns packed, user_id, user_no. A user without a number is left out, as a join leaves it out.
    """

    def task(batches: Iterable[Any]) -> Iterator[Any]:
        with _folder(scratch) as folder, _connection(folder) as sql:
            found = _received(batches, folder, "kind")
            if len(found) < 2:
                return  # users without summands, or nobody
            sql.execute(
                f"COPY (SELECT packed, user_id, user_no, {_piece_sql(cuts)} AS piece FROM ({_packed_sql(cuts, folder)})) "
                f"TO '{folder}/out' (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (piece))"
            )
            for piece, path in _parts(folder / "out"):
                rows = sql.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0][0]
                columns = f"CAST({piece} AS INTEGER) AS piece, CAST({rows} AS BIGINT) AS rows"
                yield from _as_value(sql, path, columns)

    return task


def sort_and_number(pieces: Sequence[Piece], scratch: str) -> Task:
    """CUT_SHAPE of one range → NUMBERED_SHAPE, best first."""

    def task(batches: Iterable[Any]) -> Iterator[Any]:
        with _folder(scratch) as folder, _connection(folder) as sql:
            for number in sorted(_received(batches, folder, "piece")):
                piece = pieces[int(number)]
                query = (
                    f"SELECT CAST({int(number)} AS INTEGER) AS piece, {piece.before} + row_number() OVER () AS rank, "
                    f"user_id, user_no, packed >> {TICK_BITS} AS points, CASE WHEN packed > 0 THEN "
                    f"({piece.anchor_tick} + {TICK_MAX} - (packed & {TICK_MAX})) * {piece.tick_us} END AS reached_at_us "
                    f"FROM (SELECT * FROM read_parquet('{folder}/{number}-*.parquet', hive_partitioning = false) "
                    "ORDER BY packed DESC, user_id DESC)"
                )
                yield from sql.sql(query).to_arrow_reader(BATCH_ROWS)

    return task


def _packed_sql(cuts: Sequence[Cut], folder: Path) -> str:
    """One row per (board, user): packed (contracts.ranking.pack; no tick counts at 0 points or below)."""
    clocks = ", ".join(f"({cut.board}, {cut.anchor_tick}::BIGINT, {cut.tick_us}::BIGINT)" for cut in cuts)
    # Whatever was before the anchor counts as the anchor: the division is of numbers that are not negative.
    ticks = f"least(greatest(reached_at_us, anchor_tick * tick_us) // tick_us - anchor_tick, {TICK_MAX})"
    return (
        "SELECT board, user_id, user_no, CAST(CASE WHEN points > 0 "
        f"THEN points * {TICK_SPAN} + {TICK_MAX} - {ticks} ELSE points * {TICK_SPAN} END AS BIGINT) AS packed "
        "FROM (SELECT board, user_no, CAST(sum(points) AS BIGINT) AS points, max(reached_at_us) AS reached_at_us "
        f"FROM read_parquet('{folder}/{SUMMANDS}-*.parquet') GROUP BY board, user_no) "
        f"JOIN (VALUES {clocks}) AS clocks(board, anchor_tick, tick_us) USING (board) "
        f"JOIN read_parquet('{folder}/{NUMBERS}-*.parquet') USING (user_no)"
    )


def _piece_sql(cuts: Sequence[Cut]) -> str:
    """Number of a row's range, by its board, packed and user_id."""
    ends = " ".join(f"WHEN {cut.board} THEN {_search_sql(cut.bounds, cut.first)}" for cut in cuts)
    return f"CAST(CASE board {ends} END AS INTEGER)"


def _search_sql(bounds: Sequence[Key], first: int) -> str:
    """A binary search; DuckDB compares strings by bytes."""
    if not bounds:
        return str(first)
    middle = len(bounds) // 2
    packed, user_id = bounds[middle]
    user = user_id.replace("'", "''")
    above, below = (
        _search_sql(bounds[middle + 1 :], first + middle + 1),
        _search_sql(bounds[:middle], first),
    )
    return f"CASE WHEN packed > {packed} OR (packed = {packed} AND user_id > '{user}') THEN {above} ELSE {below} END"


def _received(batches: Iterable[Any], folder: Path, column: str) -> set[str]:
    """Write the files that came as values to `{value of column}-{n}.parquet`; the different values."""
    found: set[str] = set()
    count = 0
    for batch in batches:
        for name, content in zip(batch.column(column).to_pylist(), batch.column("content"), strict=True):
            (folder / f"{name}-{count}.parquet").write_bytes(content.as_buffer())
            found.add(str(name))
            count += 1
    return found


def _parts(folder: Path) -> Iterator[tuple[int, Path]]:
    """(number, file) of what a COPY … PARTITION_BY one integer column has written; a file is gone once it was used."""
    for part in sorted(folder.glob("*=*")):
        for path in part.glob("*.parquet"):
            yield int(part.name.partition("=")[2]), path
            path.unlink()


def _as_value(sql: duckdb.DuckDBPyConnection, path: Path, columns: str) -> Iterator[Any]:
    """One row: the columns, and the file's bytes."""
    yield from sql.sql(f"SELECT {columns}, content FROM read_blob('{path}')").to_arrow_reader()


@contextmanager
def _folder(scratch: str) -> Iterator[Path]:
    """A task's own folder: where Spark spills on one machine, an executor's temporary folder on a cluster."""
    with tempfile.TemporaryDirectory(prefix="rank-", dir=scratch if os.path.isdir(scratch) else None) as made:
        yield Path(made)


@contextmanager
def _connection(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    # Imported in the task: the driver needs none.
    import duckdb

    sql = duckdb.connect(
        config={"threads": 1, "memory_limit": MEMORY_LIMIT, "temp_directory": str(folder / "spill")}
    )
    try:
        yield sql
    finally:
        sql.close()
