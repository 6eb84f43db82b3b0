"""A month of history leaves Postgres for the lake: `./lakeboard job archive_month --month 2026-01 [--dry-run] [--release]`.

Steps: 1 take the archive's lock and the settlements'; 2 see that the month has ended, is settled, and that its sessions
are sealed; 3 prove that the lake holds every (shard, seq) with the same bytes (spark_jobs/archive_proof.py); 4 write the
month's `user_sessions` from the same snapshot of `answers`; 5 in one transaction: see that nothing came in meanwhile,
insert the month's row, drop its partition. A crash before 5 leaves everything readable in Postgres, and is run again; a
second run finds no partition and says `archived`. A late answer makes a new partition: archiving again adds it.
What Kafka lacks is fed from history: a month is only proven once the lake has it, which it gets through Kafka.
Prints one JSON document: month, state (archived, ready, not_ready, empty), entries, answers, sessions, why, seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.archive import Block, parse_month
from contracts.errors import BrokenContract, Retryable
from contracts.periods import span
from contracts.settlements import GRACE_US
from contracts.tables import ARCHIVED_ANSWER
from spark_jobs.archive_proof import (
    Partition,
    answers_of,
    lake_checksums,
    prove,
    read_partition,
    rows_by_shard,
)
from spark_jobs.lake_job import lake_arguments, parse, run_on_lake
from spark_jobs.locks import ARCHIVE, SETTLE, advisory_lock
from spark_jobs.roll_up_users import GLOBAL_ZONE
from spark_jobs.session import create_tables, snapshot_id

log = logging.getLogger("archive_month")
# The relay's writes queue behind the lock: better to give up and be run again than to hold them.
LOCK_WAIT_MS = 10_000
_NAMED = 5
_SESSION = ("month", "user_id", "user_no", "session_id", "quiz_id", "session_started_at_us")
After = Callable[[str], None]
Recorded = tuple[Block, dict[int, int]]


def archive_month(
    spark: SparkSession,
    postgres_url: str,
    month: date,
    *,
    dry_run: bool = False,
    release: bool = False,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    after: After = lambda step: None,
) -> dict[str, Any]:
    """Archive one UTC month; returns the document that is printed. after: told each finished step (tests crash there).

    dry_run: stop after the proof. release: what commands have put back goes too. Raises BrokenContract(check_failed)
    where the lake does not hold the month, Retryable(overloaded) where answers of it come in; then nothing is dropped.
    """
    began = time.monotonic()
    create_tables(spark)
    with advisory_lock(postgres_url, ARCHIVE) as connection, advisory_lock(postgres_url, SETTLE):
        found = _archive(spark, connection, month, dry_run, release, now_us(), after)
    return {"month": f"{month:%Y-%m}", **found, "seconds": round(time.monotonic() - began, 1)}


def _archive(
    spark: SparkSession,
    connection: psycopg.Connection,
    month: date,
    dry_run: bool,
    release: bool,
    now_us: int,
    after: After,
) -> dict[str, Any]:
    recorded = read_recorded(connection, month)
    if not _has_partition(connection, month):
        return {
            "state": "archived" if recorded else "empty",
            "entries": recorded[0].entries if recorded else 0,
        }
    why = obstacles(connection, month, now_us, release)
    if why:
        return {"state": "not_ready", "why": why}
    snapshots = {name: snapshot_id(spark, name) for name in ("answers", "barriers")}
    partition = read_partition(connection, month, recorded[1] if recorded else {})
    proven = prove(partition, lake_checksums(spark, month, snapshots), recorded)
    log.info("proven month=%s entries=%d checksum=%d", month, proven.entries, proven.checksum)
    after("proof")
    if dry_run:
        return {"state": "ready", "entries": proven.entries}
    written = write_user_sessions(spark, month, snapshots)
    after("user_sessions")
    snapshots["user_sessions"] = written.pop("snapshot")
    kept = {name: value for name, value in snapshots.items() if value is not None}
    _drop(connection, month, partition, proven, kept, after)
    return {"state": "archived", "entries": proven.entries, **written}


def read_recorded(connection: psycopg.Connection, month: date) -> Recorded | None:
    """What was proven when the month was last archived, and history's positions then."""
    row = connection.execute(
        "SELECT entries, checksum::text, through FROM archived_months WHERE month = %s", (month,)
    ).fetchone()
    if row is None:
        return None
    return Block(row[0], int(row[1])), {int(shard): seq for shard, seq in row[2].items()}


def _has_partition(connection: psycopg.Connection, month: date) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", (names.history_partition(month),)).fetchone()
    return row is not None and row[0] is not None


def obstacles(connection: psycopg.Connection, month: date, now_us: int, release: bool) -> list[str]:
    """Why the month may not be archived yet; empty if it may."""
    if now_us < span("monthly", month, GLOBAL_ZONE).end_us + GRACE_US:
        return ["the month has not ended"]
    table, why = names.history_partition(month), []
    zones = {
        row[0]
        for row in connection.execute(f"SELECT DISTINCT quiz_zone FROM {table} WHERE quiz_zone IS NOT NULL")
    }
    settled = {
        row[0]
        for row in connection.execute(
            "SELECT zone FROM settlement_periods WHERE period = 'monthly' AND start = %s", (month,)
        )
    }
    why += [f"the month is not settled in zone {zone}" for zone in sorted((zones | {GLOBAL_ZONE}) - settled)]
    open_ = connection.execute(
        f"SELECT DISTINCT h.session_id FROM {table} h LEFT JOIN sessions s USING (session_id) "
        "WHERE h.session_id IS NOT NULL AND s.sealed_at IS NULL ORDER BY 1"
    ).fetchall()
    if open_:
        first = ", ".join(row[0] for row in open_[:_NAMED])
        why.append(f"{len(open_)} sessions are not sealed: {first}{' …' if len(open_) > _NAMED else ''}")
    restored = connection.execute(
        "SELECT kind, id FROM restored WHERE month = %s ORDER BY 1, 2", (month,)
    ).fetchall()
    if restored and not release:
        first = ", ".join(f"{kind} {ident}" for kind, ident in restored[:_NAMED])
        why.append(f"{len(restored)} restored: {first}; --release lets them go")
    return why


