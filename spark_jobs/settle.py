"""Settle a span: the one Spark application behind `./lakeboard settle` and the leaderboards DAGs (CONTRACTS D2–D4).

    python -m spark_jobs.settle --from DATE --to DATE [--period daily|weekly|monthly] --postgres-url … (all arguments)

Steps: 1 take the settle lock; 2 ask the api for the barriers of ended days; 3 ingest until the days are complete;
4 wave 1: version 1 of complete periods that have none, from answers up to the barriers; 5 wave 2: version + 1 of
periods that late answers touch. A crash in any step is repaired by running it again; a second run publishes nothing.
Prints one JSON document: settled, skipped (period, start, zone, why), settlements, seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
from pyspark.sql import SparkSession

from contracts import names
from contracts.periods import ENDING_PERIODS, parse_day, periods_touched, span, widen
from contracts.settlements import GRACE_US, LATE_REASON, barrier_due, day_complete
from spark_jobs import publish
from spark_jobs.barriers import AskBarriers, Sequences, http_barriers, read_sequences
from spark_jobs.day_frames import Period, days_of
from spark_jobs.ingest_answers import ingest
from spark_jobs.ingest_corrections import in_force, wait_for_corrections
from spark_jobs.lake_job import UNCHANGED_EXIT_HELP, checkpoint_of, lake_arguments, parse, run_on_lake
from spark_jobs.locks import SETTLE, advisory_lock
from spark_jobs.publication import Publication
from spark_jobs.roll_up_users import GLOBAL_ZONE
from spark_jobs.seconds import Seconds
from spark_jobs.session import create_tables

log = logging.getLogger("settle")
# The relay delivers within seconds; longer means that it stands still, and a person must look.
WAIT_S = 120.0
# Between two looks at Kafka: each costs a start of the streaming query (about 1 s).
PAUSE_S = 1.0
# A day's month and week begin at most this long before it: late answers in them adjust those too.
_AROUND = timedelta(days=62)


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


def settle(
    spark: SparkSession, job: Job, first: date, last: date, kinds: Sequence[str] = ENDING_PERIODS
) -> dict[str, Any]:
    """Publish every complete period of the kinds that first … last touch, and the days that these hold.

    Returns the document that is printed.
    """
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
        # A week or month brings its days: ranges that cut it then have them, and all of one day is of one state.
        held = {("daily", day, zone) for zone, day in days_of(ready)} - set(ready)
        ready += sorted(held)
        skipped += [
            _line(p, why="incomplete", missing=_missing(sequences, days_of([p]) - whole, job.shards))
            for p in ended
            if p not in set(ready)
        ]
        published, changes = _publish(spark, job, connection, sequences, (first, last), ready, seconds)
    return {
        "records": records,
        "settled": [_line(p[:3], version=v, settlement=s) for p, v, s in published],
        "skipped": skipped,
        "settlements": sorted({s for _, _, s in published}, key=int),
        "changes": changes,
        "seconds": seconds.rounded(),
    }


def _publish(
    spark: SparkSession,
    job: Job,
    connection: psycopg.Connection,
    sequences: Sequences,
    days: tuple[date, date],
    ready: list[Period],
    seconds: Seconds,
) -> tuple[list[tuple[Period, int, str]], list[dict[str, Any]]]:
    """Both waves: version 1 of what is ready, then what late answers touch in all that is settled around the span."""
    low, high = widen(*days)
    settled = publish.settled_versions(connection, low - _AROUND, high + _AROUND)
    first = {p for p in ready if p not in settled}
    searched = {(zone, day) for zone, day in days_of([*settled, *first]) if low <= day <= high}
    if not searched:
        return [], []
    corrections = in_force(
        connection,
        wait_for_corrections(spark, connection, postgres_url=job.postgres_url, bootstrap=job.bootstrap),
    )
    last_correction = max((one.correction_id for one in corrections), default=0)
    run = Publication(spark, connection, sequences, days, corrections, last_correction, seconds)
    try:
        run.first_versions(ready, set(settled))
        settled |= {p: (v, dict(sequences.gapless)) for p, v, _ in run.published}
        run.adjustments(LATE_REASON, settled, set(), searched)
        return run.published, run.changes
    finally:
        run.close()


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


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="settle", description="Settle every day, week and month that a span touches"
    )
    parser.add_argument(
        "--from", dest="first", required=True, type=parse_day, help="first UTC day, YYYY-MM-DD"
    )
    parser.add_argument("--to", dest="last", required=True, type=parse_day, help="last UTC day, inclusive")
    parser.add_argument(
        "--period", choices=ENDING_PERIODS, help="only periods of this kind, and the days they hold"
    )
    parser.add_argument(
        "--importer-key-file", required=True, type=Path, help="file that holds the importer key"
    )
    parser.add_argument("--shards", required=True, type=int, help="number of Redis shards")
    parser.add_argument("--wait-s", type=float, default=WAIT_S)
    parser.add_argument("--unchanged-exit", type=int, default=0, metavar="CODE", help=UNCHANGED_EXIT_HELP)
    lake_arguments(parser, "kafka-bootstrap", "api-url")
    args = parse(parser, argv)
    if args.last < args.first:
        parser.error(f"wrong_start: --to {args.last} is before --from {args.first}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 if every ended period is settled, 1 if one is incomplete or a check failed, 3 if a system is missing.

    With --unchanged-exit, that code instead of 0 if nothing was published.
    """
    args = _arguments(argv)

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        job = Job(
            postgres_url=postgres_url,
            bootstrap=args.kafka_bootstrap,
            shards=args.shards,
            wait_s=args.wait_s,
            checkpoint=checkpoint_of(args.warehouse),
            ask_barriers=http_barriers(args.api_url, args.importer_key_file.read_text().strip()),
            now_us=lambda: time.time_ns() // 1000,
        )
        kinds = (args.period,) if args.period else ENDING_PERIODS
        result = settle(spark, job, args.first, args.last, kinds)
        if any(item["why"] == "incomplete" for item in result["skipped"]):
            return 1, result
        return (0 if result["settled"] else args.unchanged_exit), result

    return run_on_lake("settle", args, work)


if __name__ == "__main__":
    sys.exit(main())
