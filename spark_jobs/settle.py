"""Settle a span: the one Spark application behind `./lakeboard settle` and the leaderboards DAGs (CONTRACTS D2–D4).

    python -m spark_jobs.settle --from DATE --to DATE [--period daily|weekly|monthly] --postgres-url … (all arguments)

Steps: 1 take the settle lock; 2 ask the api for the barriers of ended days; 3 ingest until the days are complete;
4 wave 1: version 1 of complete periods that have none, from answers up to the barriers; 5 wave 2: version + 1 of
periods that late answers touch. A crash in any step is repaired by running it again; a second run publishes nothing.
Prints one JSON document: settled, skipped (period, start, zone, why), settlements, seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.errors import LakeboardError
from contracts.periods import (
    ENDING_PERIODS,
    midnight_us,
    next_start,
    parse_day,
    periods_touched,
    span,
    widen,
)
from contracts.settings import with_password
from contracts.settlements import (
    FIRST_REASON,
    GRACE_US,
    LATE_REASON,
    PeriodVersion,
    Settlement,
    barrier_due,
    day_complete,
)
from spark_jobs import publish
from spark_jobs.barriers import AskBarriers, Sequences, http_barriers, read_sequences
from spark_jobs.checks import check_answers, check_rankings, enforce
from spark_jobs.day_frames import Period, day_frame, days_of, local_rows, period_frame
from spark_jobs.ingest_answers import ingest
from spark_jobs.locks import SETTLE, advisory_lock
from spark_jobs.rank_period import rankings, totals
from spark_jobs.roll_up_users import GLOBAL_ZONE, scoped_answers, user_days
from spark_jobs.session import create_tables, snapshot_id, spark_session

log = logging.getLogger("settle")
# The relay delivers within seconds; longer means that it stands still, and a person must look.
WAIT_S = 120.0
# Between two looks at Kafka: each costs a start of the streaming query (about 1 s).
PAUSE_S = 1.0
# What checks, numbers and boards need of an answer.
READ_COLUMNS = (
    "event_id", "kafka_partition", "kafka_offset", "shard", "seq", "user_no", "user_id", "quiz_id", "quiz_zone",
    "points", "correct", "occurred_at_us", "rule",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """What one run needs; the api is a function so that tests can stand in for it."""

    postgres_url: str
    bootstrap: str
    checkpoint: str
    shards: int
    ask_barriers: AskBarriers
    now_us: Callable[[], int]
    wait_s: float = WAIT_S


class Seconds:
    """Wall seconds spent by phase; a phase entered again adds up."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - begun
            self.spent[phase] = self.spent.get(phase, 0.0) + took
            log.info("phase_done name=%s seconds=%.1f", phase, took)


def settle(
    spark: SparkSession, job: Job, first: date, last: date, kinds: Sequence[str] = ENDING_PERIODS
) -> dict[str, Any]:
    """Publish every complete day, week and month that first … last touch; returns the document that is printed."""
    seconds = Seconds()
    with seconds.of("all"), advisory_lock(job.postgres_url, SETTLE) as connection:
        with seconds.of("create_tables"):
            create_tables(spark)
        with seconds.of("ingest"):
            records = ingest(
                spark, postgres_url=job.postgres_url, bootstrap=job.bootstrap, checkpoint=job.checkpoint
            )
        zones = _zones(spark)
        touched = [
            (p, start, zone) for p, start in periods_touched(first, last) if p in kinds for zone in zones
        ]
        ended = [p for p in touched if job.now_us() >= span(*p).end_us + GRACE_US]
        skipped = [_line(p, why="not ended") for p in touched if p not in set(ended)]
        with seconds.of("barriers"):
            sequences = _complete(spark, job, ended)
        whole = {
            d
            for d in days_of(ended)
            if day_complete(sequences.barrier_seq.get(d, {}), sequences.gapless, job.shards)
        }
        ready = [p for p in ended if days_of([p]) <= whole]
        skipped += [
            _line(p, why="incomplete", missing=_missing(sequences, days_of([p]) - whole, job.shards))
            for p in ended
            if p not in set(ready)
        ]
        waves = _Waves(spark, connection, sequences, first, last, seconds)
        published = waves.run(ready)
    return {
        "records": records,
        "settled": [_line(p[:3], version=v, settlement=s) for p, v, s in published],
        "skipped": skipped,
        "settlements": sorted({s for _, _, s in published}, key=int),
        "seconds": {name: round(value, 1) for name, value in seconds.spent.items()},
    }


