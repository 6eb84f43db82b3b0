"""Archived answers of one user: pages and look-ups by event id, from `user_sessions` at one snapshot.

A user's month is one small file, found without the catalog: the list of a snapshot's files is kept in memory, and the
files lie in the cache. A page opens a user's months newest first until it is full.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from contracts.answer_filters import EVERYTHING, AnswerFilters
from contracts.periods import EPOCH_DAY, span
from contracts.tables import USER_BUCKETS
from lake.iceberg import load_table
from lake.views import Lake, planned_files

# Snapshots whose files are remembered: the newest, and those that requests under way still read.
_SNAPSHOTS = 4
# Months opened at once: a full page mostly needs the newest, and each costs two reads of the disk.
_MONTHS_AT_ONCE = 6
_COLUMNS = (
    "event_id", "occurred_at_us", "session_id", "quiz_id", "question_id", "choice", "correct", "elapsed_ms", "points",
    "rule",
)  # fmt: skip
_ANSWERS = (
    "SELECT s.session_id, s.quiz_id, unnest(s.answers, max_depth := 2) FROM "
    "(SELECT session_id, quiz_id, answers FROM read_parquet([{paths}]) "
    "WHERE user_id = $user AND month IN ({months}){more}) AS s"
)
# One row per session: a session that goes over the end of a month has a row in each.
_SESSIONS = """
SELECT session_id, quiz_id, session_started_at_us AS started_at_us, min(first_at_us) AS first_at_us,
  max(last_at_us) AS last_at_us, CAST(sum(plays) AS BIGINT) AS answered, CAST(sum(hits) AS BIGINT) AS right,
  CAST(sum(points) AS BIGINT) AS points, CAST(sum(elapsed_ms) AS BIGINT) AS elapsed_ms
