"""Views of the lake for DuckDB: a snapshot's rows, an empty table, snapshots with delete files, the sql command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import names
from contracts.errors import BadInput, BrokenContract
from serving.migrations.upgrade import upgrade

pytestmark = [pytest.mark.service]


@pytest.fixture
def address(postgres_url: str, tmp_path: Path) -> tuple[str, str]:
    """(Postgres URL, warehouse) of a lake with `user_numbers` in two snapshots and an empty `dead_letters`."""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog

    upgrade(postgres_url)
    warehouse = f"file://{tmp_path}/ware 'house"
    catalog = SqlCatalog(
        names.CATALOG,
        uri=postgres_url.replace("postgresql://", "postgresql+psycopg://", 1),
        warehouse=warehouse,
    )
    catalog.create_namespace(names.NAMESPACE)
    schema = pa.schema([("user_no", pa.int64()), ("user_id", pa.string())])
    numbers = catalog.create_table((names.NAMESPACE, "user_numbers"), schema)
    numbers.append(pa.table({"user_no": [1], "user_id": ["a"]}, schema))
    numbers.append(pa.table({"user_no": [2], "user_id": ["B"]}, schema))
    catalog.create_table((names.NAMESPACE, "dead_letters"), pa.schema([("reason", pa.string())]))
    return postgres_url, warehouse


def test_a_view_holds_the_rows_of_one_snapshot(address: tuple[str, str], tmp_path: Path) -> None:
    from lake.iceberg import load_table
    from lake.views import Lake

    lake = Lake(*address, tmp_path / "cache")
    first = load_table(lake.catalog, "user_numbers").history()[0].snapshot_id
    query = "select user_no, user_id from user_numbers order by user_no"
    assert [(1, "a"), (2, "B")] == lake.open().sql(query).fetchall()
    assert [(1, "a")] == lake.open({"user_numbers": first}).sql(query).fetchall()
    assert [(0,)] == lake.open().sql("select count(reason) from dead_letters").fetchall()
    with pytest.raises(BadInput, match="rankings"):
        load_table(lake.catalog, "rankings")


def test_delete_files_are_an_error_not_rows_that_come_back() -> None:
    from lake.views import Scan, snapshot_files

    def table(*deletes: str) -> Any:
        file = SimpleNamespace(file_path="file:///a", file_size_in_bytes=7, record_count=3)
        task = SimpleNamespace(file=file, delete_files=list(deletes))
        scan = SimpleNamespace(plan_files=lambda: [task])
        return SimpleNamespace(scan=lambda **_: scan, name=lambda: "answers")

    assert (["file:///a"], Scan(1, 7, 3)) == snapshot_files(table())
    with pytest.raises(BrokenContract, match="delete files"):
        snapshot_files(table("file:///d"))


def test_the_sql_command(
    address: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lake.sql import main

    known = [f"--postgres-url={address[0]}", f"--warehouse={address[1]}", f"--cache={tmp_path / 'cache'}"]
    query = "select user_no n, user_id u from user_numbers order by n"
    assert 0 == main([query, *known])
    assert ["n\tu", "1\ta", "2\tB"] == capsys.readouterr().out.splitlines()
    assert 0 == main([query, *known, "--json"])
    assert [{"n": 1, "u": "a"}, {"n": 2, "u": "B"}] == json.loads(capsys.readouterr().out)
    assert 2 == main(["select nothing from nowhere", *known])
    assert "bad_query" in capsys.readouterr().err
