"""A board over any range, from user-months, user-days and answers: sums by user, then the exact board query (CONTRACTS D5, D6).

Who decides which day comes from where is contracts/ranges.py; rows that Redis holds come in as `held`; which rows of the
sums need an order is lake/slices.py.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan

from contracts.boards import Scope
from contracts.correction_sql import text
from contracts.corrections import Correction
from contracts.errors import BadInput, SystemMissing
from contracts.periods import Span
from contracts.replies import Bound, RangePage, Wanted
from contracts.sampling import CONFIDENCE, bound_of, in_sample_sql
from lake.counted import count_answers
from lake.slices import read_slices
from lake.views import Lake, Scan

# A query that needs more is refused by DuckDB instead of taking the machine.
MEMORY_LIMIT = "2GB"
# Sums in a table that user_no itself addresses, one for each thread, which DuckDB does not count under its limit.
DIRECT_BYTES = 512 * 1024**2
_SUM_BYTES = 64
Held = tuple[str, int, int | None]
"""(user_id, points, reached_at_us) of a day that Redis holds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a range is made of. snapshots: of one settlement, by table; None for answers is the current one."""

    months: Sequence[date] = ()
    days: Sequence[date] = ()
    snapshots: Mapping[str, int] = field(default_factory=dict)
    answers: Sequence[Span] = ()
    answers_snapshot: int | None = None
    held: Sequence[Held] = ()
    corrections: Sequence[Correction] = ()


@dataclass
class RangeQuery:
    """One query; `stop` ends it from another thread, within moments. fast: one of 64 buckets of users, scaled up."""

    lake: Lake
    scope: Scope
    zone: str
    asked: Span
    sources: Sources
    fast: bool = False
    _open: duckdb.DuckDBPyConnection | None = field(init=False, default=None)
    _stopped: threading.Event = field(init=False, default_factory=threading.Event)
    _scans: list[Scan] = field(init=False, default_factory=list)

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Made in the thread that runs the query: it takes as long as a small read."""
        if self._open is None:
            self._open = duckdb.connect()
            self._open.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            self._open.execute("SET preserve_insertion_order = false")  # only `rank` orders rows
        return self._open

    def stop(self) -> None:
        """Interrupt what runs: `run` then raises."""
        self._stopped.set()
        if self._open is not None:
            with suppress(duckdb.Error):  # closed: it has just ended
                self._open.interrupt()

    def run(self, wanted: Wanted) -> RangePage:
        """The board's page.

        Raises SystemMissing if HDFS is away or it was stopped, BadInput(range_too_large) if it needs too much memory,
        BadInput(too_many_corrections), BadInput(unknown_settlement) if a snapshot has expired.
        """
        try:
            return self._run(wanted)
        except duckdb.OutOfMemoryException as error:
            raise BadInput(
                "range_too_large", f"the range needs more than {MEMORY_LIMIT} of memory"
            ) from error
        except duckdb.InterruptException as error:
            raise SystemMissing("system_missing", "the query was stopped") from error
        finally:
            self._connection.close()

    def _run(self, wanted: Wanted) -> RangePage:
        asked_for = {wanted.user_id, *wanted.users} - {""}
        self._answer_sums(asked_for)
        self._known_users()
        self._connection.register(
            "asked_for", pa.table({"user_id": pa.array(sorted(asked_for), pa.string())})
        )
        self._held_sums()
        self._connection.execute(
            "CREATE TEMP VIEW known AS SELECT * FROM known_to_lake UNION ALL SELECT user_no, user_id FROM held_sums"
        )
        self._connection.execute(
            "CREATE TEMP TABLE asked_users AS SELECT DISTINCT user_no, user_id FROM known "
            "SEMI JOIN asked_for USING (user_id)"
        )
        parts = [part for part in (self._rolled_up("user_months"), self._rolled_up("user_days")) if part]
        # Not where they are empty: a union hides the files' statistics, without which sums cost more.
        parts += ["SELECT user_no, points, reached_at_us FROM held_sums"] if self.sources.held else []
        if self.sources.answers or not parts:
            parts.append("SELECT user_no, points, reached_at_us FROM answer_sums")
        if self._stopped.is_set():
            raise duckdb.InterruptException("stopped before it began")
        self._connection.execute(f"SET perfect_ht_threshold = {direct_bits(self._rows, self._threads)}")
        # One row per user. The users of rolled-up parts need no filter again: each part has left out its own.
        self._connection.execute(
            "CREATE TEMP TABLE sums AS SELECT user_no, CAST(sum(points) AS BIGINT) AS points, "
            "max(reached_at_us) AS reached_at_us, "
            f"{in_sample_sql('user_no') if self.fast else 'true'} AS counts "
            f"FROM ({' UNION ALL '.join(parts)}) GROUP BY user_no"
        )
        page, counted = read_slices(self._connection, self.asked.start_us, wanted, self.fast)
        return RangePage(
            page,
            sum(scan.files for scan in self._scans),
            sum(scan.bytes for scan in self._scans),
            self._rows,
            Bound(bound_of(counted), CONFIDENCE) if self.fast else None,
        )

    @property
    def _rows(self) -> int:
        return sum(scan.rows for scan in self._scans) + len(self.sources.held)

    @property
    def _threads(self) -> int:
        return int(self._connection.execute("SELECT current_setting('threads')").fetchall()[0][0])

    def _view(
        self, name: str, snapshot_id: int | None, where: BooleanExpression | None, bounds: bool = False
    ) -> None:
        self._scans.append(self.lake.view(self._connection, name, snapshot_id, where, bounds))

    def _sampled(self, wanted_too: str) -> str:
        """The condition that leaves users out: none, or all but the sample and those who were asked for."""
        return f"({in_sample_sql('user_no')} OR {wanted_too})" if self.fast else "true"

    def _answer_sums(self, asked_for: set[str]) -> None:
        """answer_sums: one row per user (user_no, user_id, points, reached_at_us) of edges and days nothing else has."""
        spans = self.sources.answers
        if not spans:
            self._connection.execute(
                "CREATE TEMP TABLE answer_sums (user_no BIGINT, user_id VARCHAR, points BIGINT, reached_at_us BIGINT)"
            )
            return
        low, high = min(one.start_us for one in spans), max(one.end_us for one in spans)
        where = And(
            GreaterThanOrEqual("occurred_at", _iso(low)),  # type: ignore[call-arg, arg-type]
            LessThan("occurred_at", _iso(high)),  # type: ignore[call-arg, arg-type]
        )
        self._view("answers", self.sources.answers_snapshot, where)
        count_answers(self._connection, self.sources.corrections)
        inside = " OR ".join(
            f"(occurred_at_us >= {one.start_us} AND occurred_at_us < {one.end_us})" for one in spans
        )
        users = ", ".join(text(user) for user in sorted(asked_for))
        sampled = self._sampled(f"user_id IN ({users})" if users else "false")
        self._connection.execute(
            "CREATE TEMP TABLE answer_sums AS SELECT user_no, min(user_id) AS user_id, "
            "CAST(sum(points) AS BIGINT) AS points, max(occurred_at_us) FILTER (points > 0) AS reached_at_us "
            f"FROM counted WHERE ({inside}) AND {_in_scope(self.scope)} AND {sampled} GROUP BY user_no"
        )

    def _known_users(self) -> None:
        """known_to_lake: (user_no, user_id) of the settlement's user_numbers and of the answers read, some twice."""
        numbers = "SELECT user_no, user_id FROM answer_sums"
        if "user_numbers" in self.sources.snapshots:
            self._view("user_numbers", self.sources.snapshots["user_numbers"], None)
            numbers += " UNION ALL SELECT user_no, user_id FROM user_numbers"
        self._connection.execute(f"CREATE TEMP VIEW known_to_lake AS {numbers}")

    def _held_sums(self) -> None:
        """held_sums: one row per user of the days that Redis holds; who is new to the lake gets a number below 0."""
        held = self.sources.held
        users, points, reached = zip(*held, strict=True) if held else ((), (), ())
        table = pa.table(
            {
                "user_id": pa.array(users, pa.string()),
                "points": pa.array(points, pa.int64()),
                "reached_at_us": pa.array(reached, pa.int64()),
            }
        )
        self._connection.register("held", table)
        # No look at who is known where nobody is held: most ranges have no such day, and user_numbers is long.
        known = (
            "(SELECT DISTINCT user_no, user_id FROM known_to_lake SEMI JOIN held USING (user_id))"
            if held
            else "(SELECT 0 AS user_no, '' AS user_id WHERE false)"
        )
        sampled = self._sampled("user_id IN (SELECT user_id FROM asked_for)")
        self._connection.execute(
            "CREATE TEMP TABLE held_sums AS SELECT * FROM ("
            "SELECT coalesce(user_no, -row_number() OVER (ORDER BY user_id)) AS user_no, user_id, points, reached_at_us "
            "FROM (SELECT user_id, CAST(sum(points) AS BIGINT) AS points, max(reached_at_us) AS reached_at_us "
            f"FROM held GROUP BY user_id) LEFT JOIN {known} USING (user_id)) WHERE {sampled}"
        )

    def _rolled_up(self, name: str) -> str:
        """Rows of the months or days that are settled and whole; their sums by user are the caller's."""
        column = "month" if name == "user_months" else "day"
        starts = sorted(self.sources.months if name == "user_months" else self.sources.days)
        if not starts:
            return ""
        where = And(
            GreaterThanOrEqual(column, starts[0].isoformat()),  # type: ignore[call-arg, arg-type]
            LessThan(column, (starts[-1] + timedelta(days=1)).isoformat()),  # type: ignore[call-arg, arg-type]
        )
        self._view(name, self.sources.snapshots[name], where, bounds=True)
        sampled = self._sampled("user_no IN (SELECT user_no FROM asked_users)")
        return (
            f"SELECT user_no, points, reached_at_us FROM {name} WHERE scope = {text(str(self.scope))} "
            f"AND zone = {text(self.zone)} AND ({_one_of(column, starts)}) AND {sampled}"
        )


def direct_bits(rows: int, threads: int) -> int:
    """The largest range of user_no, in bits, whose sums DuckDB may keep in a table that it addresses: no hashing.

    user_no is dense, so over many days most of the table is used. No larger than twice the rows (a day of few users must
    not clear a table for everybody), nor than DIRECT_BYTES for all threads.
    """
    return min(rows.bit_length(), (DIRECT_BYTES // _SUM_BYTES // threads).bit_length() - 1)


def _one_of(column: str, starts: Sequence[date]) -> str:
    """A date is one of these, said by runs: the filter prunes files, and a run costs two comparisons."""
    runs: list[tuple[date, date]] = []
    for start in starts:
        if runs and start - runs[-1][1] == timedelta(days=1):
            runs[-1] = (runs[-1][0], start)
        else:
            runs.append((start, start))
    return " OR ".join(f"{column} BETWEEN DATE '{low}' AND DATE '{high}'" for low, high in runs)


def _in_scope(scope: Scope) -> str:
    if scope.kind == "quiz":
        return f"quiz_id = {text(scope.id)}"
    return f"list_contains(skill_tags, {text(scope.id)})" if scope.kind == "tag" else "true"


def _iso(instant_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat()
