"""Kafka `answers.v1` → the lake's `answers`, `barriers` and `dead_letters` (CONTRACTS D1, A5).

Reads committed records only, in `foreachBatch` with the trigger availableNow, under a Postgres advisory lock. What is
in a table is said by the property `kafka-offsets` of its snapshots, not by the streaming checkpoint: each batch drops
the rows below it, so a batch that is run again writes nothing twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.events import (
    ANSWER_FIELDS,
    ANSWER_TYPE,
    BARRIER_FIELDS,
    BARRIER_TYPE,
    Field,
    barrier_spark_schema,
    spark_schema,
)
from spark_jobs.lake_job import UNCHANGED_EXIT_HELP, checkpoint_of, lake_arguments, parse, run_on_lake
from spark_jobs.locks import INGEST, SETTLE, advisory_lock
from spark_jobs.session import create_tables, has_tables

OFFSETS_PROPERTY = "kafka-offsets"
# Bounds a batch's memory: 300,000 events of about 500 bytes. Lower costs more commits, higher more heap.
MAX_RECORDS_A_BATCH = 300_000
_LEAST = {"elapsed_ms": 0, "time_limit_ms": 1}
_TABLES = ("dead_letters", "answers", "barriers")


def _header(name: str) -> Column:
    return F.expr(f"CAST(try_element_at(filter(headers, h -> h.key = '{name}'), 1).value AS STRING)")


def _first_reason(checks: list[tuple[Column, str]]) -> Column:
    """The text of the first check that is true; null if none is."""
    return F.coalesce(*[F.when(wrong, F.lit(text)) for wrong, text in checks])


# What schema_of_variant says of a field's JSON value. Spark's own reader would take a number for a STRING.
_JSON_KINDS = {
    "str": "STRING",
    "uuid": "STRING",
    "u32": "BIGINT",
    "i64": "BIGINT",
    "bool": "BOOLEAN",
    "strs": "ARRAY<(STRING|VOID)>",
    "opt_str": "(STRING|VOID)",
}


def _json_types(schema: tuple[Field, ...]) -> str:
    """A pattern of what `schema_of_variant` says of a fitting object in brackets; it sorts by name."""
    fields = sorted((f.name, _JSON_KINDS[f.kind]) for f in schema)
    return f"^ARRAY<OBJECT<{', '.join(f'{name}: {kind}' for name, kind in fields)}>>$"


def _fits(event: str, schema: tuple[Field, ...]) -> list[tuple[Column, str]]:
    """(wrong, reason) checks of one parsed event against its schema: contracts.events.decode, as columns."""
    keys = F.array_sort(F.json_object_keys("text"))
    checks = [
        (F.isnull(keys) | F.isnull("json"), "not a JSON object"),
        (F.isnotnull(F.expr("try_variant_get(json, '$[1]', 'variant')")), "more than one JSON object"),
        (
            keys != F.array(*[F.lit(name) for name in sorted(f.name for f in schema)]),
            "fields missing or unknown",
        ),
        (
            F.isnotnull(F.col(f"{event}._corrupt"))
            | ~F.coalesce(F.rlike("json_types", F.lit(_json_types(schema))), F.lit(False)),
            "a field does not fit its kind",
        ),
    ]
    for field in schema:
        column = F.col(f"{event}.{field.name}")
        if field.kind != "opt_str":
            checks.append((F.isnull(column), f"{field.name} does not fit {field.kind}"))
        if field.kind == "strs":
            checks.append((F.exists(column, F.isnull), f"{field.name} does not fit strs"))
        if field.kind == "uuid":
            checks.append((F.length(column) != 36, f"{field.name} does not fit uuid"))
        if field.kind == "u32":
            checks.append((~column.between(0, 2**32 - 1), f"{field.name} does not fit u32"))
        if field.name in _LEAST:
            checks.append((column < _LEAST[field.name], f"{field.name} is below {_LEAST[field.name]}"))
        if field.name == "origin":
            checks.append((~column.isin("live", "import"), "origin is neither live nor import"))
        if field.name == "day":
            checks.append((F.isnull(F.expr(f"try_cast({event}.day AS DATE)")), "day is not a day"))
    return checks


def decode_records(records: DataFrame) -> DataFrame:
    """One row per Kafka record: headers, both parsed forms, and `reason`, null where the record fits its schema.

    records: partition, offset, value, headers as Spark's Kafka source gives them.
    """
    rows = (
        records.withColumn("shard_text", _header(names.HEADER_SHARD))
        .withColumn("seq_text", _header(names.HEADER_SEQ))
        .select(
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
            "value",
            F.col("value").cast("string").alias("text"),
            _header(names.HEADER_TYPE).alias("type"),
            F.expr("try_cast(shard_text AS INT)").alias("shard"),
            F.expr("try_cast(seq_text AS BIGINT)").alias("seq"),
        )
    )
    permissive = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt"}
    rows = rows.withColumn(
        "answer", F.from_json("text", spark_schema() + ", _corrupt STRING", permissive)
    ).withColumn("barrier", F.from_json("text", barrier_spark_schema() + ", _corrupt STRING", permissive))
    # In brackets, because the parser stops at the end of the first value and would not see what follows it.
    rows = rows.withColumn("json", F.expr("try_parse_json(concat('[', text, ']'))")).withColumn(
        "json_types", F.expr("schema_of_variant(json)")
    )
    beside = [
        (
            F.isnull("type") | ~F.col("type").isin(ANSWER_TYPE, BARRIER_TYPE),
            "header type is missing or unknown",
        ),
        (F.isnull("shard") | (F.col("shard") < 0), "header shard is missing or not a number"),
        (F.isnull("seq") | (F.col("seq") < 1), "header seq is missing or not a number"),
        (F.isnull("value"), "the record is empty"),
        (~F.is_valid_utf8("text"), "not UTF-8"),
    ]
    return rows.withColumn(
        "reason",
        F.coalesce(
            _first_reason(beside),
            F.when(F.col("type") == ANSWER_TYPE, _first_reason(_fits("answer", ANSWER_FIELDS))).otherwise(
                _first_reason(_fits("barrier", BARRIER_FIELDS))
            ),
        ),
    )


def rows_of(decoded: DataFrame, table: str) -> DataFrame:
    """The rows of a batch that belong into one table, in that table's columns."""
    beside = ["shard", "seq", "kafka_partition", "kafka_offset"]
    fits = F.isnull("reason")
    if table == "answers":
        return decoded.where(fits & (F.col("type") == ANSWER_TYPE)).select(
            *[F.col(f"answer.{f.name}").alias(f.name) for f in ANSWER_FIELDS],
            F.timestamp_micros("answer.occurred_at_us").alias("occurred_at"),
            *beside,
        )
    if table == "barriers":
        return decoded.where(fits & (F.col("type") == BARRIER_TYPE)).select(
            "barrier.event_id",
            "barrier.zone",
            F.col("barrier.day").cast("date").alias("day"),
            "barrier.start_us",
            "barrier.end_us",
            *beside,
        )
    return decoded.where(~fits).select("kafka_partition", "kafka_offset", "shard", "seq", "reason", "value")


