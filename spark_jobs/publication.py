"""What a run publishes: user-days, user-months, rankings and their changes, each settlement whole or not at all.

One pinned snapshot of `answers` is read once for all of it. Version 1 of a period holds the answers up to its days'
barriers; an adjustment (version + 1, with a reason and a diff) holds all of the unbroken sequence, as the corrections
count it. An adjustment covers every settled period that holds a changed day, so that days, weeks and months agree.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any

import psycopg
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.correction_sql import counted_points_sql, counted_rule_sql, covers_sql
from contracts.corrections import Correction
from contracts.periods import midnight_us, next_start, period_start
from contracts.settlements import FIRST_REASON, PeriodVersion, Settlement, periods_holding
from spark_jobs import publish
from spark_jobs.barriers import Sequences
from spark_jobs.checks import Check, check_answers, enforce
from spark_jobs.day_frames import Period, day_frame, days_of, period_frame
from spark_jobs.ranking_changes import Changes, changes_of, summary, write_csv
from spark_jobs.roll_up_users import GLOBAL_ZONE, scoped_answers, user_days, user_months
from spark_jobs.seconds import Seconds
from spark_jobs.session import size_shuffles, snapshot_id
from spark_jobs.settled_rankings import SettledRankings
from spark_jobs.total_checks import check_days, check_months

log = logging.getLogger("settle")
# What checks, numbers, corrections and boards need of an answer.
READ_COLUMNS = (
    "event_id", "kafka_partition", "kafka_offset", "shard", "seq", "user_no", "user_id", "quiz_id", "quiz_zone",
    "points", "correct", "elapsed_ms", "time_limit_ms", "occurred_at_us", "rule",
)  # fmt: skip
# Quarters of an hour: every zone's midnight is a bound of one.
QUARTER_US = 900_000_000


def either(conditions: Sequence[Column]) -> Column:
    """True where one of the conditions is; false if there are none."""
    return reduce(lambda a, b: a | b, conditions, F.lit(False))


@dataclass
class Publication:
    """The publications of one run, whose caller holds the settle lock on `connection`.

    corrections: those that count. last_correction: the greatest id among them and those before. csv_path: where all rows
    that an adjustment moves are written, if anywhere.
    """

    spark: SparkSession
    connection: psycopg.Connection
    sequences: Sequences
    span: tuple[date, date]
    corrections: Sequence[Correction]
    last_correction: int
    seconds: Seconds
    csv_path: Path | None = None
    published: list[tuple[Period, int, str]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    _checked: bool = False

    def __post_init__(self) -> None:
        pinned, table = snapshot_id(self.spark, "answers"), names.table("answers")
        reader = self.spark.read if pinned is None else self.spark.read.option("versionAsOf", pinned)
        # Kept beside Spark: a scan opens a file a day, several times.
        self.answers = reader.table(table).select(*READ_COLUMNS).persist()
        counted = {
            "points": F.expr(counted_points_sql(self.corrections)).cast("bigint"),
            "rule": F.expr(counted_rule_sql(self.corrections)),
        }
        self.counted = self.answers.withColumns(counted).where("points IS NOT NULL")

    def close(self) -> None:
        self.answers.unpersist()

    def first_versions(self, ready: Sequence[Period], settled: set[Period]) -> None:
        """Wave 1: version 1 of the complete periods that have none."""
        new = dict.fromkeys((p for p in ready if p not in settled), 1)
        if new:
            self.publish(new, FIRST_REASON, F.col("seq") <= F.col("barrier_seq"))

    def adjustments(
        self,
        reason: str,
        settled: dict[Period, tuple[int, dict[int, int]]],
        changed: set[tuple[str, date]],
        searched: set[tuple[str, date]],
        *,
        in_force: Sequence[int] = (),
        dry_run: bool = False,
    ) -> Changes | None:
        """Wave 2: the next version of each settled period that holds a changed day or a day with new late answers.

        settled: (version, last seq by shard) of every settled period near the span; changed: days that a correction
        touches; searched: days to search for late answers, which grows to all days of what is published. in_force:
        corrections that hold once this is published. Returns what moved; None if nothing is to be published.
        """
        seen: set[tuple[str, date]] = set()
        late: dict[tuple[str, date], dict[int, int]] = {}
        again: set[Period] = set(periods_holding(settled, changed))
        wanted = (searched | days_of(again)) & days_of(settled)
        while wanted - seen:
            with self.seconds.of("late_days"):
                late |= self._late_days(wanted - seen)
            seen |= wanted
            again |= {p for p in periods_holding(settled, set(late)) if _uncovered(p, settled, late)}
            wanted = days_of(again)
        if not again:
            return None
        versions = {p: settled[p][0] + 1 for p in again}
        return self.publish(versions, reason, self._whole(), in_force=in_force, dry_run=dry_run)

    def covered_days(self, corrections: Sequence[Correction]) -> set[tuple[str, date]]:
        """(zone, day) of every answer that falls under a correction, in UTC and in its quiz's zone."""
        covered = self.answers.where(F.expr(" OR ".join(map(covers_sql, corrections)) or "false"))
        quarter = F.floor(F.col("occurred_at_us") / F.lit(QUARTER_US))
        found: set[tuple[str, date]] = set()
        for zone, number in covered.select("quiz_zone", quarter).distinct().collect():
            for own in (GLOBAL_ZONE, zone):
                found.add((own, period_start("daily", number * QUARTER_US, own)))
        return found

    def _whole(self) -> Column:
        """Rows within the unbroken sequence: above a gap nothing is counted yet."""
        return either(
            [(F.col("shard") == s) & (F.col("seq") <= n) for s, n in self.sequences.gapless.items()]
        )

    def _inside(self, wanted: set[tuple[str, date]], answers: DataFrame) -> DataFrame:
        """The answers between the first and the last instant of the days."""
        low = min(midnight_us(day, zone) for zone, day in wanted)
        high = max(midnight_us(next_start("daily", day), zone) for zone, day in wanted)
        return answers.where((F.col("occurred_at_us") >= low) & (F.col("occurred_at_us") < high))

    def _scoped(self, wanted: set[tuple[str, date]], answers: DataFrame) -> DataFrame:
        days = day_frame(self.spark, wanted, self.sequences.barrier_seq)
        return scoped_answers(self._inside(wanted, answers), days)

    def _late_days(self, wanted: set[tuple[str, date]]) -> dict[tuple[str, date], dict[int, int]]:
        """Greatest seq of a late answer by (zone, day) and shard."""
        least: dict[int, int] = {}
        for day in wanted:
            for shard, seq in self.sequences.barrier_seq.get(day, {}).items():
                least[shard] = min(seq, least.get(shard, seq))
        # Nothing at or below a shard's first barrier can be late: of an imported past no row goes into the join.
        above = either([(F.col("shard") == shard) & (F.col("seq") > seq) for shard, seq in least.items()])
        rows = (
            self._scoped(wanted, self.answers.where(above))
            .where((F.col("seq") > F.col("barrier_seq")) & self._whole())
            .groupBy("zone", "day", "shard")
            .agg(F.max("seq"))
            .collect()
        )
        found: dict[tuple[str, date], dict[int, int]] = {}
        for zone, day, shard, seq in rows:
            found.setdefault((zone, day), {})[shard] = seq
        return found

    def publish(
        self,
        versions: dict[Period, int],
        reason: str,
        counted: Column,
        *,
        in_force: Sequence[int] = (),
        dry_run: bool = False,
    ) -> Changes:
        """One settlement. Steps: 1 user numbers; 2 audit branches; 3 write; 4 check; 5 fast-forward and tag; 6 the row.

        A dry run ends after step 4 and drops its branches. Returns what moved against what is published now.
        """
        spark, periods, seconds = self.spark, sorted(versions), self.seconds
        if not self._checked:
            with seconds.of("check_answers"):
                # Each answer counts in two scopes.
                size_shuffles(spark, 2 * self.answers.count())
                enforce(check_answers(self.answers))
            with seconds.of("user_numbers"):
                self._add_user_numbers()
            self._checked = True
        settlement_id = publish.next_id(self.connection)
        tables = ["rankings"] + (["ranking_changes"] if reason != FIRST_REASON else [])
        kinds = {p[0] for p in periods}
        tables += [t for t, kind in (("user_days", "daily"), ("user_months", "monthly")) if kind in kinds]
        with seconds.of("branches"):
            publish.open_branches(spark, settlement_id, tables)
        per_day = user_days(self._scoped(days_of(periods), self.counted).where(counted)).persist()
        boards = SettledRankings(per_day, periods, settlement_id, seconds)
        try:
            changes = self._write(boards, reason, counted)
            if dry_run:
                publish.drop_branches(spark)
                return changes
            self._make_public(settlement_id, versions, reason, tables, changes, in_force)
        finally:
            per_day.unpersist()
            boards.close()
        return changes

    def _write(self, boards: SettledRankings, reason: str, counted: Column) -> Changes:
        """Steps 3 and 4, on the audit branches."""
        spark, seconds, targets = self.spark, self.seconds, boards.targets
        settlement_id, periods, per_day = boards.settlement_id, boards.periods, boards.per_day
        boards.write()
        with seconds.of("write_user_days"):
            daily = targets.where("period = 'daily'").select("zone", F.col("start").alias("day"))
            if any(p[0] == "daily" for p in periods):
                of_days = per_day.join(F.broadcast(daily), ["zone", "day"], "left_semi")
                publish.replace_partitions(of_days, "user_days", settlement_id, ["day", "zone"], daily)
        with seconds.of("write_user_months"):
            months = [p for p in periods if p[0] == "monthly"]
            if months:
                monthly = targets.where("period = 'monthly'").select("zone", F.col("start").alias("month"))
                of_months = user_months(per_day, period_frame(spark, months))
                publish.replace_partitions(
                    of_months, "user_months", settlement_id, ["month", "zone"], monthly
                )
        boards.check()
        with seconds.of("check_sums"):
            record = self._scoped(days_of(periods), self.counted).where(counted)
            enforce(self._check_sums(settlement_id, periods, targets, per_day, record))
        if reason == FIRST_REASON:
            return Changes()
        with seconds.of("changes"):
            moved = changes_of(boards.written(), targets, settlement_id).persist()
            moved.writeTo(publish.branch_table("ranking_changes", settlement_id)).append()
            if self.csv_path:
                write_csv(moved, self.csv_path)
            found = summary(moved)
            self.changes.append(found.to_dict())
            moved.unpersist()
            return found

    def _check_sums(
        self,
        settlement_id: str,
        periods: Sequence[Period],
        targets: DataFrame,
        per_day: DataFrame,
        record: DataFrame,
    ) -> list[Check]:
        found = []
        daily = targets.where("period = 'daily'").select("zone", F.col("start").alias("day"))
        if any(p[0] == "daily" for p in periods):
            days = publish.read_branch(self.spark, "user_days", settlement_id)
            key = ["zone", "day"]
            found += check_days(
                days.join(F.broadcast(daily), key, "left_semi"),
                record.join(F.broadcast(daily), key, "left_semi"),
            )
        months = [p for p in periods if p[0] == "monthly"]
        if months:
            monthly = targets.where("period = 'monthly'").select("zone", F.col("start").alias("month"))
            rows = publish.read_branch(self.spark, "user_months", settlement_id)
            found += check_months(
                rows.join(F.broadcast(monthly), ["zone", "month"], "left_semi"),
                per_day,
                period_frame(self.spark, months),
            )
        return found

    def _make_public(
        self,
        settlement_id: str,
        versions: dict[Period, int],
        reason: str,
        tables: Sequence[str],
        changes: Changes,
        in_force: Sequence[int],
    ) -> None:
        """Steps 5 and 6."""
        spark, periods = self.spark, sorted(versions)
        with self.seconds.of("fast_forward"):
            publish.fast_forward(spark, settlement_id, tables)
        rules = self._inside(days_of(periods), self.counted).select("rule").distinct().collect()
        publish.insert_settlement(
            self.connection,
            Settlement(
                settlement_id,
                *self.span,
                ",".join(sorted(row[0] for row in rules)),
                reason,
                tuple(PeriodVersion(*p, versions[p]) for p in periods),
                publish.snapshots(spark, ("answers", "barriers", "user_numbers", *publish.PUBLISHED)),
                self.sequences.gapless,
                self.last_correction,
                changes.short(),
            ),
            in_force,
        )
        self.published += [(period, versions[period], settlement_id) for period in periods]
        log.info("settled id=%s reason=%s periods=%d", settlement_id, reason, len(periods))

    def _add_user_numbers(self) -> None:
        table = names.table("user_numbers")
        numbers = self.answers.select("user_no", "user_id").distinct()
        new = numbers.join(self.spark.table(table), ["user_no"], "left_anti").persist()
        if new.count():
            new.writeTo(table).append()
        new.unpersist()


def _uncovered(
    period: Period,
    settled: dict[Period, tuple[int, dict[int, int]]],
    late: dict[tuple[str, date], dict[int, int]],
) -> bool:
    """True if a late answer of the period is in no version of it: version 1 ends at the barriers."""
    version, last_seq = settled[period]
    return any(
        version == 1 or seq > last_seq.get(shard, 0)
        for day in days_of([period]) & late.keys()
        for shard, seq in late[day].items()
    )
