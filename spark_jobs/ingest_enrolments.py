"""Kafka `enrolments.v1` → the lake's `enrolments`, unique by id.

What is in is said by the offsets of the table's newest snapshot, so a run that is cut writes nothing twice.
"""

from __future__ import annotations

import json
import time

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.enrolments import ENROLMENT_FIELDS, KINDS
from contracts.errors import BrokenContract, SystemMissing
from contracts.events import spark_ddl
from spark_jobs.ingest_answers import OFFSETS_PROPERTY, offsets_in
from spark_jobs.locks import INGEST, advisory_lock

TABLE = "enrolments"
# The relay delivers within seconds.
WAIT_S = 60.0
_PAUSE_S = 1.0


def rows_of(records: DataFrame) -> DataFrame:
    """One row per record, in the table's columns. records: partition, offset and value of Spark's Kafka source.

    A record that does not fit has nulls.
    """
    parsed = records.select(
        F.from_json(F.col("value").cast("string"), spark_ddl(ENROLMENT_FIELDS)).alias("event"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
    )
    return parsed.select("event.*", "kafka_partition", "kafka_offset")


def check(spark: SparkSession, rows: DataFrame) -> None:
    """Raises BrokenContract where a record does not fit, or the ids do not go on from the table's without a gap."""
    table = names.table(TABLE)
    before = spark.sql(f"SELECT coalesce(max(enrolment_id), 0) FROM {table}").collect()[0][0]
    found = rows.agg(
        F.count("*"),
        F.countDistinct("enrolment_id"),
        F.min("enrolment_id"),
        F.max("enrolment_id"),
        # from_json gives null for what is missing; only the relay writes this topic.
        F.count(
            F.when(
                ~F.coalesce(F.col("kind").isin(*KINDS), F.lit(False))
                | F.concat("course_id", "user_id").isNull()
                | F.col("occurred_at_us").isNull(),
                1,
            )
        ),
    ).collect()[0]
    count, different, first, last, odd = found
    if odd:
        raise BrokenContract("bad_event", f"{odd} records of {names.ENROLMENTS} do not fit")
    if (different, first, last) != (count, before + 1, before + count):
        raise BrokenContract(
            "sequence_gap",
            f"{names.ENROLMENTS}: {count} records with ids {first} to {last} follow id {before}",
        )


def ingest_enrolments(spark: SparkSession, *, postgres_url: str, bootstrap: str) -> int:
    """Take in every enrolment that is committed in Kafka and not in the table; how many there were.

    Blocks while another ingest runs. Raises BrokenContract (bad_event, sequence_gap), and then nothing is written.
    """
    with advisory_lock(postgres_url, INGEST):
        known = offsets_in(spark, TABLE)
        begin = json.dumps({names.ENROLMENTS: {"0": known[0]}}) if known else "earliest"
        records = (
            spark.read.format("kafka")
            .option("kafka.bootstrap.servers", bootstrap)
            .option("subscribe", names.ENROLMENTS)
            .option("startingOffsets", begin)
            .option("kafka.isolation.level", "read_committed")
            .load()
        )
        rows = rows_of(records).persist()
        try:
            count = rows.count()
            if not count:
                return 0
            check(spark, rows)
            end = int(rows.agg(F.max("kafka_offset")).collect()[0][0]) + 1
            rows.coalesce(1).writeTo(names.table(TABLE)).option(
                f"snapshot-property.{OFFSETS_PROPERTY}", json.dumps({"0": end})
            ).append()
            return count
        finally:
            rows.unpersist()


def wait_for_enrolments(
    spark: SparkSession,
    connection: psycopg.Connection,
    *,
    postgres_url: str,
    bootstrap: str,
    wait_s: float = WAIT_S,
) -> int:
    """Ingest until the lake has every enrolment that Postgres has now; how many are new.

    Raises SystemMissing if the relay does not bring them in time, BrokenContract as `ingest_enrolments`.
    """
    row = connection.execute("SELECT coalesce(max(id), 0) FROM enrolments").fetchone()
    assert row is not None
    wanted, deadline, new = row[0], time.monotonic() + wait_s, 0
    while True:
        new += ingest_enrolments(spark, postgres_url=postgres_url, bootstrap=bootstrap)
        there = spark.sql(f"SELECT coalesce(max(enrolment_id), 0) FROM {names.table(TABLE)}").collect()[0][0]
        if there >= wanted:
            return new
        if time.monotonic() > deadline:
            raise SystemMissing(
                "system_missing",
                f"the lake has {there} enrolments, Postgres {wanted}",
                next_step="./lakeboard status: the relay brings them through Kafka",
            )
        time.sleep(_PAUSE_S)
