"""Sink: the streams' windows → QuestDB, for dashboards over time. Consumes `topk.v1` and `sketches.v1`, read committed.

Tables `top_k` (one row per window, kind, place; kind health: records skipped in a day, by reason) and
`missed_questions` (one row per window and heavy question, with its estimate and bound) have dedup upsert keys, and
offsets are committed after QuestDB took the rows: at least once, and a repeat changes nothing. Rebuild: reset the
consumer group to the start of the topics. Between batches it deletes from the topics what QuestDB has and nobody
loads any more (serving/relay/window_retention).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from questdb import QuestDBError, Sender, TimestampMicros, TimestampNanos

from contracts import names
from contracts.errors import BadInput, SystemMissing
from serving.health import HEARTBEAT_S
from serving.relay import window_retention
from sketches.count_min import CountMin

LOG = logging.getLogger(__name__)
GROUP = "lakeboard-to-questdb"
RETRY_S = 2.0
# Rows of one request: a window has at most 30; larger only delays the commit of a long catch-up.
MAX_RECORDS = 500
# After a catch-up has committed something, and soon enough for a process that is restarted often.
FIRST_SWEEP_S = 30.0
# Columns that are instants.
TIMES = frozenset({"window_end", "reached_at"})
TABLES = (
    "create table if not exists top_k (ts timestamp, kind symbol, place int, subject_id symbol, amount long, "
    "reached_at timestamp, window_end timestamp) timestamp(ts) partition by month wal dedup upsert keys(ts, kind, place)",
    "create table if not exists missed_questions (ts timestamp, question_id symbol, estimate long, lower long, "
    "upper long, bound long, confidence double, total long, answers long, window_end timestamp) "
    "timestamp(ts) partition by month wal dedup upsert keys(ts, question_id)",
)


class Record(Protocol):
    """What is needed of a Kafka record."""

    topic: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table of ours; `ts_us` and columns named in TIMES are UTC µs."""

    table: str
    ts_us: int
    symbols: dict[str, str | None]
    columns: dict[str, int | float]


def _top_row(row: dict[str, Any]) -> Row:
    columns: dict[str, int | float] = {
        "place": int(row["place"]),
        "amount": int(row["amount"]),
        "window_end": int(row["window_end_us"]),
    }
    if row.get("reached_at_us") is not None:
        columns["reached_at"] = int(row["reached_at_us"])
    symbols: dict[str, str | None] = {"kind": str(row["kind"]), "subject_id": str(row["subject_id"])}
    return Row("top_k", int(row["window_start_us"]), symbols, columns)


def _sketch_rows(row: dict[str, Any]) -> Iterable[Row]:
    if (row["kind"], row["level"]) != ("missed_questions", "minute"):
        return
    sketch = CountMin.from_bytes(base64.b64decode(row["sketch"], validate=True))
    for question in row["heaviest"] or ():
        found = sketch.estimate("question", question)
        columns: dict[str, int | float] = {
            "estimate": found.value,
            "lower": found.lower,
            "upper": found.upper,
            "bound": found.bound,
            "confidence": found.confidence,
            "total": sketch.total,
            "answers": int(row["answers"]),
            "window_end": int(row["window_end_us"]),
        }
        yield Row("missed_questions", int(row["window_start_us"]), {"question_id": question}, columns)


def rows_of(records: Iterable[Record]) -> tuple[list[Row], int]:
    """The rows of records, and how many fitted nothing and were skipped. Pure."""
    rows: list[Row] = []
    skipped = 0
    for record in records:
        if record.value is None:
            continue
        try:
            parsed = json.loads(record.value)
            rows += [_top_row(parsed)] if record.topic == names.TOPK else list(_sketch_rows(parsed))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, BadInput):
            skipped += 1
    return rows, skipped


class Questdb:
    """Tables over QuestDB's HTTP door, rows over its line protocol. Raises SystemMissing when it is away."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)
        # One flush a batch, by hand: its offsets are committed after it. `follow` is called again after an error.
        self._conf = f"http::addr={urlsplit(url).netloc};auto_flush=off;retry_timeout=0;"

    def make_tables(self, tables: Sequence[str] = TABLES) -> None:
        """Create what is missing; safe to repeat."""
        for table in tables:
            try:
                self._client.get("/exec", params={"query": table}).raise_for_status()
            except httpx.HTTPStatusError as error:
                raise SystemMissing("system_missing", f"QuestDB: {error.response.text[:300]}") from error
            except httpx.HTTPError as error:
                raise SystemMissing("system_missing", f"QuestDB: {error!r}") from error

    def write(self, rows: list[Row]) -> None:
        """Write rows; a row that is there already is replaced by its equal."""
        if not rows:
            return
        try:
            with Sender.from_conf(self._conf) as sender:
                for row in rows:
                    columns: dict[str, Any] = {
                        name: TimestampMicros(int(value)) if name in TIMES else value
                        for name, value in row.columns.items()
                    }
                    at = TimestampNanos(row.ts_us * 1000)
                    sender.row(row.table, symbols=row.symbols, columns=columns, at=at)
                sender.flush()
        except QuestDBError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error}") from error

    def close(self) -> None:
        self._client.close()


def follow(bootstrap: str, questdb: Questdb, stopping: threading.Event, beat: Callable[[], None]) -> None:
    """Copy until `stopping`. Raises SystemMissing or a Kafka error; the caller waits and calls again.

    1 read a batch · 2 write its rows · 3 commit its offsets. A crash after 2 writes the same rows again.
    """
    sweep_at = time.monotonic() + FIRST_SWEEP_S
    questdb.make_tables()
    consumer = KafkaConsumer(
        names.TOPK,
        names.SKETCHES,
        bootstrap_servers=bootstrap.split(","),
        group_id=GROUP,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        max_poll_records=MAX_RECORDS,
    )
    try:
        while not stopping.is_set():
            beat()
            if time.monotonic() >= sweep_at:
                sweep_at = time.monotonic() + window_retention.EVERY_S
                _sweep(bootstrap)
            batch = [record for records in consumer.poll(timeout_ms=1000).values() for record in records]  # 1
            if not batch:
                continue
            rows, skipped = rows_of(batch)
            questdb.write(rows)  # 2
            consumer.commit()  # 3
            LOG.info("windows_written rows=%d records=%d skipped=%d", len(rows), len(batch), skipped)
    finally:
        consumer.close(autocommit=False)


def _sweep(bootstrap: str) -> None:
    """Delete expired windows; where that fails they stay until the next time, and rows go on."""
    try:
        window_retention.sweep(bootstrap, GROUP, time.time_ns() // 1000)
    except KafkaError as error:
        LOG.warning("windows_not_expired error=%r", error)


def run(bootstrap: str, questdb_http_url: str, stopping: threading.Event, beat: Callable[[], None]) -> None:
    """`follow` for ever: while Kafka or QuestDB is away it waits, beats and tries again."""
    while not stopping.is_set():
        questdb = Questdb(questdb_http_url)
        try:
            follow(bootstrap, questdb, stopping, beat)
        except (SystemMissing, KafkaError, OSError) as error:
            LOG.warning("to_questdb_waits error=%r", error)
            beat()
            stopping.wait(min(RETRY_S, HEARTBEAT_S))
        finally:
            questdb.close()
