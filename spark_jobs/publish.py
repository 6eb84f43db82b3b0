"""Write to an audit branch, check, fast-forward, tag; the settlement's row in Postgres is the very last step.

The caller holds the settle lock from before the branch to after the row. A crash before the row leaves at most tables
that nobody reads through a settlement; the next run does it all again under a new id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.settlements import Settlement
from spark_jobs.day_frames import Period
from spark_jobs.session import snapshot_id

PUBLISHED = ("user_days", "user_months", "rankings", "ranking_changes")


def open_branches(spark: SparkSession, settlement_id: str, tables: Sequence[str]) -> None:
    """Make the audit branch on the tables that are published, and drop branches that a crashed run has left."""
    drop_branches(spark)
    for name in tables:
        spark.sql(f"ALTER TABLE {names.table(name)} CREATE BRANCH `{names.audit_branch(settlement_id)}`")


def drop_branches(spark: SparkSession) -> None:
    """Drop every audit branch: the lock's holder has none but its own."""
    for name in PUBLISHED:
        table = names.table(name)
        for row in spark.sql(f"SELECT name FROM {table}.refs WHERE type = 'BRANCH'").collect():
            if row[0].startswith(names.audit_branch("")):
                spark.sql(f"ALTER TABLE {table} DROP BRANCH `{row[0]}`")


def branch_table(name: str, settlement_id: str) -> str:
    """A table's audit branch, as Spark writes to it."""
    return f"{names.table(name)}.branch_{names.audit_branch(settlement_id)}"


def replace_partitions(
    rows: DataFrame, name: str, settlement_id: str, key: list[str], targets: DataFrame
) -> None:
    """Replace the partitions of the targets on the audit branch, in one write for all of them.

    Rows of the same partitions that belong to another zone are carried over: targets has the `key` columns (zone
    among them) of what is replaced.
    """
    partition = [column for column in key if column != "zone"]
    table = names.table(name)
    spark = rows.sparkSession
    # Emptied first: a partition that gets no row would else keep what it had, and a removal can empty a day.
    held = _held_partitions(spark, name, partition, targets)
    if held:
        spark.sql(f"DELETE FROM {branch_table(name, settlement_id)} WHERE {_one_of(partition, held)}")
    kept = (
        spark.table(table)
        .join(F.broadcast(targets.select(*partition).distinct()), partition, "left_semi")
        .join(F.broadcast(targets.select(*key).distinct()), key, "left_anti")
    )
    rows.select(*kept.columns).unionByName(kept).writeTo(
        branch_table(name, settlement_id)
    ).overwritePartitions()


def _held_partitions(
    spark: SparkSession, name: str, partition: Sequence[str], targets: DataFrame
) -> list[tuple[Any, ...]]:
    """Values of the target partitions that have files on main, in order."""
    columns = ", ".join(f"partition.{column} AS {column}" for column in partition)
    rows = spark.sql(f"SELECT {columns} FROM {names.table(name)}.partitions").join(
        F.broadcast(targets), list(partition), "left_semi"
    )
    return sorted({tuple(row) for row in rows.collect()})


def _one_of(partition: Sequence[str], values: Sequence[tuple[Any, ...]]) -> str:
    """SQL: the partition is one of these, (period, start) or one date; the dates listed by what stands before them."""
    dates: dict[tuple[str, ...], list[str]] = {}
    for *before, day in values:
        dates.setdefault(tuple(before), []).append(f"DATE '{day}'")
    each = []
    for before_values, listed in dates.items():
        same = [f"{column} = '{value}'" for column, value in zip(partition, before_values, strict=False)]
        each.append(" AND ".join([*same, f"{partition[-1]} IN ({', '.join(listed)})"]))
    return " OR ".join(f"({one})" for one in each)


def append_ordered(rows: DataFrame, name: str, settlement_id: str) -> None:
    """Add rows whose tasks hold one partition each, in the table's order: the table's own way is a task a partition."""
    rows.writeTo(branch_table(name, settlement_id)).option("distribution-mode", "none").option(
        "use-table-distribution-and-ordering", "false"
    ).append()


def read_branch(spark: SparkSession, name: str, settlement_id: str) -> DataFrame:
    return spark.table(branch_table(name, settlement_id))


