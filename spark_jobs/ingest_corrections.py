"""Kafka `corrections.v1` → the lake's `corrections`, unique by id (CONTRACTS C9); and which of them are in force.

There are few: the topic is read whole, and rows that the table has are left out, so a repeat writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields

import psycopg
from pyspark.sql import SparkSession

from contracts import names
from contracts.corrections import CORRECTION_FIELDS, Correction, decode
from contracts.errors import BrokenContract, SystemMissing
from contracts.events import spark_ddl
from spark_jobs.locks import INGEST, advisory_lock

# The relay delivers within seconds.
WAIT_S = 60.0
_PAUSE_S = 1.0


def read_corrections(spark: SparkSession) -> list[Correction]:
    """Every correction that the lake has, in order of decision. Raises BrokenContract if an id is missing or repeated."""
    columns = [field.name for field in fields(Correction)]
    rows = spark.table(names.table("corrections")).select(*columns).orderBy("correction_id").collect()
    found = [Correction(**row.asDict()) for row in rows]
    if [one.correction_id for one in found] != list(range(1, len(found) + 1)):
        raise BrokenContract("sequence_gap", "the lake's corrections are not 1, 2, 3 …")
    return found


def ingest_corrections(spark: SparkSession, *, postgres_url: str, bootstrap: str) -> int:
    """Take in every correction that is committed in Kafka; returns how many are new.

    Raises BadInput(bad_event) for a record that no schema fits: only the relay writes this topic.
    """
    with advisory_lock(postgres_url, INGEST):
        known = {row[0] for row in spark.table(names.table("corrections")).select("correction_id").collect()}
        records = (
            spark.read.format("kafka")
            .option("kafka.bootstrap.servers", bootstrap)
            .option("subscribe", names.CORRECTIONS)
            .option("startingOffsets", "earliest")
            .option("kafka.isolation.level", "read_committed")
            .load()
        )
        rows = []
        for record in records.select("partition", "offset", "value").collect():
            correction = decode(bytes(record.value))
            if correction.correction_id not in known:
                known.add(correction.correction_id)
                values = [getattr(correction, field.name) for field in CORRECTION_FIELDS]
                rows.append((*values, record.partition, record.offset))
        if rows:
            schema = spark_ddl(CORRECTION_FIELDS) + ", kafka_partition INT, kafka_offset BIGINT"
            frame = spark.createDataFrame(sorted(rows), schema)
            frame.coalesce(1).writeTo(names.table("corrections")).append()
        return len(rows)


def wait_for_corrections(
    spark: SparkSession,
    connection: psycopg.Connection,
    *,
    postgres_url: str,
    bootstrap: str,
    wait_s: float = WAIT_S,
) -> list[Correction]:
    """Ingest until the lake has every correction that Postgres has; all of them.

    Raises SystemMissing if the relay does not bring them in time.
    """
    row = connection.execute("SELECT coalesce(max(id), 0) FROM corrections").fetchone()
    assert row is not None
    deadline = time.monotonic() + wait_s
    while len(found := read_corrections(spark)) < row[0]:
        ingest_corrections(spark, postgres_url=postgres_url, bootstrap=bootstrap)
        if len(found := read_corrections(spark)) >= row[0]:
            break
        if time.monotonic() > deadline:
            raise SystemMissing(
                "system_missing",
                f"the lake has {len(found)} corrections, Postgres {row[0]}",
                next_step="./lakeboard status: the relay brings them through Kafka",
            )
        time.sleep(_PAUSE_S)
    return found


def in_force(connection: psycopg.Connection, corrections: Sequence[Correction]) -> list[Correction]:
    """Those whose boards are published."""
    rows = connection.execute("SELECT id FROM corrections WHERE in_force_at IS NOT NULL").fetchall()
    ids = {row[0] for row in rows}
    return [one for one in corrections if one.correction_id in ids]
