"""What `import lake` offers to people: DuckDB views, the tables' freshness, pyiceberg's catalog. One line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import duckdb
import psycopg
from pyiceberg.catalog.sql import SqlCatalog

from contracts.errors import BadInput, SystemMissing
from lake.addresses import here
from lake.inventory import TableState, inventory

if TYPE_CHECKING:
    import pandas as pd


def open(
    settlement: str | None = None, snapshots: Mapping[str, int] | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own in which each table of the lake is a view; times are UTC.

    settlement: an id; the tables it names are opened as they were when it was published, the others as they are now.
    snapshots: table → Iceberg snapshot id, over the settlement's. Neither: everything as it is now, and the views stay
    at the snapshots of this moment, so that two queries never see different data; open again for newer.
    Raises SystemMissing (no lake is named, or it does not answer), BadInput(unknown_settlement, not_found).
    """
    address = here()
    wanted = dict(_published(address.postgres_url, settlement) if settlement else {})
    wanted.update(snapshots or {})
    return address.lake().open(wanted)


def tables() -> pd.DataFrame:
    """One row per table: name, rows, files, bytes, snapshot_id, committed_at (UTC), age_s, one_row_per.

    From the catalog's metadata; no data file is read. Raises SystemMissing.
    """
    import pandas as pd

    found = inventory(here().lake().catalog)
    columns: dict[str, object] = {
        field.name: [getattr(state, field.name) for state in found] for field in fields(TableState)
    }
    # Short, so that pandas shows it whole; the rest of the sentence is the view's comment.
    del columns["what"]
    columns["one_row_per"] = [state.what.partition(";")[0].removeprefix("one row per ") for state in found]
    # Numbers that may be missing, kept whole: a float would round a snapshot's 19 digits.
    for name in ("snapshot_id", "age_s"):
        columns[name] = pd.array(columns[name], dtype="Int64")
    columns["committed_at"] = pd.to_datetime(columns["committed_at"], utc=True)
    return pd.DataFrame(columns).set_index("name")


def catalog() -> SqlCatalog:
    """pyiceberg's catalog: `lake.catalog().load_table("lakeboard.answers")`. Raises SystemMissing."""
    return here().lake().catalog


def _published(postgres_url: str, settlement: str) -> dict[str, int]:
    """Table → snapshot id, as one settlement wrote it down."""
    try:
        with psycopg.connect(postgres_url, connect_timeout=5) as sql:
            row = sql.execute(
                "SELECT snapshots FROM settlements WHERE id = %s", (str(settlement),)
            ).fetchone()
    except psycopg.OperationalError as error:
        raise SystemMissing(
            "system_missing", f"Postgres does not answer: {error}", next_step="./lakeboard status"
        ) from error
    if row is None:
        raise BadInput("unknown_settlement", f"there is no settlement {settlement!r}", status=404)
    return {name: int(snapshot) for name, snapshot in row[0].items()}