def _line(period: Period, **more: Any) -> dict[str, Any]:
    return {"period": period[0], "start": period[1].isoformat(), "zone": period[2], **more}


def _missing(sequences: Sequences, incomplete: set[tuple[str, date]], shards: int) -> list[dict[str, Any]]:
    """What keeps days from being complete: a shard whose barrier has not come, or the first seq that it lacks."""
    found = []
    for shard in range(shards):
        barriers = [sequences.barrier_seq.get(day, {}).get(shard) for day in incomplete]
        gapless = sequences.gapless.get(shard, 0)
        if None in barriers:
            found.append({"shard": shard, "barriers": barriers.count(None)})
        if any(seq is not None and seq > gapless for seq in barriers):
            found.append({"shard": shard, "seq": gapless + 1})
    return found


def _zones(spark: SparkSession) -> list[str]:
    rows = spark.table(names.table("answers")).select("quiz_zone").distinct().collect()
    return sorted({GLOBAL_ZONE} | {row[0] for row in rows})


def _complete(spark: SparkSession, job: Job, ended: list[Period]) -> Sequences:
    """Send missing barriers of the ended days, then ingest until all these days are complete or the wait is over."""
    wanted = days_of(ended)
    sequences = read_sequences(spark)

    def missing() -> set[tuple[str, date]]:
        return {
            d
            for d in wanted
            if not day_complete(sequences.barrier_seq.get(d, {}), sequences.gapless, job.shards)
        }

    for zone in sorted({zone for zone, _ in missing()}):
        job.ask_barriers(
            zone, sorted(day for z, day in missing() if z == zone and barrier_due(day, z, job.now_us()))
        )
    deadline = time.monotonic() + job.wait_s
    while missing():
        ingest(spark, postgres_url=job.postgres_url, bootstrap=job.bootstrap, checkpoint=job.checkpoint)
        sequences = read_sequences(spark)
        if missing() and time.monotonic() > deadline:
            log.error(
                "days_incomplete count=%d missing=%s",
                len(missing()),
                _missing(sequences, missing(), job.shards),
            )
            break
        if missing():
            time.sleep(PAUSE_S)
    return sequences


