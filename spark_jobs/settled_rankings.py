"""The boards of one settlement, onto its audit branch: small ones together, big ones by ranges; then their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from contracts import names
from spark_jobs import publish
from spark_jobs.big_board_checks import check_big_rankings
from spark_jobs.checks import check_rankings, enforce
from spark_jobs.day_frames import Period, local_rows, period_frame
from spark_jobs.rank_by_range import (
    BIG_BOARD_ROWS,
    BOARD,
    RANGE_ROWS,
    BigBoard,
    big_boards,
    not_on,
    ranked_by_range,
    summands,
)
from spark_jobs.rank_period import rankings, totals
from spark_jobs.seconds import Seconds
from spark_jobs.total_checks import check_top

# A period in a zone: all of its boards are settled together.
PERIOD = BOARD[:3]


@dataclass
class SettledRankings:
    """All boards of the periods, from their user-days (spark_jobs.roll_up_users.user_days), which the caller keeps.

    big_rows, range_rows: from how many user-days on a board goes by ranges, and of how many rows.
    """

    per_day: DataFrame
    periods: Sequence[Period]
    settlement_id: str
    seconds: Seconds
    big_rows: int = BIG_BOARD_ROWS
    range_rows: int = RANGE_ROWS
    _big: list[BigBoard] = field(default_factory=list)
    _totals: DataFrame | None = None

    def __post_init__(self) -> None:
        spark = self.per_day.sparkSession
        self._period_rows = period_frame(spark, self.periods)
        self._user_numbers = spark.table(names.table("user_numbers"))
        self.targets = local_rows(
            spark, [(z, s, p) for p, s, z in self.periods], "zone STRING, start DATE, period STRING"
        )

    def close(self) -> None:
        if self._totals is not None:
            self._totals.unpersist()

    def written(self) -> DataFrame:
        """The rows on the audit branch."""
        rows = publish.read_branch(self.per_day.sparkSession, "rankings", self.settlement_id)
        return rows.join(F.broadcast(self.targets), PERIOD, "left_semi")

    def write(self) -> None:
        with self.seconds.of("totals"):
            self._big = big_boards(self.per_day, self._period_rows, self.big_rows)
            self._totals = totals(self.per_day, self._period_rows, self._user_numbers, self._big).persist()
            self._totals.count()
        with self.seconds.of("write_rankings"):
            publish.replace_partitions(
                rankings(self._totals), "rankings", self.settlement_id, PERIOD, self.targets
            )
            if self._big:
                rows = summands(self.per_day, self._period_rows, self._big)
                with ranked_by_range(rows, self._user_numbers, self._big, self.range_rows) as ranked:
                    publish.append_ordered(ranked, "rankings", self.settlement_id)

    def check(self) -> None:
        """Raises BrokenContract(check_failed)."""
        assert self._totals is not None, "check comes after write"
        written = self.written()
        with self.seconds.of("check_rankings"):
            small = not_on(written, self._big)
            enforce(check_rankings(small, self._totals))
            enforce(check_top(small, self._totals))
            if self._big:
                rows = summands(self.per_day, self._period_rows, self._big)
                enforce(check_big_rankings(written, rows, self._user_numbers, self._big))
