"""A small lake on file:// without Spark: the contract's tables, filled from Postgres history, settled by the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from contracts import names
from contracts.events import ANSWER_TYPE, AnswerEvent, decode, decode_barrier
from contracts.tables import ARCHIVED_ANSWER, ARCHIVED_ANSWERS, TABLES, create_table
from tests import model

_TYPES = {
    "STRING": pa.string(),
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "BINARY": pa.binary(),
    "ARRAY<STRING>": pa.list_(pa.string()),
    "ARRAY<BIGINT>": pa.list_(pa.int64()),
}
_TYPES[ARCHIVED_ANSWERS] = pa.list_(pa.struct([(name, _TYPES[kind]) for name, kind in ARCHIVED_ANSWER]))


def schema_of(name: str) -> pa.Schema:
    """The columns of a table and their comments, read from its Spark SQL."""
    text = re.findall(r"^\s+(\w+) (\S+) COMMENT '((?:[^']|'')*)'", create_table(name), re.MULTILINE)
    return pa.schema(
        [
            pa.field(column, _TYPES[kind], metadata={"doc": doc.replace("''", "'")})
            for column, kind, doc in text
        ]
    )


def model_answer(event: AnswerEvent) -> model.Answer:
    """An event as the model takes it."""
    return model.Answer(
        event.occurred_at_us,
        event.user_id,
        event.session_id,
        event.quiz_id,
        event.question_id,
        event.correct,
        event.elapsed_ms,
        event.session_started_at_us,
        event.quiz_zone,
        event.time_limit_ms,
    )


class SmallLake:
    """Catalog in Postgres, files in a folder. `take` brings what history has; `settle` publishes periods."""

    def __init__(self, postgres_url: str, folder: Path) -> None:
        self.postgres_url = postgres_url
        self.warehouse = f"file://{folder}"
        self.catalog = SqlCatalog(
            names.CATALOG,
            uri=postgres_url.replace("postgresql://", "postgresql+psycopg://", 1),
            warehouse=self.warehouse,
            **{"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"},
        )
        self.catalog.create_namespace_if_not_exists(names.NAMESPACE)
        for name in TABLES:
            self.catalog.create_table_if_not_exists((names.NAMESPACE, name), schema_of(name))
        self.events: list[AnswerEvent] = []
        self.last_seq: dict[int, int] = {}

    def append(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Add rows to a table."""
        if rows:
            self.catalog.load_table((names.NAMESPACE, name)).append(
                pa.Table.from_pylist(rows, schema=schema_of(name))
            )

    def take(self) -> None:
        """Bring the answers and barriers that history has and the lake has not."""
        rows: dict[str, list[dict[str, Any]]] = {"answers": [], "barriers": []}
        with psycopg.connect(self.postgres_url) as sql:
            found = sql.execute("SELECT shard, seq, type, event FROM history ORDER BY shard, seq").fetchall()
        for shard, seq, kind, data in found:
            if seq <= self.last_seq.get(shard, 0):
                continue
            self.last_seq[shard] = seq
            beside = {"shard": shard, "seq": seq, "kafka_partition": shard, "kafka_offset": seq - 1}
            if kind == ANSWER_TYPE:
                event = decode(bytes(data))
                self.events.append(event)
                at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event.occurred_at_us)
                fields = {name: getattr(event, name) for name in AnswerEvent.__dataclass_fields__}
                fields["skill_tags"] = list(event.skill_tags)
                rows["answers"].append({**fields, "occurred_at": at, **beside})
            else:
                barrier = decode_barrier(bytes(data))
                rows["barriers"].append(
                    {
                        "event_id": barrier.event_id,
                        "zone": barrier.zone,
                        "day": date.fromisoformat(barrier.day),
                        "start_us": barrier.start_us,
                        "end_us": barrier.end_us,
                        **beside,
                    }
                )
        for name, new in rows.items():
            self.append(name, new)

    def boards(self) -> dict[tuple[str, str, str], list[model.Row]]:
        """What the model says of every board."""
        return model.all_boards([model_answer(event) for event in self.events])

    def settle(self, leave_out: Iterable[tuple[str, str]] = (), version: int = 1) -> str:
        """Publish every day, week and month the answers touch, but (period, start) of `leave_out`; the settlement's id."""
        numbers = {event.user_id: event.user_no for event in self.events}
        zones = {f"quiz:{event.quiz_id}": event.quiz_zone for event in self.events}
        left, rows, periods = set(leave_out), [], set()
        for (scope, period, start), board in self.boards().items():
            if period == "all_time" or (period, start) in left:
                continue
            zone = zones.get(scope, "UTC")
            periods.add((period, start, zone))
            head = {"period": period, "start": date.fromisoformat(start), "zone": zone, "scope": scope}
            rows += [
                {
                    **head,
                    "rank": row.rank,
                    "user_id": row.user_id,
                    "user_no": numbers[row.user_id],
                    "points": row.points,
                    "reached_at_us": row.reached_at_us,
                }
                for row in board
            ]
        days = {(start, zone) for period, start, zone in periods if period == "daily"}
        months = {(start, zone) for period, start, zone in periods if period == "monthly"}
        numbered = [{"user_no": number, "user_id": user} for user, number in numbers.items()]
        snapshots = {
            "rankings": self._replace("rankings", rows),
            "user_days": self._replace("user_days", self._user_days(days)),
            "user_months": self._replace("user_months", self._user_months(months)),
            "user_numbers": self._replace("user_numbers", numbered),
            **self._present("answers", "barriers"),
        }
        return self._publish(sorted(periods), version, snapshots)

    def _replace(self, name: str, rows: list[dict[str, Any]]) -> int:
        """Make a table hold these rows and no others; its snapshot."""
        table = self.catalog.load_table((names.NAMESPACE, name))
        write = table.overwrite if table.current_snapshot() else table.append
        write(pa.Table.from_pylist(rows, schema=schema_of(name)))
        current = self.catalog.load_table((names.NAMESPACE, name)).current_snapshot()
        assert current is not None
        return current.snapshot_id

    def _present(self, *tables: str) -> dict[str, int]:
        """The present snapshots of tables that have one."""
        found = {name: self.catalog.load_table((names.NAMESPACE, name)).current_snapshot() for name in tables}
        return {name: snapshot.snapshot_id for name, snapshot in found.items() if snapshot}

    def _user_days(self, days: set[tuple[str, str]]) -> list[dict[str, Any]]:
        """One row per (scope, day, user) of some (day, zone), summed the slow way."""
        return self._rolled_up("day", "daily", days)

    def _user_months(self, months: set[tuple[str, str]]) -> list[dict[str, Any]]:
        """One row per (scope, month, user) of some (month, zone), summed the slow way."""
        return self._rolled_up("month", "monthly", months)

    def _rolled_up(self, column: str, period: str, wanted: set[tuple[str, str]]) -> list[dict[str, Any]]:
        sums: dict[tuple[str, str, str, int], list[AnswerEvent]] = {}
        for event in self.events:
            for scope, zone in (("global", "UTC"), (f"quiz:{event.quiz_id}", event.quiz_zone)):
                start = str(model.start_of(period, model.local_day(model_answer(event), zone)))
                if (start, zone) in wanted:
                    sums.setdefault((scope, zone, start, event.user_no), []).append(event)
        return [
            {
                "scope": scope,
                "zone": zone,
                column: date.fromisoformat(start),
                "user_no": number,
                "points": sum(event.points for event in events),
                "reached_at_us": max(
                    (event.occurred_at_us for event in events if event.points), default=None
                ),
                "plays": len(events),
                "misses": sum(not event.correct for event in events),
            }
            for (scope, zone, start, number), events in sums.items()
        ]

    def _publish(self, periods: list[tuple[str, str, str]], version: int, snapshots: dict[str, int]) -> str:
        starts = [start for _, start, _ in periods]
        reason = "period_ended" if version == 1 else "late_answers"
        with psycopg.connect(self.postgres_url) as sql:
            row = sql.execute("SELECT coalesce(max(id::bigint), 0) + 1 FROM settlements").fetchone()
            assert row is not None
            ident = str(row[0])
            sql.execute(
                "INSERT INTO settlements (id, from_day, to_day, version, rule, reason, snapshots, last_seq) "
                "VALUES (%s, %s, %s, %s, 'speed@1', %s, %s, %s)",
                (
                    ident,
                    min(starts),
                    max(starts),
                    version,
                    reason,
                    json.dumps(snapshots),
                    json.dumps(self.last_seq),
                ),
            )
            for period, start, zone in periods:
                sql.execute(
                    "INSERT INTO settlement_periods (settlement_id, period, start, zone, version) VALUES (%s,%s,%s,%s,%s)",
                    (ident, period, start, zone, version),
                )
        return ident