FROM read_parquet([{paths}]) WHERE user_id = $user AND month IN ({months}){more}
GROUP BY session_id, quiz_id, session_started_at_us ORDER BY started_at_us DESC, session_id DESC LIMIT {limit}
"""


@dataclass(frozen=True, slots=True)
class _File:
    """A data file and its partition; None where the table has none."""

    url: str
    month: date | None
    bucket: int | None


def _file(spec: PartitionSpec, url: str, values: Any) -> _File:
    if not spec.fields:
        return _File(url, None, None)
    found = dict(zip((field.name for field in spec.fields), values, strict=True))
    month = found["month"]
    return _File(
        url, month if isinstance(month, date) else EPOCH_DAY + timedelta(days=month), found["user_id_bucket"]
    )


class ArchivedAnswers:
    """Reads `user_sessions`. Safe for threads: each query has a cursor of its own."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._files: dict[int, list[_File]] = {}
        self._lock = threading.Lock()
        self._bucket = BucketTransform(USER_BUCKETS).transform(StringType())
        self._duckdb = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'; SET threads = 2; SET parquet_metadata_cache = true")

    def close(self) -> None:
        self._duckdb.close()

    def page(
        self,
        snapshot_id: int,
        months: Sequence[date],
        user_id: str,
        before: tuple[int, str] | None,
        limit: int,
        filters: AnswerFilters = EVERYTHING,
    ) -> list[dict[str, Any]]:
        """Up to `limit` answers before the instant and id `before`, newest first (occurred_at_us, then event_id, down).

        Rows: event_id, occurred_at_us (UTC µs), session_id, quiz_id, question_id, choice, correct, elapsed_ms, points,
        rule. months: those that are archived; others' rows are no concern of the archive. Raises SystemMissing, OSError.
        """
        reached = [
            month
            for month in sorted(months, reverse=True)
            if before is None or span("monthly", month, "UTC").start_us <= before[0]
        ]
        found: list[dict[str, Any]] = []
        while reached and len(found) < limit:
            part, reached = reached[:_MONTHS_AT_ONCE], reached[_MONTHS_AT_ONCE:]
            found += self._page(snapshot_id, part, user_id, before, limit - len(found), filters)
        return found

    def _page(
        self,
        snapshot_id: int,
        months: list[date],
        user_id: str,
        before: tuple[int, str] | None,
        limit: int,
        filters: AnswerFilters,
    ) -> list[dict[str, Any]]:
        paths = self._paths(snapshot_id, months, [user_id])
        if not paths:
            return []
        more, values = _of_sessions(filters)
        values["user"] = user_id
        more += " AND first_at_us < $high AND last_at_us >= $low"
        within = "occurred_at_us >= $low AND occurred_at_us < $high"
        values |= {"low": filters.when.start_us, "high": filters.when.end_us}
        if before is not None:
            more += " AND first_at_us <= $at"
            within += " AND (occurred_at_us, event_id) < ($at, $id)"
            values |= {"at": before[0], "id": before[1]}
        if filters.correct is not None:
            within += " AND correct = $correct"
            values["correct"] = filters.correct
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM ({_answers(paths, months, more)}) WHERE {within} "
            f"ORDER BY occurred_at_us DESC, event_id DESC LIMIT {int(limit)}"
        )
        with self._duckdb.cursor() as cursor:
            rows = cursor.execute(query, values).fetchall()
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def sessions(
        self,
        snapshot_id: int,
        months: Sequence[date],
        user_id: str,
        before: tuple[int, str] | None,
        limit: int,
        filters: AnswerFilters = EVERYTHING,
    ) -> list[dict[str, Any]]:
        """Up to `limit` sessions of a user that began before (started_at_us, session_id), newest first.

        Rows: session_id, quiz_id, started_at_us, first_at_us, last_at_us (UTC µs), answered, right, points, elapsed_ms, of
        the user's answers in these months. filters: of the session; when: of its start. Raises SystemMissing, OSError.
        """
        reached = [month for month in months if span("monthly", month, "UTC").end_us > filters.when.start_us]
        paths = self._paths(snapshot_id, reached, [user_id])
        if not paths:
            return []
        more, values = _of_sessions(filters)
        more += " AND session_started_at_us >= $low AND session_started_at_us < $high"
        values |= {"user": user_id, "low": filters.when.start_us, "high": filters.when.end_us}
        if before is not None:
            more += " AND (session_started_at_us, session_id) < ($at, $id)"
            values |= {"at": before[0], "id": before[1]}
        query = _SESSIONS.format(paths=_quoted(paths), months=_dates(reached), more=more, limit=int(limit))
        with self._duckdb.cursor() as cursor:
            found = cursor.execute(query, values)
            columns = [column[0] for column in found.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

    def places(
        self, snapshot_id: int, months: Sequence[date], wanted: Iterable[tuple[str, str]]
    ) -> dict[str, tuple[int, int, int, bool]]:
        """(points, occurred_at_us, seq, correct) by event id of those among (user_id, event_id) that are archived."""
        by_user: dict[str, list[str]] = {}
        for user_id, event_id in wanted:
            by_user.setdefault(user_id, []).append(event_id)
        found: dict[str, tuple[int, int, int, bool]] = {}
        for user_id, ids in by_user.items():
            paths = self._paths(snapshot_id, months, [user_id])
            if not paths:
                continue
            query = (
                f"SELECT event_id, points, occurred_at_us, seq, correct FROM ({_answers(paths, months, '')}) "
                "WHERE event_id IN (SELECT unnest($ids))"
            )
            with self._duckdb.cursor() as cursor:
                rows = cursor.execute(query, {"user": user_id, "ids": ids}).fetchall()
            found |= {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
        return found

    def _paths(self, snapshot_id: int, months: Sequence[date], users: Sequence[str]) -> list[str]:
        buckets, wanted = {self._bucket(user) for user in users}, set(months)
        urls = [
            file.url
            for file in self._files_of(snapshot_id)
            if file.month is None or (file.month in wanted and file.bucket in buckets)
        ]
        return self.lake.files.paths(urls)

    def _files_of(self, snapshot_id: int) -> list[_File]:
        """The snapshot's files. A snapshot never changes; only one that is new here asks the catalog."""
        found = self._files.get(snapshot_id)
        if found is None:
            table = load_table(self.lake.catalog, "user_sessions")
            spec = table.spec()
            found = [
                _file(spec, task.file.file_path, [task.file.partition[i] for i in range(len(spec.fields))])
                for task in planned_files(table, snapshot_id)
            ]
            with self._lock:
                self._files[snapshot_id] = found
                for old in list(self._files)[:-_SNAPSHOTS]:
                    del self._files[old]
        return found


def _of_sessions(filters: AnswerFilters) -> tuple[str, dict[str, Any]]:
    """What filters say of rows of user_sessions, and its values."""
    more, values = "", dict[str, Any]()
    if filters.quiz_id:
        more += " AND quiz_id = $quiz"
        values["quiz"] = filters.quiz_id
    if filters.session_id:
        more += " AND session_id = $session"
        values["session"] = filters.session_id
    if filters.sessions is not None:
        more += " AND session_id IN (SELECT unnest($sessions))"
        values["sessions"] = list(filters.sessions)
    return more, values


def _quoted(paths: Sequence[str]) -> str:
    return ", ".join("'" + path.replace("'", "''") + "'" for path in paths)


def _dates(months: Sequence[date]) -> str:
    return ", ".join(f"DATE '{month.isoformat()}'" for month in months)


def _answers(paths: Sequence[str], months: Sequence[date], more: str) -> str:
    return _ANSWERS.format(paths=_quoted(paths), months=_dates(months), more=more)
