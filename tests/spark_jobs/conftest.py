"""Fixtures of the lake's engine tests: jars, one broker, one Spark on a real Postgres catalog and a file warehouse."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.spark_jobs.broker import Broker


@pytest.fixture(scope="session")
def jars() -> Path:
    """Folder with the folders `spark` and `kafka`."""
    home = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("LAKEBOARD_CACHE_DIR", str(home / ".lakeboard" / "cache"))) / "jars"
    if not list((folder / "spark").glob("*.jar")) or not list((folder / "kafka").glob("*.jar")):
        pytest.skip(f"no jars in {folder}; run ./lakeboard up once")
    return folder


@pytest.fixture(scope="session")
def broker(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    from tests.spark_jobs.broker import Broker

    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@dataclass
class Lake:
    """A fresh lake: its Spark, catalog database and warehouse."""

    spark: SparkSession
    postgres_url: str
    warehouse: str
    checkpoints: int = 0

    def new_checkpoint(self) -> str:
        """A folder for a streaming query that has read nothing yet."""
        self.checkpoints += 1
        return f"{self.warehouse}/_checkpoints/{self.checkpoints}"

    def empty(self, broker: Broker) -> None:
        """Drop every table, settlement and record: names are fixed by the contracts, so the content makes way."""
        import psycopg

        from contracts import names
        from contracts.tables import TABLES
        from spark_jobs.session import create_tables

        for name in TABLES:
            self.spark.sql(f"DROP TABLE IF EXISTS {names.table(name)} PURGE")
        create_tables(self.spark)
        with psycopg.connect(self.postgres_url) as connection:
            connection.execute(
                "TRUNCATE settlements, corrections, enrolments, history, archived_months CASCADE"
            )
            connection.execute(
                "DELETE FROM deployment WHERE key LIKE 'boards_%' AND key <> 'boards_since_us'"
            )
        broker.empty_topics()


@pytest.fixture(scope="session")
def lake(
    jars: Path, new_postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    from serving.migrations.upgrade import upgrade
    from spark_jobs.session import create_tables, spark_session

    folder, url = tmp_path_factory.mktemp("lake"), new_postgres_url()
    upgrade(url)
    warehouse = f"file://{folder}/warehouse"
    spark = spark_session(
        "tests", postgres_url=url, warehouse=warehouse, jars=jars / "spark", local_dir=folder / "local"
    )
    create_tables(spark)
    yield Lake(spark, url, warehouse)
    spark.stop()


@pytest.fixture
def empty_lake(lake: Lake, broker: Broker) -> None:
    """A lake, a catalog and topics with nothing in them."""
    lake.empty(broker)
