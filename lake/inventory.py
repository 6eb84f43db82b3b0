"""The lake's tables in numbers: rows, files, bytes, and how fresh each is. Reads metadata only.

`python -m lake.inventory` prints them as a table, or as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table as Grid

from contracts import names
from contracts.errors import LakeboardError
from contracts.tables import TABLE_COMMENTS, TABLES
from lake.addresses import add_arguments, from_arguments
from lake.iceberg import answering, probe


@dataclass(frozen=True, slots=True)
class TableState:
    """One table as of its current snapshot; without a snapshot it has no rows and no age."""

    name: str
    rows: int
    files: int
    bytes: int
    snapshot_id: int | None
    committed_at: datetime | None
    age_s: int | None
    what: str


def inventory(catalog: SqlCatalog, now: datetime | None = None) -> list[TableState]:
    """Every table that exists, in the contract's order. now: default the present, UTC.

    Raises SystemMissing if the catalog or HDFS does not answer.
    """
    probe(str(catalog.properties["warehouse"]))
    moment = now or datetime.now(UTC)
    found = []
    for name in TABLES:
        try:
            with answering():
                found.append(_state(name, catalog.load_table((names.NAMESPACE, name)), moment))
        except NoSuchTableError:
            continue
    return found


def _state(name: str, table: Table, now: datetime) -> TableState:
    what = TABLE_COMMENTS.get(name, "")
    snapshot = table.current_snapshot()
    if snapshot is None:
        return TableState(name, 0, 0, 0, None, None, None, what)
    committed_at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    age_s = int((now - committed_at).total_seconds())
    # Iceberg keeps totals in each snapshot's summary, unless a writer once left them out: then the manifests say.
    totals = snapshot.summary.additional_properties if snapshot.summary else {}
    try:
        rows, files, size = (
            int(totals[key]) for key in ("total-records", "total-data-files", "total-files-size")
        )
    except KeyError:
        tasks = [task.file for task in table.scan().plan_files()]
        rows, files = sum(file.record_count for file in tasks), len(tasks)
        size = sum(file.file_size_in_bytes for file in tasks)
    return TableState(name, rows, files, size, snapshot.snapshot_id, committed_at, age_s, what)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 with the tables on standard output, 3 if the catalog or HDFS does not answer."""
    parser = argparse.ArgumentParser(
        prog="lake.inventory", description="The lake's tables and how fresh they are"
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        found = inventory(from_arguments(args).lake().catalog)
    except LakeboardError as error:
        print(f"{error.code}: {error.detail}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps([asdict(state) for state in found], default=datetime.isoformat))
        return 0
    terminal = Console()
    # What a row is takes a line's width of its own: a narrow terminal (or a pipe) has it in --json.
    wide = terminal.width >= 120
    grid = Grid(*("table", "rows", "files", "size", "bytes a row", "age"), *(("one row is",) if wide else ()))
    for state in found:
        age = "" if state.age_s is None else _age(state.age_s)
        a_row = f"{state.bytes / state.rows:,.1f}" if state.rows else ""
        cells = [state.name, f"{state.rows:,}", f"{state.files:,}", decimal(state.bytes), a_row, age]
        grid.add_row(*cells, *((state.what,) if wide else ()))
    for column in grid.columns[1:5]:
        column.justify = "right"
    terminal.print(grid)
    return 0


def _age(seconds: int) -> str:
    """The greatest unit that fills: 42 s, 17 min, 5 h, 12 d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    sys.exit(main())
