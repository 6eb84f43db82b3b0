"""What every job of the lake takes and does around its work: arguments, session, log, one JSON document, exit code."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from contracts.errors import LakeboardError
from contracts.settings import with_password
from spark_jobs.session import MASTER, spark_session

# Airflow shows a task that ends so as skipped: it has not failed, and its assets' events wake nobody.
UNCHANGED_EXIT_HELP = "exit code if nothing was written (99: Airflow wakes no other DAG)"


def lake_arguments(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add what the stack knows: Postgres, warehouse, jars, local folder, and `more` that are needed too."""
    for name in ("postgres-url", "warehouse", *more):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--postgres-password-file", type=Path, help="where the URL has no password")
    parser.add_argument("--jars", required=True, type=Path, help="folder of Spark's extra jars")
    parser.add_argument("--local-dir", required=True, type=Path, help="folder for Spark's spilled blocks")
    parser.add_argument("--master", default=MASTER, help="Spark's master; default: %(default)s")
    parser.add_argument(
        "--json", action="store_true", help="accepted for uniformity: the output is always JSON"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; a day or month that is none ends the process with exit 2, like every other wrong use."""
    try:
        return parser.parse_args(argv)
    except LakeboardError as error:
        parser.error(f"{error.code}: {error.detail}")


def checkpoint_of(warehouse: str) -> str:
    """Folder of the query that reads `answers.v1`, one for every job that ingests."""
    return f"{warehouse.rstrip('/')}/_checkpoints/ingest_answers"


def run_on_lake(
    name: str, args: argparse.Namespace, work: Callable[[SparkSession, str], tuple[int, dict[str, Any]]]
) -> int:
    """Run `work(spark, postgres_url)` and print its document; returns its exit code, or that of its LakeboardError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    url = args.postgres_url
    if args.postgres_password_file:
        url = with_password(url, args.postgres_password_file.read_text().strip())
    spark = spark_session(
        name,
        postgres_url=url,
        warehouse=args.warehouse,
        jars=args.jars,
        local_dir=args.local_dir,
        master=args.master,
    )
    try:
        code, document = work(spark, url)
    except LakeboardError as error:
        logging.getLogger(name).error(
            "%s_failed code=%s detail=%s next_step=%s", name, error.code, error.detail, error.next_step
        )
        return error.exit_code
    finally:
        spark.stop()
    print(json.dumps(document))
    return code
