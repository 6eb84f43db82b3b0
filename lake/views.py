"""DuckDB over the lake: each table a view over the files of one snapshot (CONTRACTS D6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import FileScanTask, Table

from contracts import names
from contracts.errors import BrokenContract
from contracts.tables import TABLE_COMMENTS, TABLES
from lake.files import FileCache
from lake.iceberg import answering, load_table, open_catalog, probe


@dataclass(frozen=True, slots=True)
class Scan:
    """What a view reads at the most: data files, their bytes and rows; and when the current snapshot was committed."""

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


class Lake:
    """A catalog, a file cache, and views for DuckDB. Cheap to make; holds connections to Postgres only."""

    def __init__(self, postgres_url: str, warehouse: str, cache: Path) -> None:
        self.catalog: SqlCatalog = open_catalog(postgres_url, warehouse)
        self.files = FileCache(cache)

    def view(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        snapshot_id: int | None = None,
        where: BooleanExpression | None = None,
    ) -> Scan:
        """Make the view `name` over a snapshot's files; an empty table becomes an empty view with its columns.

        where: files that cannot hold such rows are not fetched; the query still has to filter.
        """
        return self._view(connection, name, load_table(self.catalog, name), snapshot_id, where)

    def _view(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        table: Table,
        snapshot_id: int | None,
        where: BooleanExpression | None = None,
    ) -> Scan:
        current = table.current_snapshot()
        urls, scan = snapshot_files(table, snapshot_id, where) if current else ([], Scan())
        scan = replace(scan, committed_at_us=current.timestamp_ms * 1000 if current else None)
        if not urls:
            empty = schema_to_pyarrow(table.schema()).empty_table()
            connection.register(name, empty)
            return scan
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in self.files.paths(urls))
        connection.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM "
            f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        )
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
            self._view(connection, name, table, (snapshots or {}).get(name))
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