def offsets_in(spark: SparkSession, table: str) -> dict[int, int]:
    """Next offset by partition that a table has not got yet, from its newest snapshot that says so."""
    found = spark.sql(
        f"SELECT summary['{OFFSETS_PROPERTY}'] FROM {names.table(table)}.snapshots "
        f"WHERE summary['{OFFSETS_PROPERTY}'] IS NOT NULL ORDER BY committed_at DESC LIMIT 1"
    ).collect()
    return {int(partition): offset for partition, offset in json.loads(found[0][0]).items()} if found else {}


def carry_offsets(spark: SparkSession, table: str) -> None:
    """Say in a table's newest snapshot which offsets are in, so that all older ones may expire.

    Compaction makes snapshots that do not say it. Nothing is written where the newest one says it already; else nothing
    but the property is. The caller holds the ingest lock.
    """
    known = offsets_in(spark, table)
    newest = spark.sql(
        f"SELECT s.summary['{OFFSETS_PROPERTY}'] FROM {names.table(table)}.snapshots s "
        f"JOIN {names.table(table)}.refs r ON r.snapshot_id = s.snapshot_id WHERE r.name = 'main'"
    ).collect()
    if known and newest[0][0] is None:
        spark.table(names.table(table)).limit(0).writeTo(names.table(table)).option(
            f"snapshot-property.{OFFSETS_PROPERTY}", json.dumps(known)
        ).append()


def _new_rows(decoded: DataFrame, known: dict[int, int]) -> DataFrame:
    below = [
        (F.col("kafka_partition") == partition) & (F.col("kafka_offset") < offset)
        for partition, offset in known.items()
    ]
    return decoded.where(~reduce(lambda a, b: a | b, below)) if below else decoded


