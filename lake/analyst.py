"""What `import lake` offers to people: DuckDB views, the tables' freshness, pyiceberg's catalog. One line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import duckdb
import psycopg
from pyiceberg.catalog.sql import SqlCatalog

from contracts.corrections import Correction, decode
from contracts.errors import BadInput, SystemMissing
from lake.addresses import Address, here
from lake.counted import count_answers
from lake.inventory import TableState, inventory
from lake.views import comment

if TYPE_CHECKING:
    import pandas as pd

# A Postgres that is up takes connections in milliseconds.
CONNECT_S = 5
_COUNTED = (
    "one row per answer that boards count; points with the corrections in force, removed answers left out"
)


def open(
    settlement: str | None = None, snapshots: Mapping[str, int] | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own in which each table of the lake is a view; times are UTC.

    Beside the tables there is `counted`: `answers` as boards count them, with the corrections that are in force.
    settlement: an id; the tables it names, and `counted`, are as they were when it was published, the others as they
    are now. snapshots: table → Iceberg snapshot id, over the settlement's. Neither: everything as it is now. The views
    stay at their snapshots, so that two queries never see different data; open again for newer.
    Raises SystemMissing (no lake is named, or it does not answer), BadInput(unknown_settlement), BrokenContract (a
    snapshot is no longer there).
    """
    return connect(here(), settlement, snapshots)


def connect(
    address: Address, settlement: str | None = None, snapshots: Mapping[str, int] | None = None
) -> duckdb.DuckDBPyConnection:
    """What `open` gives, of the lake at an address."""
    wanted, corrections = _published(address.postgres_url, settlement)
    connection = address.lake().open({**wanted, **(snapshots or {})})
    answers = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'answers'"
    docs = dict(connection.sql(answers).fetchall())
    if docs:
        count_answers(connection, corrections)
        comment(connection, "counted", _COUNTED, {**docs, "points": "points with the corrections in force"})
    return connection


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


def _published(postgres_url: str, settlement: str | None) -> tuple[dict[str, int], list[Correction]]:
    """Table → snapshot id as one settlement wrote it down, and the corrections it knew; without one: those in force."""
    try:
        with psycopg.connect(postgres_url, connect_timeout=CONNECT_S) as sql:
            if settlement is None:
                rows = sql.execute("SELECT event FROM corrections WHERE in_force_at IS NOT NULL ORDER BY id")
                return {}, [decode(bytes(row[0])) for row in rows]
            found = sql.execute(
                "SELECT snapshots, last_correction FROM settlements WHERE id = %s", (str(settlement),)
            ).fetchone()
            if found is None:
                raise BadInput("unknown_settlement", f"there is no settlement {settlement!r}", status=404)
            rows = sql.execute("SELECT event FROM corrections WHERE id <= %s ORDER BY id", (found[1],))
            snapshots = {name: int(snapshot) for name, snapshot in found[0].items()}
            return snapshots, [decode(bytes(row[0])) for row in rows]
    except psycopg.OperationalError as error:
        raise SystemMissing(
            "system_missing", f"Postgres does not answer: {error}", next_step="./lakeboard status"
        ) from error