class _Waves:
    """The two publications of one run, from one pinned snapshot of `answers`."""

    def __init__(
        self,
        spark: SparkSession,
        connection: psycopg.Connection,
        sequences: Sequences,
        first: date,
        last: date,
        seconds: Seconds,
    ) -> None:
        self.spark, self.connection, self.sequences, self.seconds = spark, connection, sequences, seconds
        self.first, self.last = first, last
        self.versions = publish.settled_versions(connection, *widen(first, last))
        self.published: list[tuple[Period, int, str]] = []

    def run(self, ready: list[Period]) -> list[tuple[Period, int, str]]:
        """Publish both waves. The columns they read are kept beside Spark: a scan opens a file a day, five times."""
        if not ready:
            return []
        answers = self._pinned_answers().persist()
        try:
            return self._run(ready, answers)
        finally:
            answers.unpersist()

    def _run(self, ready: list[Period], answers: DataFrame) -> list[tuple[Period, int, str]]:
        with self.seconds.of("late_days"):
            late = self._late_days(ready, answers)
        unsettled = [p for p in ready if p not in self.versions]
        if unsettled:
            self._publish(
                dict.fromkeys(unsettled, 1), FIRST_REASON, answers, F.col("seq") <= F.col("barrier_seq")
            )
        again = {p: self._version(p) + 1 for p in ready if self._uncovered(p, late)}
        if again:
            self._publish(again, LATE_REASON, answers, self._whole())
        return self.published

    def _version(self, period: Period) -> int:
        return self.versions[period][0]

    def _whole(self) -> Any:
        """Rows within the unbroken sequence: above a gap nothing is counted yet."""
        limits = [(F.col("shard") == s) & (F.col("seq") <= n) for s, n in self.sequences.gapless.items()]
        found = F.lit(False)
        for limit in limits:
            found = found | limit
        return found

    def _pinned_answers(self) -> DataFrame:
        """What a settlement reads of `answers`, at one snapshot for all of it."""
        pinned, table = snapshot_id(self.spark, "answers"), names.table("answers")
        reader = self.spark.read if pinned is None else self.spark.read.option("versionAsOf", pinned)
        return reader.table(table).select(*READ_COLUMNS)

    def _scoped(self, periods: list[Period], answers: DataFrame) -> DataFrame:
        days = day_frame(self.spark, days_of(periods), self.sequences.barrier_seq)
        return scoped_answers(self._inside(periods, answers), days)

    def _inside(self, periods: list[Period], answers: DataFrame) -> DataFrame:
        """The answers between the first and the last instant of the periods."""
        wanted = days_of(periods)
        low = min(midnight_us(day, zone) for zone, day in wanted)
        high = max(midnight_us(next_start("daily", day), zone) for zone, day in wanted)
        return answers.where((F.col("occurred_at_us") >= low) & (F.col("occurred_at_us") < high))

    def _late_days(self, ready: list[Period], answers: DataFrame) -> dict[tuple[str, date], dict[int, int]]:
        """Greatest seq of a late answer by (zone, day) and shard."""
        least: dict[int, int] = {}
        for day in days_of(ready):
            for shard, seq in self.sequences.barrier_seq[day].items():
                least[shard] = min(seq, least.get(shard, seq))
        # Nothing at or below a shard's first barrier can be late: of an imported past no row goes into the join.
        above = F.lit(False)
        for shard, seq in least.items():
            above = above | ((F.col("shard") == shard) & (F.col("seq") > seq))
        rows = (
            self._scoped(ready, answers.where(above))
            .where((F.col("seq") > F.col("barrier_seq")) & self._whole())
            .groupBy("zone", "day", "shard")
            .agg(F.max("seq"))
            .collect()
        )
        found: dict[tuple[str, date], dict[int, int]] = {}
        for zone, day, shard, seq in rows:
            found.setdefault((zone, day), {})[shard] = seq
        return found

    def _uncovered(self, period: Period, late: dict[tuple[str, date], dict[int, int]]) -> bool:
        """True if a late answer of the period is in no version of it: version 1 ends at the barriers."""
        version, last_seq = self.versions[period]
        return any(
            version == 1 or seq > last_seq.get(shard, 0)
            for day in days_of([period]) & late.keys()
            for shard, seq in late[day].items()
        )

    def _publish(self, versions: dict[Period, int], reason: str, answers: DataFrame, counted: Any) -> None:
        """One settlement. Steps: 1 user numbers; 2 audit branches; 3 write; 4 check; 5 fast-forward and tag; 6 the row."""
        spark, periods, seconds = self.spark, sorted(versions), self.seconds
        with seconds.of("check_answers"):
            if reason == FIRST_REASON or not self.published:
                enforce(check_answers(answers))
        with seconds.of("user_numbers"):
            self._add_user_numbers(answers)
        settlement_id = publish.next_id(self.connection)
        with seconds.of("branches"):
            publish.open_branches(spark, settlement_id)
        per_day = user_days(self._scoped(periods, answers).where(counted)).persist()
        board_totals = totals(
            per_day, period_frame(spark, periods), spark.table(names.table("user_numbers"))
        ).persist()
        targets = local_rows(
            spark, [(z, s, p) for p, s, z in periods], "zone STRING, start DATE, period STRING"
        )
        with seconds.of("totals"):
            board_totals.count()
        with seconds.of("write_rankings"):
            publish.replace_partitions(
                rankings(board_totals), "rankings", settlement_id, ["period", "start", "zone"], targets
            )
        daily = targets.where("period = 'daily'").select("zone", F.col("start").alias("day"))
        with seconds.of("write_user_days"):
            if any(p[0] == "daily" for p in periods):
                of_days = per_day.join(F.broadcast(daily), ["zone", "day"], "left_semi")
                publish.replace_partitions(of_days, "user_days", settlement_id, ["day", "zone"], daily)
        key = ["period", "start", "zone"]
        written = publish.read_branch(spark, "rankings", settlement_id).join(
            F.broadcast(targets), key, "left_semi"
        )
        with seconds.of("check_rankings"):
            enforce(check_rankings(written, board_totals))
        with seconds.of("fast_forward"):
            publish.fast_forward(spark, settlement_id)
        rules = ",".join(
            sorted(row[0] for row in self._inside(periods, answers).select("rule").distinct().collect())
        )
        publish.insert_settlement(
            self.connection,
            Settlement(
                settlement_id,
                self.first,
                self.last,
                rules,
                reason,
                tuple(PeriodVersion(*p, versions[p]) for p in periods),
                publish.snapshots(spark, ("answers", "barriers", "user_numbers", *publish.PUBLISHED)),
                self.sequences.gapless,
            ),
        )
        for period in periods:
            self.versions[period] = (versions[period], dict(self.sequences.gapless))
            self.published.append((period, versions[period], settlement_id))
        per_day.unpersist()
        board_totals.unpersist()
        log.info("settled id=%s reason=%s periods=%d", settlement_id, reason, len(periods))

    def _add_user_numbers(self, answers: DataFrame) -> None:
        table = names.table("user_numbers")
        numbers = answers.select("user_no", "user_id").distinct()
        new = numbers.join(self.spark.table(table), ["user_no"], "left_anti").persist()
        if new.count():
            new.writeTo(table).append()
        new.unpersist()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="settle", description="Settle every day, week and month that a span touches"
    )
    parser.add_argument(
        "--from", dest="first", required=True, type=parse_day, help="first UTC day, YYYY-MM-DD"
    )
    parser.add_argument("--to", dest="last", required=True, type=parse_day, help="last UTC day, inclusive")
    parser.add_argument("--period", choices=ENDING_PERIODS, help="only periods of this kind")
    for name in ("postgres-url", "kafka-bootstrap", "warehouse", "api-url"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--postgres-password-file", type=Path, help="where the URL has no password")
    parser.add_argument(
        "--importer-key-file", required=True, type=Path, help="file that holds the importer key"
    )
    parser.add_argument("--jars", required=True, type=Path, help="folder of Spark's extra jars")
    parser.add_argument("--local-dir", required=True, type=Path, help="folder for Spark's spilled blocks")
    parser.add_argument("--shards", required=True, type=int, help="number of Redis shards")
    parser.add_argument("--wait-s", type=float, default=WAIT_S)
    parser.add_argument(
        "--json", action="store_true", help="accepted for uniformity: the output is always JSON"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 if every ended period is settled, 1 if one is incomplete or a check failed, 3 if a system is missing."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    args = _arguments(argv)
    if args.last < args.first:
        log.error("wrong_span from=%s to=%s", args.first, args.last)
        return 2
    postgres_url = args.postgres_url
    if args.postgres_password_file:
        postgres_url = with_password(postgres_url, args.postgres_password_file.read_text().strip())
    spark = spark_session(
        "settle",
        postgres_url=postgres_url,
        warehouse=args.warehouse,
        jars=args.jars,
        local_dir=args.local_dir,
    )
    job = Job(
        postgres_url=postgres_url,
        bootstrap=args.kafka_bootstrap,
        shards=args.shards,
        wait_s=args.wait_s,
        checkpoint=f"{args.warehouse.rstrip('/')}/_checkpoints/ingest_answers",
        ask_barriers=http_barriers(args.api_url, args.importer_key_file.read_text().strip()),
        now_us=lambda: time.time_ns() // 1000,
    )
    try:
        kinds = (args.period,) if args.period else ENDING_PERIODS
        result = settle(spark, job, args.first, args.last, kinds)
    except LakeboardError as error:
        log.error("settle_failed code=%s detail=%s next_step=%s", error.code, error.detail, error.next_step)
        return error.exit_code
    finally:
        spark.stop()
    print(json.dumps(result))
    return 1 if any(item["why"] == "incomplete" for item in result["skipped"]) else 0


if __name__ == "__main__":
    sys.exit(main())
