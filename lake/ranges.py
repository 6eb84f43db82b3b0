"""A board over any range, from user-days and answers: sums by user, then the one exact board query (CONTRACTS D5, D6).

Who decides which day comes from where is contracts/ranges.py; rows that Redis holds come in as `held`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import duckdb
import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan

from contracts.boards import Scope
from contracts.errors import BadInput, SystemMissing
from contracts.periods import Span
from contracts.ranking import RANGE_TICK_US
from contracts.replies import RangePage
from lake.rankings import read_page
from lake.views import Lake, Scan

# A query that needs more is refused by DuckDB instead of taking the machine.
MEMORY_LIMIT = "2GB"
Held = tuple[str, int, int | None]
"""(user_id, points, reached_at_us) of a day that Redis holds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a range is made of. user_days_snapshot: of the newest settlement; None where no day is settled."""

    days: Sequence[date] = ()
    user_days_snapshot: int | None = None
    answers: Sequence[Span] = ()
    held: Sequence[Held] = ()


@dataclass
class RangeQuery:
    """One query; `stop` ends it from another thread, within moments."""

    lake: Lake
    scope: Scope
    zone: str
    asked: Span
    sources: Sources
    _connection: duckdb.DuckDBPyConnection = field(init=False)
    _stopped: threading.Event = field(init=False, default_factory=threading.Event)
    _scans: list[Scan] = field(init=False, default_factory=list)
    _answers_as_of_us: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")

    def stop(self) -> None:
        """Interrupt what runs: `run` then raises."""
        self._stopped.set()
        with suppress(duckdb.Error):  # closed: it has just ended
            self._connection.interrupt()

    def run(self, k: int, user_id: str | None, m: int) -> RangePage:
        """The board's page.

        Raises SystemMissing if HDFS is away or it was stopped, BadInput(range_too_large) if it needs too much memory.
        """
        try:
            return self._run(k, user_id, m)
        except duckdb.OutOfMemoryException as error:
            raise BadInput(
                "range_too_large", f"the range needs more than {MEMORY_LIMIT} of memory"
            ) from error
        except duckdb.InterruptException as error:
            raise SystemMissing("system_missing", "the query was stopped") from error
        finally:
            self._connection.close()

    def _run(self, k: int, user_id: str | None, m: int) -> RangePage:
        parts = [part for part in (self._user_days(), self._answers(), self._held()) if part]
        self._connection.execute(
            f"CREATE VIEW totals AS SELECT 'range' AS period, DATE '1970-01-01' AS start, 'UTC' AS zone, 'range' AS scope, "
            "user_id, 0 AS user_no, CAST(sum(points) AS BIGINT) AS points, max(reached_at_us) AS reached_at_us, "
            f"CAST({self.asked.start_us} AS BIGINT) AS anchor_us, CAST({RANGE_TICK_US} AS BIGINT) AS tick_us "
            f"FROM ({' UNION ALL '.join(parts)}) GROUP BY user_id"
        )
        exact = files("contracts").joinpath("board.sql").read_text()
        if self._stopped.is_set():
            raise duckdb.InterruptException("stopped before it began")
        self._connection.execute(f"CREATE TEMP TABLE board AS {exact}")
        return RangePage(
            read_page(self._connection, "board", "true", [], k, user_id, m),
            sum(scan.files for scan in self._scans),
            sum(scan.bytes for scan in self._scans),
            sum(scan.rows for scan in self._scans) + len(self.sources.held),
            self._answers_as_of_us,
        )

    def _view(self, name: str, snapshot_id: int | None, where: BooleanExpression | None) -> Scan:
        self._scans.append(self.lake.view(self._connection, name, snapshot_id, where))
        return self._scans[-1]

    def _user_days(self) -> str:
        """One row per user: sums over the whole days that are settled."""
        if not self.sources.days:
            return ""
        low, high = min(self.sources.days), max(self.sources.days) + timedelta(days=1)
        where = And(
            GreaterThanOrEqual("day", low.isoformat()),  # type: ignore[call-arg, arg-type]
            LessThan("day", high.isoformat()),  # type: ignore[call-arg, arg-type]
        )
        self._view("user_days", self.sources.user_days_snapshot, where)
        self._view("user_numbers", None, None)
        self._connection.register("wanted_days", pa.table({"day": pa.array(self.sources.days, pa.date32())}))
        self._connection.execute("SET VARIABLE scope = ?", [str(self.scope)])
        self._connection.execute("SET VARIABLE zone = ?", [self.zone])
        return (
            "SELECT user_id, points, reached_at_us FROM (SELECT user_no, sum(points) AS points, "
            "max(reached_at_us) AS reached_at_us FROM user_days SEMI JOIN wanted_days USING (day) "
            "WHERE scope = getvariable('scope') AND zone = getvariable('zone') GROUP BY user_no) "
            "JOIN user_numbers USING (user_no)"
        )

    def _answers(self) -> str:
        """One row per user: sums over the answers of edges and of days that nothing else has."""
        spans = self.sources.answers
        if not spans:
            return ""
        low, high = min(one.start_us for one in spans), max(one.end_us for one in spans)
        where = And(
            GreaterThanOrEqual("occurred_at", _iso(low)),  # type: ignore[call-arg, arg-type]
            LessThan("occurred_at", _iso(high)),  # type: ignore[call-arg, arg-type]
        )
        self._answers_as_of_us = self._view("answers", None, where).committed_at_us
        inside = " OR ".join(
            f"(occurred_at_us >= {one.start_us} AND occurred_at_us < {one.end_us})" for one in spans
        )
        self._connection.execute("SET VARIABLE scope_id = ?", [self.scope.id])
        return (
            "SELECT user_id, sum(points) AS points, max(occurred_at_us) FILTER (points > 0) AS reached_at_us "
            f"FROM answers WHERE ({inside}) AND {_IN_SCOPE[self.scope.kind]} GROUP BY user_id"
        )

    def _held(self) -> str:
        """Rows of days that Redis holds, as they came."""
        if not self.sources.held:
            return "" if self.sources.days or self.sources.answers else _NOBODY
        users, points, reached = zip(*self.sources.held, strict=True)
        table = pa.table(
            {
                "user_id": pa.array(users, pa.string()),
                "points": pa.array(points, pa.int64()),
                "reached_at_us": pa.array(reached, pa.int64()),
            }
        )
        self._connection.register("held", table)
        return "SELECT user_id, points, reached_at_us FROM held"


_IN_SCOPE = {
    "global": "true",
    "quiz": "quiz_id = getvariable('scope_id')",
    "tag": "list_contains(skill_tags, getvariable('scope_id'))",
}
_NOBODY = "SELECT '' AS user_id, 0 AS points, CAST(NULL AS BIGINT) AS reached_at_us WHERE false"


def _iso(instant_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat()
