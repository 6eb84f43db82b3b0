"""DuckDB over the lake: each table a view over the files of one snapshot (CONTRACTS D6)."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import FileScanTask, Table

from contracts import names
from contracts.errors import BadInput, BrokenContract
from contracts.tables import TABLE_COMMENTS, TABLES
from lake.file_lists import LISTS, Newest, Tables
from lake.files import FileCache
from lake.hot_boards import HotBoards
from lake.iceberg import answering, open_catalog, probe


@dataclass(frozen=True, slots=True)
class Scan:
    """What a view reads at the most: data files, their bytes and rows; and when its snapshot was committed."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    committed_at_us: int | None = None


def planned_files(
    table: Table, snapshot_id: int | None = None, where: BooleanExpression | None = None
) -> list[FileScanTask]:
    """The data files of a snapshot (default: the current one) that may hold rows of `where`, with their partitions.

    Raises BrokenContract if the snapshot has delete files: reading the file list would bring deleted rows back, and
    if the table has no such snapshot: pyiceberg plans no files for it, which would read as an empty table.
    """
    if snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None:
        raise BrokenContract("check_failed", f"{table.name()} has no snapshot {snapshot_id}; was it expired?")
    tasks = list(table.scan(row_filter=where or AlwaysTrue(), snapshot_id=snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise BrokenContract(
            "check_failed", f"{table.name()} has delete files; the lake's tables are copy-on-write"
        )
    return tasks


def snapshot_files(
    table: Table, snapshot_id: int | None = None, where: BooleanExpression | None = None
) -> tuple[list[str], Scan]:
    """URLs of the data files of a snapshot that may hold rows of `where`, and their size. Raises as `planned_files`."""
    tasks = planned_files(table, snapshot_id, where)
    size = sum(task.file.file_size_in_bytes for task in tasks)
    rows = sum(task.file.record_count for task in tasks)
    return [task.file.file_path for task in tasks], Scan(len(tasks), size, rows)


def parquet(paths: Sequence[str], footers_first: bool = True) -> str:
    """Files of one table as a relation of DuckDB's; a column added later is null in the files before it.

    footers_first: needed where the table ever had other columns, and where the planner is to know the columns' least and
    greatest values; else the footers of all files need not be read before the query.
    """
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return (
        f"read_parquet([{quoted}], union_by_name = {str(footers_first).lower()}, hive_partitioning = false)"
    )


class Lake:
    """A catalog, a file cache, and views for DuckDB. Cheap to make; holds connections to Postgres only."""

    def __init__(self, postgres_url: str, warehouse: str, cache: Path) -> None:
        self.catalog: SqlCatalog = open_catalog(postgres_url, warehouse)
        self.files = FileCache(cache)
        self.tables = Tables(self.catalog)
        self._lists: Newest[tuple[list[str], Scan]] = Newest(LISTS)
        self.hot_boards = HotBoards()
        self._pages: duckdb.DuckDBPyConnection | None = None
        self._opening = threading.Lock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one database for small reads, which has hot boards and the footers of files; close it."""
        with self._opening:
            if self._pages is None:
                pages = duckdb.connect(config={"memory_limit": "1GB"})
                pages.execute("SET GLOBAL parquet_metadata_cache = true")
                self._pages = pages
        return self._pages.cursor()

    def current(self, name: str) -> tuple[int | None, int | None]:
        """(id, UTC µs) of a table's current snapshot; (None, None) while it is empty."""
        snapshot = self.tables.load(name).current_snapshot()
        return (snapshot.snapshot_id, snapshot.timestamp_ms * 1000) if snapshot else (None, None)

    def committed_at_us(self, name: str, snapshot_id: int) -> int | None:
        """When a snapshot was committed; None if it has expired."""
        snapshot = self.tables.load(name).snapshot_by_id(snapshot_id)
        return snapshot.timestamp_ms * 1000 if snapshot else None

    def listed(
        self, name: str, snapshot_id: int | None, where: BooleanExpression | None
    ) -> tuple[list[str], Scan]:
        """Local paths of the files of a snapshot (default: the current one) that may hold rows of `where`.

        Raises BadInput(unknown_settlement) if the snapshot has expired.
        """
        at = snapshot_id if snapshot_id is not None else self.current(name)[0]
        if at is None:
            return [], Scan()

        def plan() -> tuple[list[str], Scan]:
            table = self.tables.load(name)
            snapshot = table.snapshot_by_id(at)
            if snapshot is None:
                raise BadInput("unknown_settlement", f"snapshot {at} of {name} has expired", status=404)
            urls, scan = snapshot_files(table, at, where)
            return urls, replace(scan, committed_at_us=snapshot.timestamp_ms * 1000)

        urls, scan = self._lists.get((name, at, str(where)), plan)
        return self.files.paths(urls), scan

    def view(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        snapshot_id: int | None = None,
        where: BooleanExpression | None = None,
        bounds: bool = False,
    ) -> Scan:
        """Make the view `name` over a snapshot's files; an empty table becomes an empty view with its columns.

        where: files that cannot hold such rows are not fetched; the query still has to filter. bounds: whether the query
        gains from columns' least and greatest values.
        """
        paths, scan = self.listed(name, snapshot_id, where)
        if not paths:
            connection.register(name, schema_to_pyarrow(self.tables.load(name).schema()).empty_table())
            return scan
        footers_first = bounds or len(self.tables.load(name).schemas()) > 1
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {parquet(paths, footers_first)}")
        return scan

    def open(self, snapshots: Mapping[str, int] | None = None) -> duckdb.DuckDBPyConnection:
        """A DuckDB with every table that exists as a view, at the given snapshots or the current ones.

        Views and their columns carry the tables' comments (`duckdb_views()`, `duckdb_columns()`).
        Raises SystemMissing if the catalog or HDFS does not answer.
        """
        probe(str(self.catalog.properties["warehouse"]))
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for name in TABLES:
            try:
                with answering():
                    table = self.catalog.load_table((names.NAMESPACE, name))
            except NoSuchTableError:
                continue
            self.view(connection, name, (snapshots or {}).get(name))
            docs = {field.name: field.doc for field in table.schema().fields}
            comment(connection, name, TABLE_COMMENTS.get(name, ""), docs)
        return connection


def comment(
    connection: duckdb.DuckDBPyConnection, view: str, what: str, columns: Mapping[str, str | None]
) -> None:
    """Say what a view holds and what its columns mean; a column that the view lacks is passed over."""

    def text(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    connection.execute(f"COMMENT ON VIEW {view} IS {text(what)}")
    # An old snapshot's files may lack a column that was added since.
    there = set(connection.table(view).columns)
    for name, doc in columns.items():
        if doc and name in there:
            connection.execute(f"COMMENT ON COLUMN {view}.{name} IS {text(doc)}")
