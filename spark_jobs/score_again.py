"""Score again: a rule change, a removal or the retraction of one, as a correction and an adjustment (CONTRACTS D4, C9).

    python -m spark_jobs.score_again --rule NAME@V --from DATE --to DATE [--quiz ID] [--dry-run] [--csv FILE] …
    python -m spark_jobs.score_again --remove-user ID --from DATE --to DATE …      python -m spark_jobs.score_again --retract N …

Steps, under the settle lock: 1 ingest; 2 the decision is written into Postgres' `corrections`, from where the relay
sends it; 3 wait until the lake has it; 4 one settlement with all settled periods whose answers it covers, checked on
audit branches; its row and "in force" are one transaction. A crash after 2 leaves a decision that changes nothing
yet: the same command, or any later one, publishes it. A dry run ends on the branches and writes nothing else.
Prints one JSON document.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from pyspark.sql import SparkSession

from contracts.corrections import (
    REMOVAL,
    RETRACTION,
    RULE_CHANGE,
    Correction,
    checked,
    decode,
    encode,
    holding,
)
from contracts.errors import BadInput, LakeboardError
from contracts.periods import EPOCH_DAY, LAST_DAY, iso_ms, midnight_us, next_start, parse_day
from spark_jobs import publish
from spark_jobs.barriers import read_sequences
from spark_jobs.ingest_answers import ingest
from spark_jobs.ingest_corrections import WAIT_S, in_force, wait_for_corrections
from spark_jobs.lake_job import checkpoint_of, lake_arguments, parse, run_on_lake
from spark_jobs.locks import SETTLE, advisory_lock
from spark_jobs.publication import Publication
from spark_jobs.seconds import Seconds
from spark_jobs.session import create_tables

log = logging.getLogger("score_again")


@dataclass(frozen=True, slots=True)
class Job:
    """What one run needs."""

    postgres_url: str
    bootstrap: str
    checkpoint: str
    now_us: Callable[[], int]
    wait_s: float = WAIT_S
    dry_run: bool = False
    csv_path: Path | None = None


def decisions(connection: psycopg.Connection) -> list[Correction]:
    """Every correction that was decided, in order."""
    rows = connection.execute("SELECT event FROM corrections ORDER BY id").fetchall()
    return [decode(bytes(row[0])) for row in rows]


def decide(connection: psycopg.Connection, wanted: Correction) -> Correction:
    """Write a correction under the next id, in one statement, and return it; one that waits already is not doubled.

    wanted: its id and instant are set here. Raises BadInput: bad_event, unknown_correction for a retraction of nothing.
    """
    waiting = connection.execute(
        "SELECT event FROM corrections WHERE in_force_at IS NULL ORDER BY id"
    ).fetchall()
    for (event,) in waiting:
        there = decode(bytes(event))
        if replace(there, correction_id=0, decided_at_us=0) == replace(
            wanted, correction_id=0, decided_at_us=0
        ):
            return there
    there_are = decisions(connection)
    _check_retracted(wanted, there_are)
    numbered = checked(replace(wanted, correction_id=len(there_are) + 1))
    connection.execute(
        "INSERT INTO corrections (id, event) VALUES (%s, %s)", (numbered.correction_id, encode(numbered))
    )
    log.info("decided correction=%d kind=%s", numbered.correction_id, numbered.kind)
    return numbered


def _check_retracted(wanted: Correction, there: Sequence[Correction]) -> None:
    if wanted.kind == RETRACTION and wanted.retracts not in {one.correction_id for one in holding(there)}:
        raise BadInput(
            "unknown_correction",
            f"correction {wanted.retracts} does not hold: there is none to retract",
            next_step="./lakeboard sql 'select * from corrections'",
        )


def score_again(spark: SparkSession, job: Job, wanted: Correction | None) -> dict[str, Any]:
    """Decide and publish, or look what it would change; the document that is printed.

    wanted: None publishes what is decided and waits. Raises BadInput, SystemMissing, BrokenContract(check_failed).
    """
    seconds = Seconds()
    with seconds.of("all"), advisory_lock(job.postgres_url, SETTLE) as connection:
        create_tables(spark)
        with seconds.of("ingest"):
            ingest(spark, postgres_url=job.postgres_url, bootstrap=job.bootstrap, checkpoint=job.checkpoint)
        corrections, new = _corrections(spark, connection, job, wanted)
        settled = publish.settled_versions(connection, EPOCH_DAY, LAST_DAY)
        days = [start for _, start, _ in settled] or [EPOCH_DAY]
        run = Publication(
            spark,
            connection,
            read_sequences(spark),
            (min(days), max(days)),
            corrections,
            max((one.correction_id for one in corrections), default=0),
            seconds,
            job.csv_path,
        )
        try:
            covered = [_covered_by(one, corrections) for one in new]
            with seconds.of("covered_days"):
                changed = run.covered_days(covered) if covered else set()
            ids = [one.correction_id for one in new]
            changes = run.adjustments(
                _reason(new), settled, changed, set(), in_force=ids, dry_run=job.dry_run
            )
            if changes is None and not job.dry_run:
                with (
                    connection.transaction()
                ):  # no settled board has such answers; what is read from answers does
                    publish.put_in_force(connection, ids)
                    publish.boards_are_stale(connection, "corrections")
        finally:
            run.close()
    return {
        "dry_run": job.dry_run,
        "corrections": ids if not job.dry_run else [],
        "days": len(changed),
        "settlements": sorted({s for _, _, s in run.published}, key=int),
        "periods": len(run.published) if not job.dry_run else None,
        "changes": changes.to_dict() if changes else None,
        "csv": str(job.csv_path) if job.csv_path and changes else None,
        "seconds": seconds.rounded(),
    }


def _corrections(
    spark: SparkSession, connection: psycopg.Connection, job: Job, wanted: Correction | None
) -> tuple[list[Correction], list[Correction]]:
    """(all that count in this run, those of them that are new)."""
    arrived = partial(
        wait_for_corrections,
        spark,
        connection,
        postgres_url=job.postgres_url,
        bootstrap=job.bootstrap,
        wait_s=job.wait_s,
    )
    if job.dry_run:
        there = in_force(connection, arrived())
        if wanted is None:
            return there, []
        number = max((one.correction_id for one in decisions(connection)), default=0) + 1
        _check_retracted(wanted, there)
        looked_at = checked(replace(wanted, correction_id=number))
        return [*there, looked_at], [looked_at]
    if wanted is not None:
        decide(connection, wanted)
    everything = arrived()
    holds = {one.correction_id for one in in_force(connection, everything)}
    return everything, [one for one in everything if one.correction_id not in holds]


def _covered_by(correction: Correction, corrections: Sequence[Correction]) -> Correction:
    """The correction whose span it changes: a retraction's is that of what it takes back."""
    if correction.kind != RETRACTION:
        return correction
    return next(one for one in corrections if one.correction_id == correction.retracts)


