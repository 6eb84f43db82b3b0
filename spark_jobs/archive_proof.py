"""Whether the lake holds a month of history: every (shard, seq), with the same bytes (contracts/archive.py).

Postgres sums the checksums of its rows; Spark builds each event's bytes again from the columns of `answers` and
`barriers` with the encoder that built them first, and sums the same. Read at one snapshot of each. A dead letter has no
row in history, which decodes what it takes; one that had would be lacking in `answers`, and refuse the month.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

from contracts import names
from contracts.archive import BLOCK_SEQS, Block, differences, postgres_checksum, row_checksum, total
from contracts.errors import BrokenContract
from contracts.events import ANSWER_FIELDS, AnswerEvent, BarrierEvent, encode, encode_barrier
from contracts.periods import span

# Differences that a message names.
_NAMED = 5
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Partition:
    """A month's partition of history at one instant. positions: history's by shard, at the same instant.

    blocks: rows above `through` (the month's last proof; everything the first time). below: the checksum by (shard,
    seq) of the others: answers that a command has put back. rows: all of them by shard.
    """

    positions: dict[int, int]
    blocks: dict[tuple[int, int], Block]
    below: dict[Place, int]
    rows: dict[int, int]


def read_partition(connection: psycopg.Connection, month: date, through: Mapping[int, int]) -> Partition:
    """The partition and the positions from one snapshot of Postgres."""
    table, checksum = names.history_partition(month), postgres_checksum()
    above = " AND ".join(f"NOT (shard = {shard} AND seq <= {seq})" for shard, seq in through.items())
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        positions = connection.execute("SELECT shard, position FROM relay_position WHERE sink = 'history'")
        found: dict[int, int] = dict(positions.fetchall())
        blocks = connection.execute(
            f"SELECT shard, seq / {BLOCK_SEQS}, count(*), sum({checksum})::text FROM {table} "
            f"WHERE {above or 'true'} GROUP BY 1, 2"
        ).fetchall()
        below: list[tuple[int, int, int]] = []
        if above:
            below = connection.execute(
                f"SELECT shard, seq, {checksum} FROM {table} WHERE NOT ({above})"
            ).fetchall()
        return Partition(
            found,
            {(shard, block): Block(count, int(sums)) for shard, block, count, sums in blocks},
            {(shard, seq): value for shard, seq, value in below},
            rows_by_shard(connection, month),
        )


def rows_by_shard(connection: psycopg.Connection, month: date) -> dict[int, int]:
    """How many rows of each shard the partition has now."""
    rows = connection.execute(f"SELECT shard, count(*) FROM {names.history_partition(month)} GROUP BY shard")
    return dict(rows.fetchall())


def _of_answer(shard: int, seq: int, answer: Row) -> int:
    return row_checksum(shard, seq, encode(AnswerEvent(*answer)))


def _of_barrier(shard: int, seq: int, barrier: Row) -> int:
    event_id, zone, day, start_us, end_us = barrier
    return row_checksum(
        shard, seq, encode_barrier(BarrierEvent(event_id, zone, day.isoformat(), start_us, end_us))
    )


def pinned(spark: SparkSession, name: str, snapshot: int | None) -> DataFrame:
    """A table at a snapshot; None: it has none, and is empty."""
    reader = spark.read if snapshot is None else spark.read.option("versionAsOf", snapshot)
    return reader.table(names.table(name))


def answers_of(spark: SparkSession, month: date, snapshots: Mapping[str, int | None]) -> DataFrame:
    """The answers of a UTC month at the pinned snapshot."""
    bounds = span("monthly", month, "UTC")
    low, high = (F.timestamp_micros(F.lit(at)) for at in (bounds.start_us, bounds.end_us))
    return pinned(spark, "answers", snapshots.get("answers")).where(
        (F.col("occurred_at") >= low) & (F.col("occurred_at") < high)
    )


def lake_checksums(spark: SparkSession, month: date, snapshots: Mapping[str, int | None]) -> DataFrame:
    """(shard, seq, checksum) of the month's answers and barriers (these belong to the month in which their day's end lies)."""
    bounds = span("monthly", month, "UTC")
    # Told how rows are handed over, Spark doesn't look at the functions' type hints, of which it warns.
    of_answer, of_barrier = (F.udf(of, LongType(), useArrow=False) for of in (_of_answer, _of_barrier))
    answers = answers_of(spark, month, snapshots).select(
        "shard",
        "seq",
        of_answer("shard", "seq", F.struct(*[f.name for f in ANSWER_FIELDS])).alias("checksum"),
    )
    barriers = (
        pinned(spark, "barriers", snapshots.get("barriers"))
        .where((F.col("end_us") >= bounds.start_us) & (F.col("end_us") < bounds.end_us))
        .select(
            "shard",
            "seq",
            of_barrier("shard", "seq", F.struct("event_id", "zone", "day", "start_us", "end_us")).alias(
                "checksum"
            ),
        )
    )
    return answers.unionByName(barriers)


def _within(limits: Mapping[int, int]) -> F.Column:
    """Whether a row's seq is at most its shard's limit."""
    found = F.lit(False)
    for shard, seq in limits.items():
        found = found | ((F.col("shard") == shard) & (F.col("seq") <= seq))
    return found


def prove(partition: Partition, lake: DataFrame, recorded: tuple[Block, Mapping[int, int]] | None) -> Block:
    """The month's rows as one block, if the lake holds them all. Raises BrokenContract(check_failed) naming what differs.

    lake: `lake_checksums`. recorded: the block and the positions of the month's earlier proof. What came since must be
    equal; what was proven then must still be what it was; what a command has put back must be part of it.
    """
    through = recorded[1] if recorded else {}
    rows = lake.where(_within(partition.positions)).persist()
    try:
        new = _blocks(rows.where(~_within(through)))
        wrong = differences(partition.blocks, new)
        if recorded:
            wrong += _changed_since(rows.where(_within(through)), partition.below, recorded[0])
    finally:
        rows.unpersist()
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise BrokenContract(
            "check_failed",
            "the lake does not hold the month: " + "; ".join(wrong[:_NAMED]) + more,
            next_step="./lakeboard settle over the month ingests; if it stays, see docs/runbooks/archive.md",
        )
    before, proven = recorded[0] if recorded else Block(0, 0), total(new)
    return Block(before.entries + proven.entries, before.checksum + proven.checksum)


def _blocks(rows: DataFrame) -> dict[Place, Block]:
    block = F.floor(F.col("seq") / BLOCK_SEQS).cast("long").alias("block")
    # 60 bits a row: a BIGINT would overflow after 8 rows.
    sums = F.sum(F.col("checksum").cast("decimal(20,0)"))
    found = rows.groupBy("shard", block).agg(F.count("*"), sums).collect()
    return {(row[0], row[1]): Block(row[2], int(row[3])) for row in found}


def _changed_since(old: DataFrame, again: Mapping[Place, int], was: Block) -> list[str]:
    """What is wrong with rows proven before: in the lake, and among those that history has again."""
    wrong = []
    now = total(_blocks(old))
    if now != was:
        wrong.append(
            f"archived rows changed: {was.entries} were proven, the lake has {now.entries} of that time"
        )
    if again:
        rows = [(shard, seq, value) for (shard, seq), value in again.items()]
        back = old.sparkSession.createDataFrame(rows, "shard INT, seq BIGINT, checksum BIGINT")
        strange = back.join(old, ["shard", "seq", "checksum"], "left_anti").take(_NAMED)
        if strange:
            places = [(row["shard"], row["seq"]) for row in strange]
            wrong.append(f"rows put back are not those of the lake: (shard, seq) {places}")
    return wrong