def fast_forward(spark: SparkSession, settlement_id: str, tables: Sequence[str]) -> None:
    """Make the checked branches main, and tag what is main now: a tag keeps its snapshot readable after expiry.

    Tables that this settlement left as they were are tagged too: its row names their snapshots.
    """
    branch, tag = names.audit_branch(settlement_id), names.settlement_tag(settlement_id)
    for name in tables:
        spark.sql(f"CALL {names.CATALOG}.system.fast_forward('{names.NAMESPACE}.{name}', 'main', '{branch}')")
    for name in PUBLISHED:
        if name in tables:
            spark.sql(f"ALTER TABLE {names.table(name)} DROP BRANCH `{branch}`")
        if snapshot_id(spark, name) is not None:
            spark.sql(f"ALTER TABLE {names.table(name)} CREATE OR REPLACE TAG `{tag}`")


def snapshots(spark: SparkSession, tables: tuple[str, ...]) -> dict[str, int]:
    """Current snapshot id by table; tables that have none yet are left out."""
    found = {name: snapshot_id(spark, name) for name in tables}
    return {name: snapshot for name, snapshot in found.items() if snapshot is not None}


def next_id(connection: psycopg.Connection) -> str:
    """An id that no settlement has had; ids grow, so that the newest is the greatest."""
    row = connection.execute("SELECT coalesce(max(id::bigint), 0) + 1 FROM settlements").fetchone()
    assert row is not None
    return str(row[0])


def insert_settlement(
    connection: psycopg.Connection, settlement: Settlement, in_force: Sequence[int] = ()
) -> None:
    """Insert the settlement and its periods in one transaction: from here on readers see it.

    in_force: corrections that hold from this instant on.
    """
    version = max(item.version for item in settlement.periods)
    with connection.transaction():
        connection.execute(
            "INSERT INTO settlements (id, from_day, to_day, created_at, version, rule, reason, snapshots, last_seq, "
            "last_correction, changes) VALUES (%s, %s, %s, now(), %s, %s, %s, %s, %s, %s, %s)",
            (
                settlement.id,
                settlement.from_day,
                settlement.to_day,
                version,
                settlement.rule,
                settlement.reason,
                json.dumps(dict(settlement.snapshots)),
                json.dumps({str(k): v for k, v in settlement.last_seq.items()}),
                settlement.last_correction,
                json.dumps(dict(settlement.changes)),
            ),
        )
        put_in_force(connection, in_force)
        if in_force:
            boards_are_stale(connection, settlement.id)
        elif version > 1:
            boards_are_stale(connection, settlement.id, late_alone=True)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO settlement_periods (settlement_id, period, start, zone, version) VALUES (%s,%s,%s,%s,%s)",
                [(settlement.id, p.period, p.start, p.zone, p.version) for p in settlement.periods],
            )


def settled_versions(
    connection: psycopg.Connection, first: date, last: date
) -> dict[Period, tuple[int, dict[int, int]]]:
    """(newest version, last seq by shard of that settlement) of each settled period that starts in first … last."""
    rows = connection.execute(
        "SELECT DISTINCT ON (p.period, p.start, p.zone) p.period, p.start, p.zone, p.version, s.last_seq "
        "FROM settlement_periods p JOIN settlements s ON s.id = p.settlement_id WHERE p.start BETWEEN %s AND %s "
        "ORDER BY p.period, p.start, p.zone, p.version DESC",
        (first, last),
    )
    return {(r[0], r[1], r[2]): (r[3], {int(shard): seq for shard, seq in r[4].items()}) for r in rows}


def put_in_force(connection: psycopg.Connection, ids: Sequence[int]) -> None:
    """From now on these corrections hold for whoever reads answers."""
    if ids:
        connection.execute(
            "UPDATE corrections SET in_force_at = now() WHERE id = ANY(%s) AND in_force_at IS NULL",
            (list(ids),),
        )


def boards_are_stale(connection: psycopg.Connection, why: str, late_alone: bool = False) -> None:
    """Say that Redis' boards must be made again from the record: `rebuild redis --if-stale` does it and takes it back.

    late_alone: only if there are answers of sealed sessions that no rebuild has seen; others reached Redis as they came.
    """
    unseen = (
        "EXISTS (SELECT 1 FROM history h WHERE h.mode = 'late' AND h.seq > coalesce((SELECT "
        "(d.value::jsonb->>h.shard::text)::bigint FROM deployment d WHERE d.key = 'boards_rebuilt_seq'), 0))"
    )
    connection.execute(
        "INSERT INTO deployment (key, value) SELECT 'boards_stale', %s"
        + (f" WHERE {unseen}" if late_alone else "")
        + " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (why,),
    )
