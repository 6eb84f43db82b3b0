"""Millions of answers under another rule: look, publish, take back; beside one DuckDB query for the same boards.

    ./lakeboard bench score-again [--answers 20000000] [--days 30]

Claim: 20 M answers are scored again in minutes on 2 cores. Makes a lake of its own on local files with a month of
answers of one shard (by Spark, seeded), settles it by the publication that `settle` uses, then runs the phases of
`rescore` over all of it. What a user would have instead is one query over the same files; it publishes nothing and
keeps no version. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from cli.stack.layout import layout_from
from contracts import names
from contracts.corrections import RULE_CHANGE, Correction
from contracts.periods import midnight_us, next_start
from spark_jobs import publish
from spark_jobs.barriers import Sequences
from spark_jobs.day_frames import days_of
from spark_jobs.publication import Publication
from spark_jobs.seconds import Seconds
from spark_jobs.session import create_tables, spark_session
from tests.services.daemons import start_postgres

FIRST = date(2024, 4, 1)
USERS_PER_ANSWER = 100
"""Answers a user has on average: 20 M answers are 200,000 users."""
_DUCKDB = """
COPY (SELECT row_number() OVER (ORDER BY p DESC, r, u DESC) AS rank, * FROM (
  SELECT user_id AS u, sum(CASE WHEN correct THEN 1 ELSE 0 END) AS p,
    max(occurred_at_us) FILTER (correct) AS r FROM read_parquet('{files}') GROUP BY user_id))
TO '{out}' (FORMAT parquet)
"""


def write_answers(spark: SparkSession, count: int, days: int) -> None:
    """`count` answers over the days, seq 1, 2, 3 … in order of time on shard 0; ids hashed, points by speed."""
    low = midnight_us(FIRST, "UTC")
    step = days * 86_400_000_000 // count
    user = F.pmod(F.hash(F.col("id") * 7919), F.lit(max(count // USERS_PER_ANSWER, 1))).cast("bigint")
    elapsed = F.pmod(F.hash(F.col("id")), F.lit(60_000)).cast("bigint")
    rows = spark.range(1, count + 1).select(
        F.format_string("%036d", "id").alias("event_id"),
        F.lit("import").alias("origin"),
        (F.lit(low) + (F.col("id") - 1) * step).alias("occurred_at_us"),
        F.concat(F.lit("u"), user).alias("user_id"),
        (user + 1).alias("user_no"),
        F.lit("s").alias("session_id"),
        F.lit(low).alias("session_started_at_us"),
        F.lit(1000).cast("bigint").alias("session_tick_ms"),
        F.concat(F.lit("part-"), F.pmod("id", F.lit(7))).alias("quiz_id"),
        F.lit("UTC").alias("quiz_zone"),
        F.lit(1).cast("bigint").alias("quiz_version"),
        F.lit("q").alias("question_id"),
        F.lit("imported").alias("question_type"),
        F.array().cast("array<string>").alias("skill_tags"),
        F.lit(None).cast("string").alias("choice"),
        (F.pmod(F.hash(F.col("id") + 1), F.lit(10)) < 7).alias("correct"),
        elapsed.alias("elapsed_ms"),
        F.lit(60_000).cast("bigint").alias("time_limit_ms"),
        F.lit("speed@1").alias("rule"),
        F.col("id").alias("seq"),
    )
    points = F.when(
        F.col("correct"), F.lit(500) + F.floor(F.lit(500) * (F.lit(60_000) - F.col("elapsed_ms")) / 60_000)
    )
    answers = spark.table(names.table("answers"))
    full = (
        rows.withColumn("points", F.coalesce(points, F.lit(0)).cast("bigint"))
        .withColumn("occurred_at", F.timestamp_micros("occurred_at_us"))
        .withColumn("shard", F.lit(0))
        .withColumn("kafka_partition", F.lit(0))
        .withColumn("kafka_offset", F.col("seq") - 1)
    )
    full.select(*answers.columns).writeTo(names.table("answers")).append()


def _publication(
    spark: SparkSession, sql: psycopg.Connection, sequences: Sequences, last: date, decided: list[Correction]
) -> Publication:
    return Publication(spark, sql, sequences, (FIRST, last), decided, len(decided), Seconds())


def measure(folder: Path, count: int, days: int, postgres_url: str) -> dict[str, Any]:
    """Every figure. Start-up of Spark and the writing of the answers stand apart."""
    from serving.migrations.upgrade import upgrade

    upgrade(postgres_url)
    jars = layout_from(os.environ).jars("spark")
    spark = spark_session(
        "bench",
        postgres_url=postgres_url,
        warehouse=f"file://{folder}/warehouse",
        jars=jars,
        local_dir=folder / "local",
    )
    create_tables(spark)
    began = time.monotonic()
    write_answers(spark, count, days)
    made_s = time.monotonic() - began
    last = FIRST + timedelta(days=days - 1)
    periods = [("daily", FIRST + timedelta(days=n), "UTC") for n in range(days)]
    periods += [("monthly", FIRST, "UTC")] if next_start("monthly", FIRST) == last + timedelta(days=1) else []
    sequences = Sequences({0: count}, {day: {0: count} for day in days_of(periods)})
    change = Correction(1, RULE_CHANGE, 0, "bench", None, None, None, None, "correct@1")
    phases: dict[str, Any] = {}
    with psycopg.connect(postgres_url, autocommit=True) as sql:
        for name, decided in (("settle", []), ("look", [change]), ("publish", [change]), ("take_back", [])):
            run = _publication(spark, sql, sequences, last, decided)
            began = time.monotonic()
            if name == "settle":
                run.first_versions(periods, set())
            else:
                settled = publish.settled_versions(sql, FIRST, last)
                run.adjustments("bench", settled, run.covered_days([change]), set(), dry_run=name == "look")
            phases[name] = {"s": round(time.monotonic() - began, 1), "phases_s": run.seconds.rounded()}
            run.close()
    files = [row[0] for row in spark.sql(f"SELECT file_path FROM {names.table('answers')}.files").collect()]
    spark.stop()
    answers_bytes = sum(Path(file.removeprefix("file:")).stat().st_size for file in files)
    duckdb_s = _by_duckdb(folder)
    return {
        "answers": count,
        "days": days,
        "periods": len(periods),
        "answers_made_s": round(made_s, 1),
        **{f"{name}_s": phase["s"] for name, phase in phases.items()},
        "phases_s": {name: phase["phases_s"] for name, phase in phases.items()},
        "bytes_per_answer": round(answers_bytes / count, 1),
        "one_board_by_duckdb_s": round(duckdb_s, 2),
        "publish_over_duckdb": round(phases["publish"]["s"] / duckdb_s, 1),
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _by_duckdb(folder: Path) -> float:
    """Seconds of the month's global board under the rule, read from the same files and written."""
    import duckdb

    began = time.monotonic()
    files = f"{folder}/warehouse/{names.NAMESPACE}/answers/data/*/*.parquet"
    with duckdb.connect() as connection:
        connection.execute(_DUCKDB.format(files=files, out=folder / "board.parquet"))
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="score-again", description=__doc__)
    parser.add_argument("--answers", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=30, help="30 are the whole April of 2024")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as folder:
        postgres = start_postgres(Path(folder))
        try:
            found = measure(Path(folder), args.answers, args.days, postgres.new_database())
        finally:
            postgres.stop()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
