"""One table, three ways in: DuckDB, pyiceberg and Spark count and sum the same, and all have its comments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow.compute
import pytest

import lake as lakeboard
from contracts import names
from contracts.settings import Settings, without_password
from contracts.tables import TABLE_COMMENTS

if TYPE_CHECKING:
    from tests.spark_jobs.conftest import Lake

pytestmark = pytest.mark.engine


def test_three_ways_in_agree(lake: Lake, jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spark_jobs.analyst import open_spark
    from spark_jobs.session import create_tables

    secret = tmp_path / "postgres_password"
    secret.write_text(urlsplit(lake.postgres_url).password or "")
    settings = Settings(
        postgres_url=without_password(lake.postgres_url),
        lake_warehouse=lake.warehouse,
        secrets_dir=str(tmp_path),
        cache_dir=str(jars.parent),
        data_dir=str(tmp_path),
    )
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    table = names.table("user_days")
    lake.spark.sql(f"DROP TABLE IF EXISTS {table} PURGE")
    create_tables(lake.spark)
    lake.spark.sql(
        f"INSERT INTO {table} VALUES ('global', 'UTC', DATE '2024-04-01', 1, 700, 5, 2, 1), "
        "('global', 'UTC', DATE '2024-04-02', 1, 0, NULL, 1, 1), ('quiz:q', 'UTC', DATE '2024-04-02', 2, 900, 6, 1, 0)"
    )
    try:
        wanted = (3, 1600)
        assert [wanted] == lakeboard.open().sql("SELECT count(*), sum(points) FROM user_days").fetchall()
        iceberg = lakeboard.catalog().load_table("lakeboard.user_days")
        rows = iceberg.scan().to_arrow()
        assert wanted == (rows.num_rows, pyarrow.compute.sum(rows["points"]).as_py())
        spark = open_spark(os.environ)
        assert wanted == tuple(spark.sql(f"SELECT count(*), sum(points) FROM {table}").collect()[0])
        # What one row is, and what a column means, as Spark wrote it down.
        assert TABLE_COMMENTS["user_days"] == iceberg.properties["comment"]
        docs = {field.name: field.doc for field in iceberg.schema().fields}
        assert (
            dict(
                lakeboard.open()
                .sql("SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'user_days'")
                .fetchall()
            )
            == {field.name: field.metadata["comment"] for field in spark.table(table).schema.fields}
            == docs
        )
        assert (3, 2) == tuple(lakeboard.tables().loc["user_days", ["rows", "files"]])
    finally:
        lake.spark.sql(f"DROP TABLE {table} PURGE")
        create_tables(lake.spark)
