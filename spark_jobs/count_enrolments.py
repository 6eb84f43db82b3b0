"""Enrolments into the lake, and counted per course and UTC day: `course_days`.

    python -m spark_jobs.count_enrolments --postgres-url … (all arguments)

Days that have ended are counted; all of them each time, and rows that differ are written in one commit, then Postgres is
told up to which day: a run that is cut, or comes twice, changes nothing. Prints one JSON document: enrolments (new in the
lake), rows (written), through, seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import psycopg
from pyspark.sql import SparkSession

from contracts import names
from contracts.enrolments import ENROLLED, LEFT
from contracts.errors import BrokenContract
from spark_jobs.ingest_enrolments import wait_for_enrolments
from spark_jobs.lake_job import UNCHANGED_EXIT_HELP, lake_arguments, parse, run_on_lake
from spark_jobs.locks import SETTLE, advisory_lock
from spark_jobs.session import create_tables

# Of one user and course the kinds take turns (contracts/enrolments.py): members are a running sum.
_COUNTED = f"""
    SELECT course_id, day, enrolled, departed,
        sum(joined) OVER (PARTITION BY course_id ORDER BY day) AS members
    FROM (
        SELECT course_id, to_date(timestamp_micros(occurred_at_us)) AS day,
            count(DISTINCT CASE WHEN kind = '{ENROLLED}' THEN user_id END) AS enrolled,
            count(DISTINCT CASE WHEN kind = '{LEFT}' THEN user_id END) AS departed,
            sum(CASE WHEN kind = '{ENROLLED}' THEN 1 ELSE -1 END) AS joined
        FROM {names.table("enrolments")}
        GROUP BY course_id, day
    )
"""
# What the table has already is left out, so that nothing new writes no snapshot.
_DIFFERENT = f"""
    SELECT c.* FROM counted c LEFT JOIN {names.table("course_days")} t ON t.course_id = c.course_id AND t.day = c.day
    WHERE c.day <= DATE '{{through}}' AND (t.day IS NULL
        OR (t.enrolled, t.departed, t.members) <> (c.enrolled, c.departed, c.members))
"""
_MERGE = f"""
    MERGE INTO {names.table("course_days")} t USING different d ON t.course_id = d.course_id AND t.day = d.day
    WHEN MATCHED THEN UPDATE SET *
    WHEN NOT MATCHED THEN INSERT *
"""


def count_days(spark: SparkSession, through: date) -> int:
    """Bring `course_days` up to `through`, inclusive; how many rows were written. The caller holds the settle lock.

    Raises BrokenContract(check_failed) where a course would have fewer than no members; then nothing is written.
    """
    # Cut off from the tables that they were read from: Spark plans no MERGE whose source reads its target.
    counted = spark.sql(_COUNTED).localCheckpoint()
    counted.createOrReplaceTempView("counted")
    wrong = counted.where("members < 0").limit(1).collect()
    if wrong:
        raise BrokenContract("check_failed", f"course {wrong[0].course_id} has {wrong[0].members} members")
    different = spark.sql(_DIFFERENT.format(through=through)).localCheckpoint()
    different.createOrReplaceTempView("different")
    rows = different.count()
    if rows:
        spark.sql(_MERGE)
    return rows


def tell(connection: psycopg.Connection, through: date) -> None:
    """Says up to which day enrolments are counted, also where nothing was new; it never goes back."""
    connection.execute(
        "INSERT INTO deployment (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
        "WHERE deployment.value < excluded.value",
        (names.COURSES_COUNTED, str(through)),
    )


def last_ended_day(connection: psycopg.Connection) -> date:
    """Yesterday in UTC by Postgres' clock, a grace after midnight: an enrolment is stamped before it is committed."""
    row = connection.execute("SELECT ((now() - interval '60 seconds') AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    return row[0] - timedelta(days=1)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="count_enrolments", description="Take enrolments into the lake, count them per course and day"
    )
    parser.add_argument("--unchanged-exit", type=int, default=0, metavar="CODE", help=UNCHANGED_EXIT_HELP)
    lake_arguments(parser, "kafka-bootstrap")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0, or the code asked for if nothing was new; 1: a check failed; 3: a system is missing."""
    args, begun = _arguments(argv), time.monotonic()

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        with advisory_lock(postgres_url, SETTLE) as connection:
            create_tables(spark)
            # Before the wait: what was enrolled on that day is in Postgres by now, and so in what is waited for.
            through = last_ended_day(connection)
            new = wait_for_enrolments(
                spark, connection, postgres_url=postgres_url, bootstrap=args.kafka_bootstrap
            )
            rows = count_days(spark, through)
            tell(connection, through)
        document = {
            "enrolments": new,
            "rows": rows,
            "through": str(through),
            "seconds": round(time.monotonic() - begun, 1),
        }
        return (0 if new or rows else args.unchanged_exit), document

    return run_on_lake("count_enrolments", args, work)


if __name__ == "__main__":
    sys.exit(main())