def write_batch(records: DataFrame, bootstrap: str) -> None:
    """Write one batch. Steps: 1 dead letters (lake, then Kafka), 2 answers, 3 barriers, each its own commit.

    Barriers come last, so that a barrier in the lake means that the answers before it are there. A crash after any
    step leaves that table's `kafka-offsets` ahead; the batch is run again and skips what is in.
    """
    spark = records.sparkSession
    decoded = decode_records(records).persist()
    try:
        ends = {
            row[0]: row[1] + 1
            for row in decoded.groupBy("kafka_partition").agg(F.max("kafka_offset")).collect()
        }
        kinds = decoded.select(
            F.count_if(F.isnotnull("reason")),
            F.count_if(F.isnull("reason") & (F.col("type") == ANSWER_TYPE)),
            F.count_if(F.isnull("reason") & (F.col("type") == BARRIER_TYPE)),
        ).collect()[0]
        for table, count in zip(_TABLES, kinds, strict=True):
            if not count:
                continue
            known = offsets_in(spark, table)
            rows = rows_of(_new_rows(decoded, known), table)
            upto = {p: max(offset, known.get(p, 0)) for p, offset in (known | ends).items()}
            if table == "dead_letters":
                send_dead_letters(rows, bootstrap)
            rows.writeTo(names.table(table)).option(
                f"snapshot-property.{OFFSETS_PROPERTY}", json.dumps(upto)
            ).append()
    finally:
        decoded.unpersist()


def send_dead_letters(rows: DataFrame, bootstrap: str) -> None:
    """Send records that no schema fits to their topic, with the reason as a header; at least once."""
    header = F.struct(F.lit("reason").alias("key"), F.col("reason").cast("binary").alias("value"))
    place = F.concat_ws("-", "kafka_partition", "kafka_offset")
    rows.select(place.cast("binary").alias("key"), "value", F.array(header).alias("headers")).write.format(
        "kafka"
    ).option("kafka.bootstrap.servers", bootstrap).option("includeHeaders", "true").option(
        "topic", names.DEAD_LETTERS
    ).save()


def ingest(spark: SparkSession, *, postgres_url: str, bootstrap: str, checkpoint: str) -> int:
    """Take in everything that is committed in Kafka now; returns the number of records read.

    Blocks while another ingest runs. checkpoint: folder URL of the streaming query; losing it costs one full read.
    """
    with advisory_lock(postgres_url, INGEST) as connection:
        began = connection.execute("SELECT (extract(epoch FROM now()) * 1000000)::bigint").fetchone()
        query = (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", bootstrap)
            .option("subscribe", names.ANSWERS)
            .option("startingOffsets", "earliest")
            .option("kafka.isolation.level", "read_committed")
            .option("includeHeaders", "true")
            .option("maxOffsetsPerTrigger", MAX_RECORDS_A_BATCH)
            # Records that retention has deleted are a loss: stop instead of going on silently.
            .option("failOnDataLoss", "true")
            .load()
            .writeStream.trigger(availableNow=True)
            .option("checkpointLocation", checkpoint)
            .foreachBatch(lambda batch, _: write_batch(batch, bootstrap))
            .start()
        )
        query.awaitTermination()
        # What readers call "as of": the lake has what was committed in Kafka then, also where that was nothing new.
        connection.execute(
            "INSERT INTO deployment (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (names.ANSWERS_INGESTED, str(began[0] if began else 0)),
        )
        return sum(progress["numInputRows"] for progress in query.recentProgress)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ingest_answers", description="Take every committed answer from Kafka into the lake"
    )
    parser.add_argument("--unchanged-exit", type=int, default=0, metavar="CODE", help=UNCHANGED_EXIT_HELP)
    lake_arguments(parser, "kafka-bootstrap")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0, or the code asked for if no record came; 1: a check failed; 3: a system is missing."""
    args, begun = _arguments(argv), time.monotonic()

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        if not has_tables(spark):
            # A settlement makes them too; two at once would collide in the catalog.
            with advisory_lock(postgres_url, SETTLE):
                create_tables(spark)
        records = ingest(
            spark,
            postgres_url=postgres_url,
            bootstrap=args.kafka_bootstrap,
            checkpoint=checkpoint_of(args.warehouse),
        )
        # Here, because it imports from this module. In the same hour and the same Spark: else the relay would keep
        # minutes for days that the lake has not got.
        from spark_jobs.ingest_sketches import ingest_sketches

        sketches = ingest_sketches(spark, postgres_url=postgres_url, bootstrap=args.kafka_bootstrap)
        document = {"records": records, "sketches": sketches, "seconds": round(time.monotonic() - begun, 1)}
        return (0 if records else args.unchanged_exit), document

    return run_on_lake("ingest_answers", args, work)


if __name__ == "__main__":
    sys.exit(main())
