"""Sink: the streams' windows → QuestDB, for dashboards over time. Consumes `topk.v1` and `sketches.v1`, read committed.

    python -m serving.relay.to_questdb      settings from LAKEBOARD_*; ends by SIGTERM

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
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import httpx
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from contracts import names
from contracts.errors import BadInput, SystemMissing
from contracts.settings import from_mapping
from serving.health import HEARTBEAT_S, touch_heartbeat
from serving.relay import window_retention
from sketches.count_min import CountMin

LOG = logging.getLogger(__name__)
GROUP = "lakeboard-to-questdb"
NAME = "to_questdb"
RETRY_S = 2.0
# Rows of one request: a window has at most 30; larger only delays the commit of a long catch-up.
MAX_RECORDS = 500
# After a catch-up has committed something, and soon enough for a process that is restarted often.
FIRST_SWEEP_S = 30.0
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


def _symbol(text: str) -> str:
    """A tag value of the line protocol; ids need no escape, anything else is escaped."""
    return "".join("\\" + char if char in ",= \\" else char for char in text.replace("\n", " "))


def _top_line(row: dict[str, Any]) -> str:
    reached = row.get("reached_at_us")
    fields = (
        f"place={int(row['place'])}i,amount={int(row['amount'])}i,window_end={int(row['window_end_us'])}t"
    )
    if reached is not None:
        fields += f",reached_at={int(reached)}t"
    tags = f"kind={_symbol(row['kind'])},subject_id={_symbol(row['subject_id'])}"
    return f"top_k,{tags} {fields} {int(row['window_start_us'])}"


def _sketch_lines(row: dict[str, Any]) -> Iterable[str]:
    sketch = CountMin.from_bytes(base64.b64decode(row["sketch"], validate=True))
    for question in row["heaviest"] or ():
        found = sketch.estimate("question", question)
        yield (
            f"missed_questions,question_id={_symbol(question)} estimate={found.value}i,lower={found.lower}i,"
            f"upper={found.upper}i,bound={found.bound}i,confidence={found.confidence},total={sketch.total}i,"
            f"answers={int(row['answers'])}i,window_end={int(row['window_end_us'])}t {int(row['window_start_us'])}"
        )


def lines_of(records: Iterable[Record]) -> tuple[list[str], int]:
    """Line protocol (timestamps in µs) of records, and how many fitted nothing and were skipped. Pure."""
    lines: list[str] = []
    skipped = 0
    for record in records:
        if record.value is None:
            continue
        try:
            row = json.loads(record.value)
            lines += [_top_line(row)] if record.topic == names.TOPK else list(_sketch_lines(row))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, BadInput):
            skipped += 1
    return lines, skipped


class Questdb:
    """Tables and rows over QuestDB's HTTP door. Raises SystemMissing when it is away."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)

    def _call(self, call: Callable[[], httpx.Response]) -> None:
        try:
            call().raise_for_status()
        except httpx.HTTPStatusError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error.response.text[:300]}") from error
        except httpx.HTTPError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error!r}") from error

    def make_tables(self) -> None:
        """Create what is missing; safe to repeat."""
        for table in TABLES:
            self._call(lambda table=table: self._client.get("/exec", params={"query": table}))  # type: ignore[misc]

    def write(self, lines: list[str]) -> None:
        """Write rows; a row that is there already is replaced by its equal."""
        if lines:
            body = "\n".join(lines) + "\n"
            self._call(lambda: self._client.post("/write", params={"precision": "u"}, content=body.encode()))

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
            lines, skipped = lines_of(batch)
            questdb.write(lines)  # 2
            consumer.commit()  # 3
            LOG.info("windows_written rows=%d records=%d skipped=%d", len(lines), len(batch), skipped)
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


def main() -> None:
    """The process of profile `full`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = from_mapping(os.environ)
    if not settings.kafka_bootstrap or not settings.questdb_http_url:
        raise SystemExit("to_questdb needs LAKEBOARD_KAFKA_BOOTSTRAP and LAKEBOARD_QUESTDB_HTTP_URL")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    run(
        settings.kafka_bootstrap,
        settings.questdb_http_url,
        stopping,
        lambda: touch_heartbeat(settings.run_dir, NAME),
    )


if __name__ == "__main__":
    main()
