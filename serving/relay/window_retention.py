"""How long `topk.v2` and `trending.v1` keep a window: tombstones for what is older. Of sketches: serving/relay/sketch_levels.

Windows are small and kept 2 days. Nothing is deleted that QuestDB has not taken: a tombstone needs an offset below the
one that `to_questdb` has committed. The topic's cleaner removes the bytes some time later. `topk.quizzes.v1`, which may be
large and which no replica loads, is cut by Kafka alone (2 days).

`expired` decides; `sweep` reads the topics once and writes the tombstones. Deleting twice, or from two processes,
changes nothing. A window that the job writes again is deleted by the next sweep.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from contracts import names
from contracts.sketched import HOUR_US

LOG = logging.getLogger(__name__)
TOPICS = (names.TOPK, names.TRENDING)
# A QuestDB that is made anew can be filled from the topic for as long.
KEEP_TOP_US = 48 * HOUR_US
# Windows of a day and counts of skipped records: few rows a day.
KEEP_HEALTH_US = 8 * 24 * HOUR_US
# Sweeping reads the topics: more often costs that, more seldom leaves as many minutes more to load.
EVERY_S = 600.0
# Tombstones of one sweep: hours of windows (a hundred rows a minute); what is left goes in the next.
MOST_TOMBSTONES = 50_000
# A sweep ends here, so that the caller's heartbeat goes on; it is repeated from the start.
MOST_S = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest record of one key: where it lies and whether it is a tombstone."""

    partition: int
    offset: int
    gone: bool


def keep_us(key: bytes) -> tuple[int, int] | None:
    """(start of the key's window, how long to keep it from there), None for a key that is not ours."""
    try:
        parsed = json.loads(key)
        start = int(parsed["window_start_us"])
        # A day's counts are rewritten until it ends, and read for a week.
        return start, KEEP_HEALTH_US if parsed.get("level") == "day" else KEEP_TOP_US
    except (ValueError, KeyError, TypeError):
        return None


def expired(seen: dict[bytes, Seen], written: dict[int, int], now_us: int) -> Iterable[tuple[int, bytes]]:
    """(partition, key) of what is to be deleted: there, older than it is kept, and below `written`.

    written: partition → the first offset that QuestDB may not have.
    """
    for key, record in seen.items():
        kept = keep_us(key)
        if kept is None or record.gone or record.offset >= written.get(record.partition, 0):
            continue
        start, keep = kept
        if start + keep < now_us:
            yield record.partition, key


def _read(consumer: KafkaConsumer, topic: str, deadline: float) -> dict[bytes, Seen]:
    """The newest record of each key, up to the topic's end as it is now. Raises KafkaTimeoutError past `deadline`."""
    parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts) if parts else {}
    seen: dict[bytes, Seen] = {}
    while any(consumer.position(part) < ends[part] for part in parts):
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"{topic} is not read to its end in {MOST_S:g} s")
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                if record.key is not None:
                    seen[record.key] = Seen(record.partition, record.offset, record.value is None)
    return seen


def sweep(bootstrap: str, group: str, now_us: int) -> int:
    """Delete what has expired at `now_us`; number of tombstones written. Raises a Kafka error when Kafka is away.

    group: the consumer group that writes to QuestDB. Cost: one read of the topics, about a second.
    """
    servers, deadline = bootstrap.split(","), time.monotonic() + MOST_S
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    producer = KafkaProducer(bootstrap_servers=servers, acks="all")
    count = 0
    try:
        for topic in TOPICS:
            seen = _read(consumer, topic, deadline)
            numbers = {record.partition for record in seen.values()}
            written = {number: consumer.committed(TopicPartition(topic, number)) or 0 for number in numbers}
            for partition, key in expired(seen, written, now_us):
                if count < MOST_TOMBSTONES:
                    producer.send(topic, key=key, value=None, partition=partition)
                    count += 1
        producer.flush(timeout=MOST_S)
    finally:
        producer.close(timeout=5)
        consumer.close(autocommit=False)
    LOG.info("windows_expired tombstones=%d", count)
    return count