def _reason(new: Sequence[Correction]) -> str:
    return "; ".join(f"{one.kind} {one.correction_id}: {one.reason}" for one in new) or "corrections"


def wanted_correction(args: argparse.Namespace, now_us: int) -> Correction | None:
    """The correction that the arguments ask for. Raises BadInput: wrong_start, invalid_field."""
    if args.resume:
        return None
    asked = [name for name in ("rule", "remove_user", "retract") if getattr(args, name) is not None]
    if len(asked) != 1:
        raise BadInput("invalid_field", "say one of --rule, --remove-user, --retract, --resume")
    reason = (
        args.reason or {"rule": "rule changed", "remove_user": "removed", "retract": "retracted"}[asked[0]]
    )
    if args.retract is not None:
        return Correction(0, RETRACTION, now_us, reason, retracts=args.retract)
    if args.first is None or args.last is None or args.last < args.first:
        raise BadInput("wrong_start", "give --from and --to: the first and the last UTC day, inclusive")
    bounds = midnight_us(args.first, "UTC"), midnight_us(next_start("daily", args.last), "UTC")
    if bounds[1] > now_us:
        raise BadInput(
            "wrong_start",
            f"--to {args.last} has not ended ({iso_ms(bounds[1])}): corrections are of the past",
            next_step="a session's rule is chosen when it is created",
        )
    if args.rule is not None:
        return Correction(0, RULE_CHANGE, now_us, reason, args.quiz, None, *bounds, args.rule)
    return Correction(0, REMOVAL, now_us, reason, args.quiz, args.remove_user, *bounds)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="score_again", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--rule", help="score the covered answers by this rule, NAME@V")
    parser.add_argument("--remove-user", help="take this user's answers off the boards")
    parser.add_argument("--retract", type=int, metavar="N", help="take back correction N")
    parser.add_argument("--resume", action="store_true", help="publish what was decided and waits")
    parser.add_argument("--from", dest="first", type=parse_day, help="first UTC day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", type=parse_day, help="last UTC day, inclusive")
    parser.add_argument("--quiz", help="only answers of this quiz")
    parser.add_argument("--reason", default="", help="why, for those who read the settlement")
    parser.add_argument("--dry-run", action="store_true", help="say who moves, publish nothing")
    parser.add_argument("--csv", type=Path, help="write every row that moves into this file")
    lake_arguments(parser, "kafka-bootstrap")
    return parse(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0: published, or looked at; 1: a check failed, nothing was published; 2: wrong use; 3: a system is missing."""
    args = _arguments(argv)

    def now_us() -> int:
        return time.time_ns() // 1000

    try:
        wanted = wanted_correction(args, now_us())
        if wanted is not None and wanted.retracts is None:
            checked(replace(wanted, correction_id=1))  # before a minute of Spark
    except LakeboardError as error:
        print(error.told, file=sys.stderr)
        return error.exit_code

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        job = Job(
            postgres_url,
            args.kafka_bootstrap,
            checkpoint_of(args.warehouse),
            now_us,
            dry_run=args.dry_run,
            csv_path=args.csv,
        )
        return 0, score_again(spark, job, wanted)

    return run_on_lake("score_again", args, work)


if __name__ == "__main__":
    sys.exit(main())
