"""Sink: the streams' windows → QuestDB, for dashboards over time. Consumes their topics, read committed.

The tables are in contracts/tsdb.py. They have dedup upsert keys, and offsets are committed after QuestDB took the rows:
at least once, and a repeat changes nothing. Rebuild: serving/relay/rebuild_questdb. Between batches it deletes from the
topics what QuestDB has and nobody loads any more (serving/relay/window_retention).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from contracts import names
from contracts.errors import SystemMissing
from serving.health import HEARTBEAT_S
from serving.relay import window_retention
from serving.relay.questdb import Questdb
from serving.relay.window_rows import rows_of

LOG = logging.getLogger(__name__)
GROUP = names.TO_QUESTDB_GROUP
TOPICS = (names.TOPK, names.TOPK_QUIZZES, names.TRENDING, names.SKETCHES)
RETRY_S = 2.0
# Records of one request. A minute of a thousand quizzes is 10,000 rows: smaller batches cost a round trip each, larger
# ones delay the commit of a long catch-up.
MAX_RECORDS = 5_000
# After a catch-up has committed something, and soon enough for a process that is restarted often.
FIRST_SWEEP_S = 30.0


def follow(bootstrap: str, questdb: Questdb, stopping: threading.Event, beat: Callable[[], None]) -> None:
    """Copy until `stopping`. Raises SystemMissing or a Kafka error; the caller waits and calls again.

    1 read a batch · 2 write its rows · 3 commit its offsets. A crash after 2 writes the same rows again.
    """
    sweep_at = time.monotonic() + FIRST_SWEEP_S
    questdb.make_tables()
    consumer = KafkaConsumer(
        *TOPICS,
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
