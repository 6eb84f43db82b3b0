"""Kafka `sketches.v1` → the lake's `sketches`, which keeps all three levels for ever (CONTRACTS E4).

The topic is compacted: what is read are the versions that are there now, from the offset that the table's newest snapshot
names. Rows are appended, one a version; the greatest offset of a window counts. Effectively once: the offsets are in
the snapshot that has the rows. 1 the snapshot, 2 the position in Postgres, by which the relay knows what it may delete; a
crash between them leaves the relay waiting until the next run, which writes it again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.sketched import BY_KIND, LEVEL_US
from spark_jobs.ingest_answers import OFFSETS_PROPERTY, offsets_in
from spark_jobs.lake_job import UNCHANGED_EXIT_HELP, lake_arguments, parse, run_on_lake
from spark_jobs.locks import INGEST, SETTLE, advisory_lock
from spark_jobs.session import create_tables, has_tables

log = logging.getLogger("ingest_sketches")
TABLE = "sketches"
_KEY = "kind STRING, level STRING, window_start_us BIGINT"
_VALUE = "window_end_us BIGINT, answers BIGINT, late BIGINT, heaviest ARRAY<STRING>, parts ARRAY<BIGINT>, sketch STRING"


def rows_of(records: DataFrame) -> DataFrame:
    """One row per record that is a sketch of ours, in the table's columns.

    records: partition, offset, key, value as Spark's Kafka source gives them. Tombstones, and what is not of a known
    kind and level, are left out.
    """
    parsed = records.select(
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.from_json(F.col("key").cast("string"), _KEY).alias("key"),
        F.from_json(F.col("value").cast("string"), _VALUE).alias("value"),
    ).withColumn("sketch", F.expr("try_to_binary(value.sketch, 'base64')"))
    ours = parsed.where(
        F.col("key.kind").isin(*BY_KIND)
        & F.col("key.level").isin(*LEVEL_US)
        & F.isnotnull("key.window_start_us")
        & F.isnotnull("sketch")
        & (F.length("sketch") > 0)
    )
    return ours.select(
        "key.kind",
        "key.level",
        F.timestamp_micros("key.window_start_us").alias("window_start"),
        "key.window_start_us",
        "value.window_end_us",
        "value.answers",
        F.coalesce("value.late", F.lit(0).cast("bigint")).alias("late"),
        "value.heaviest",
        F.coalesce("value.parts", F.array().cast("array<bigint>")).alias("parts"),
        "sketch",
        "kafka_partition",
        "kafka_offset",
    )


def ingest_sketches(spark: SparkSession, *, postgres_url: str, bootstrap: str) -> int:
    """Take in every version that is committed in Kafka and not in the table; how many there were.

    Blocks while another ingest runs.
    """
    with advisory_lock(postgres_url, INGEST) as connection:
        known = offsets_in(spark, TABLE)
        begin = {names.SKETCHES: {"0": known[0]}} if known else "earliest"
        records = (
            spark.read.format("kafka")
            .option("kafka.bootstrap.servers", bootstrap)
            .option("subscribe", names.SKETCHES)
            .option("startingOffsets", begin if isinstance(begin, str) else json.dumps(begin))
            .option("kafka.isolation.level", "read_committed")
            # Compaction takes versions out, also at the start of the topic: nothing is lost by it.
            .option("failOnDataLoss", "false")
            .load()
            .persist()
        )
        try:
            greatest = records.agg(F.max("offset")).collect()[0][0]
            end = max(known.get(0, 0), -1 if greatest is None else int(greatest) + 1)
            rows = rows_of(records)
            count = rows.count()
            if count:
                # 1
                rows.writeTo(names.table(TABLE)).option(
                    f"snapshot-property.{OFFSETS_PROPERTY}", json.dumps({"0": end})
                ).append()
            taken = end if count or not known else known[0]
        finally:
            records.unpersist()
        _tell(connection, taken)  # 2
        return count


def _tell(connection: psycopg.Connection, next_offset: int) -> None:
    """The first offset that the lake may not have; it never goes back."""
    connection.execute(
        "INSERT INTO deployment (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
        "WHERE deployment.value::bigint < excluded.value::bigint",
        (names.SKETCHES_IN_LAKE, str(next_offset)),
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ingest_sketches", description="Take every sketch from Kafka into the lake"
    )
    parser.add_argument("--unchanged-exit", type=int, default=0, metavar="CODE", help=UNCHANGED_EXIT_HELP)
    lake_arguments(parser, "kafka-bootstrap")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0, or the code asked for if nothing came; 3: a system is missing."""
    args, begun = _arguments(argv), time.monotonic()

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        if not has_tables(spark):
            with advisory_lock(postgres_url, SETTLE):
                create_tables(spark)
        count = ingest_sketches(spark, postgres_url=postgres_url, bootstrap=args.kafka_bootstrap)
        document = {"sketches": count, "seconds": round(time.monotonic() - begun, 1)}
        return (0 if count else args.unchanged_exit), document

    return run_on_lake("ingest_sketches", args, work)


if __name__ == "__main__":
    sys.exit(main())