def user_sessions(answers: DataFrame, month: date) -> DataFrame:
    """One row per (user, session) of a month's answers, in the columns of `user_sessions`, answers earliest first."""
    # The order of a struct is that of its fields: the instant must come before the id.
    ordered = F.struct(
        "occurred_at_us", "event_id", F.struct(*[name for name, _ in ARCHIVED_ANSWER]).alias("one")
    )
    return (
        answers.withColumn("month", F.lit(month).cast("date"))
        .groupBy(*_SESSION)
        .agg(
            F.min("occurred_at_us").alias("first_at_us"),
            F.max("occurred_at_us").alias("last_at_us"),
            F.count("*").alias("plays"),
            F.count_if("correct").alias("hits"),
            F.sum("points").alias("points"),
            F.sum("elapsed_ms").alias("elapsed_ms"),
            F.transform(F.array_sort(F.collect_list(ordered)), lambda item: item["one"]).alias("answers"),
        )
    )


def write_user_sessions(
    spark: SparkSession, month: date, snapshots: Mapping[str, int | None]
) -> dict[str, Any]:
    """Replace the month's rows (a rerun gives the same), check them, tag the snapshot.

    Returns answers and sessions (rows), and the snapshot. Raises BrokenContract(check_failed) if an answer is lacking.
    """
    table, answers = names.table("user_sessions"), answers_of(spark, month, snapshots)
    of_month = F.col("month") == F.lit(month).cast("date")
    user_sessions(answers, month).writeTo(table).overwrite(of_month)
    wanted = answers.agg(F.count("*"), F.sum("points")).collect()[0]
    rows = spark.table(table).where(of_month)
    found = rows.agg(F.count("*"), F.sum(F.size("answers")), F.sum("points")).collect()[0]
    if tuple(wanted) != tuple(found[1:]) and wanted[0]:
        raise BrokenContract(
            "check_failed",
            f"user_sessions has (answers, points) {tuple(found[1:])}, the month {tuple(wanted)}",
        )
    snapshot = snapshot_id(spark, "user_sessions")
    if snapshot is not None:  # else the month has barriers alone, and is the first
        spark.sql(f"ALTER TABLE {table} CREATE OR REPLACE TAG `{names.archive_tag(month)}`")
    return {"answers": wanted[0], "sessions": found[0], "snapshot": snapshot}


def _drop(
    connection: psycopg.Connection,
    month: date,
    partition: Partition,
    proven: Block,
    snapshots: Mapping[str, int],
    after: After,
) -> None:
    """The month's row and the end of its partition, in one transaction. Raises Retryable(overloaded)."""
    table = names.history_partition(month)
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
            # Keeps the relay from adding rows, not readers from reading; history's rows are never changed.
            connection.execute("LOCK TABLE ONLY history IN SHARE ROW EXCLUSIVE MODE")
            if rows_by_shard(connection, month) != partition.rows:
                raise Retryable(
                    "overloaded", f"answers of {month:%Y-%m} came in meanwhile", next_step="run it again"
                )
            connection.execute(
                "INSERT INTO archived_months (month, entries, checksum, through, snapshots) VALUES (%s, %s, %s, %s, %s) "
                "ON CONFLICT (month) DO UPDATE SET entries = excluded.entries, checksum = excluded.checksum, "
                "through = excluded.through, snapshots = excluded.snapshots, archived_at = clock_timestamp()",
                (
                    month,
                    proven.entries,
                    proven.checksum,
                    json.dumps({str(shard): seq for shard, seq in partition.positions.items()}),
                    json.dumps(dict(snapshots)),
                ),
            )
            connection.execute("DELETE FROM restored WHERE month = %s", (month,))
            connection.execute(f"DROP TABLE {table}")
            after("dropping")
    except psycopg.errors.LockNotAvailable as error:
        raise Retryable("overloaded", f"{table} is in use", next_step="run it again") from error


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="archive_month",
        description="Move a settled month of history from Postgres to the lake",
        epilog="example: ./lakeboard job archive_month --month 2026-01 --dry-run",
    )
    parser.add_argument("--month", required=True, type=parse_month, help="UTC month, YYYY-MM")
    parser.add_argument("--dry-run", action="store_true", help="look and prove; write and drop nothing")
    parser.add_argument("--release", action="store_true", help="let go what `restore` has put back")
    lake_arguments(parser)
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0: archived, ready (--dry-run) or empty; 1: not ready, or the lake does not hold the month; 3: try again."""
    args = _arguments(argv)

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        found = archive_month(spark, postgres_url, args.month, dry_run=args.dry_run, release=args.release)
        return (1 if found["state"] == "not_ready" else 0), found

    return run_on_lake("archive_month", args, work)


if __name__ == "__main__":
    sys.exit(main())
