"""One DuckDB query that makes a board's page: its connection, views, memory, and how it is stopped from another thread.

What it sums is lake/ranges.py (users) and lake/subjects.py (quizzes, questions).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import duckdb
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan

from contracts.boards import Scope
from contracts.correction_sql import text
from contracts.corrections import Correction
from contracts.errors import BadInput, SystemMissing
from contracts.periods import Span
from contracts.replies import BoardPage, Bound, RangePage, Wanted
from lake.counted import count_answers
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
    """What a range is made of. snapshots: of one settlement, by table; None for answers is the current one.

    cut: days that come from elsewhere for those who were members of a class all day, and from answers for the others.
    """

    months: Sequence[date] = ()
    days: Sequence[date] = ()
    snapshots: Mapping[str, int] = field(default_factory=dict)
    answers: Sequence[Span] = ()
    answers_snapshot: int | None = None
    held: Sequence[Held] = ()
    corrections: Sequence[Correction] = ()
    cut: Sequence[Span] = ()

    def starts(self, name: str) -> list[date]:
        """First days of what a roll-up gives."""
        return sorted(self.months if name == "user_months" else self.days)


@dataclass
class PageQuery(ABC):
    """One query; `stop` ends it from another thread, within moments."""

    lake: Lake
    scope: Scope
    asked: Span
    _open: duckdb.DuckDBPyConnection | None = field(init=False, default=None)
    _stopped: threading.Event = field(init=False, default_factory=threading.Event)
    _scans: list[Scan] = field(init=False, default_factory=list)

    @abstractmethod
    def _run(self, wanted: Wanted) -> RangePage:
        """The page. May raise DuckDB's errors of memory and of being interrupted."""

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

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise duckdb.InterruptException("stopped before it began")

    def _read(self, page: BoardPage, more_rows: int = 0, bound: Bound | None = None) -> RangePage:
        """The page with what its views read at the most."""
        size = sum(scan.bytes for scan in self._scans)
        return RangePage(page, sum(scan.files for scan in self._scans), size, self._rows + more_rows, bound)

    @property
    def _rows(self) -> int:
        return sum(scan.rows for scan in self._scans)

    @property
    def _threads(self) -> int:
        return int(self._connection.execute("SELECT current_setting('threads')").fetchall()[0][0])

    def _view(
        self, name: str, snapshot_id: int | None, where: BooleanExpression | None, bounds: bool = False
    ) -> None:
        self._scans.append(self.lake.view(self._connection, name, snapshot_id, where, bounds))

    def _view_roll_up(self, name: str, snapshot_id: int, starts: Sequence[date]) -> None:
        """The view of user_days or user_months over the files of some days or months, in order."""
        column = column_of(name)
        where = And(
            GreaterThanOrEqual(column, starts[0].isoformat()),  # type: ignore[call-arg, arg-type]
            LessThan(column, (starts[-1] + timedelta(days=1)).isoformat()),  # type: ignore[call-arg, arg-type]
        )
        self._view(name, snapshot_id, where, bounds=True)

    def _view_counted(self, spans: Sequence[Span], of: Sources) -> None:
        """The view `counted` over the files of answers that the spans touch."""
        low, high = min(one.start_us for one in spans), max(one.end_us for one in spans)
        where = And(
            GreaterThanOrEqual("occurred_at", _iso(low)),  # type: ignore[call-arg, arg-type]
            LessThan("occurred_at", _iso(high)),  # type: ignore[call-arg, arg-type]
        )
        self._view("answers", of.answers_snapshot, where)
        count_answers(self._connection, of.corrections)


def direct_bits(rows: int, threads: int) -> int:
    """The largest range of user_no, in bits, whose sums DuckDB may keep in a table that it addresses: no hashing.

    user_no is dense, so over many days most of the table is used. No larger than twice the rows (a day of few users must
    not clear a table for everybody), nor than DIRECT_BYTES for all threads.
    """
    return min(rows.bit_length(), (DIRECT_BYTES // _SUM_BYTES // threads).bit_length() - 1)


def column_of(name: str) -> str:
    """The date of a roll-up's rows."""
    return "month" if name == "user_months" else "day"


def one_of(column: str, starts: Sequence[date]) -> str:
    """A date is one of these, said by runs: the filter prunes files, and a run costs two comparisons."""
    runs: list[tuple[date, date]] = []
    for start in starts:
        if runs and start - runs[-1][1] == timedelta(days=1):
            runs[-1] = (runs[-1][0], start)
        else:
            runs.append((start, start))
    return " OR ".join(f"{column} BETWEEN DATE '{low}' AND DATE '{high}'" for low, high in runs)


def inside(spans: Sequence[Span]) -> str:
    """An answer lies in one of these."""
    return " OR ".join(
        f"(occurred_at_us >= {one.start_us} AND occurred_at_us < {one.end_us})" for one in spans
    )


def in_scope(scope: Scope) -> str:
    """An answer belongs to a scope."""
    if scope.kind == "quiz":
        return f"quiz_id = {text(scope.id)}"
    return f"list_contains(skill_tags, {text(scope.id)})" if scope.kind == "tag" else "true"


def _iso(instant_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat()
