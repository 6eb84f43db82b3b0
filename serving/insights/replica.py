"""What this process holds of the streams: the newest windows' top 10s and sketches, replayed from the compacted topics.

The Flink job is the master that builds and the relay merges; a replica only keeps their bytes and answers from them
(serving/insights/sketch_store, approx). One thread reads (from the start of the topics, read committed, no consumer group: every
process wants everything), any thread asks. `serving.insights.routes` and `approx_routes` are the doors.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts import names
from contracts.errors import LakeboardError, Retryable, SystemMissing

if TYPE_CHECKING:
    from serving.insights.approx import Approx
    from serving.insights.sketch_store import SketchStore

LOG = logging.getLogger(__name__)
TOPICS = (names.TOPK, names.SKETCHES, names.LATE)
MINUTE_US = 60_000_000
# Two hours of minutes of top 10s.
MAX_WINDOWS = 120
# Days of counts of skipped records: enough to see when it began.
MAX_HEALTH_DAYS = 7
RETRY_S = 2.0
# A batch is folded under one lock, so that nobody sees half of what the relay wrote at once; a question waits as long.
POLL_RECORDS = 200
LAG_EVERY_S = 2.0
# Farther behind than this a replica does not answer: records of half an hour of minutes, or Kafka silent for so long.
MOST_BEHIND = 500
MOST_SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class Lag:
    """records: not yet read. seen_s: seconds since the reader last heard from Kafka; None before the first time."""

    records: int | None
    seen_s: float | None


class Windows:
    """The state, without I/O: `apply` folds records in any order, a repeat changes nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._top: dict[str, dict[int, dict[int, dict[str, Any]]]] = {"quizzes": {}, "users": {}}
        self._health: dict[int, dict[str, int]] = {}
        self.skipped = 0

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Fold one record of `topk.v1` in. One that is not ours is counted in `skipped`, never raised."""
        try:
            self._apply_top(json.loads(key or b""), value)
        except (ValueError, KeyError, TypeError) as error:
            self.skipped += 1
            LOG.warning("window_record_skipped error=%s", type(error).__name__)

    def _apply_top(self, key: dict[str, Any], value: bytes | None) -> None:
        start, place = int(key["window_start_us"]), int(key["place"])
        if key["kind"] == "health":
            self._apply_health(start, value)
            return
        if key["level"] != "minute" or key["kind"] not in self._top:
            return
        with self._lock:
            windows = self._top[key["kind"]]
            if value is None:
                windows.get(start, {}).pop(place, None)
                return
            windows.setdefault(start, {})[place] = json.loads(value)
            for old in sorted(windows)[:-MAX_WINDOWS]:
                del windows[old]

    def _apply_health(self, day_us: int, value: bytes | None) -> None:
        row = json.loads(value) if value else None
        with self._lock:
            if row is None:
                self._health.pop(day_us, None)
                return
            self._health.setdefault(day_us, {})[str(row["subject_id"])] = int(row["amount"])
            for old in sorted(self._health)[:-MAX_HEALTH_DAYS]:
                del self._health[old]

    def health(self) -> dict[int, dict[str, int]]:
        """Start of a UTC day (µs) → reason → records of `answers.v1` that the Flink job skipped; newest days only."""
        with self._lock:
            return {day: dict(counts) for day, counts in sorted(self._health.items())}

    def top(self, kind: str, limit: int) -> list[dict[str, Any]]:
        """The newest `limit` windows of `kind` (quizzes, users), newest first, each with its entries by place."""
        with self._lock:
            windows = self._top[kind]
            found = []
            for start in sorted(windows, reverse=True)[:limit]:
                rows = [windows[start][place] for place in sorted(windows[start])]
                if rows:
                    found.append({"start_us": start, "end_us": int(rows[0]["window_end_us"]), "rows": rows})
            return found


class SketchReplica:
    """A thread that keeps `windows` up to date. `start`, then ask; `stop` ends the thread within about a second."""

    def __init__(self, bootstrap: str) -> None:
        # Profile `live` has no datasketches.
        from serving.insights.approx import Approx
        from serving.insights.sketch_store import SketchStore

        self.windows = Windows()
        self.sketches: SketchStore = SketchStore()
        self.approx: Approx = Approx(self.sketches)
        self._bootstrap = bootstrap.split(",")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sketch-replica", daemon=True)
        self._records: int | None = None
        self._seen: float | None = None
        # (topic, partition) → next offset: what was read once is not read again after an outage, which would bring
        # older versions back for as long as the reading takes.
        self._next: dict[tuple[str, int], int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    @property
    def lag(self) -> Lag:
        """How far behind the topics this replica is."""
        seen = self._seen
        return Lag(self._records, None if seen is None else time.monotonic() - seen)

    def check(self) -> None:
        """Raises Retryable(replica_behind) where this process is too far behind to answer."""
        lag = self.lag
        if lag.records is None or lag.seen_s is None:
            detail = "this process has not read the streams yet"
        elif lag.records > MOST_BEHIND:
            detail = f"this process is {lag.records} records behind the streams"
        elif lag.seen_s > MOST_SILENT_S:
            detail = f"this process last heard from Kafka {lag.seen_s:.0f} s ago"
        else:
            return
        raise Retryable("replica_behind", detail, next_step="ask again shortly; ./lakeboard status: Kafka")

    def _run(self) -> None:
        from kafka.errors import KafkaError

        while not self._stopping.is_set():
            try:
                self._follow()
            except (KafkaError, OSError, LakeboardError) as error:
                LOG.warning("sketch_replica_waits error=%r", error)
                self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        """Read from the start, or from where it was, until stopped.

        There is no lag to tell before the ends that the topics had at first are reached: half of the sketches are none.
        """
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        try:
            partitions = []
            for topic in TOPICS:
                numbers = consumer.partitions_for_topic(topic)
                if not numbers:
                    raise SystemMissing("system_missing", f"topic {topic} does not exist yet")
                partitions += [TopicPartition(topic, number) for number in numbers]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            for part in partitions:
                known = self._next.get((part.topic, part.partition))
                if known is None or known > ends[part]:
                    consumer.seek_to_beginning(part)
                else:
                    consumer.seek(part, known)
            goal, checked = ends, 0.0
            while not self._stopping.is_set():
                polled = consumer.poll(timeout_ms=500, max_records=POLL_RECORDS)
                for records in polled.values():
                    self._fold(records)
                if time.monotonic() - checked > LAG_EVERY_S:
                    checked = time.monotonic()
                    ends = consumer.end_offsets(partitions)  # raises when Kafka is away
                    positions = {part: consumer.position(part) for part in partitions}
                    self._next = {(part.topic, part.partition): at for part, at in positions.items()}
                    if self._records is None and any(positions[part] < goal[part] for part in partitions):
                        continue
                    self._records = sum(max(0, ends[part] - positions[part]) for part in partitions)
                    self._seen = time.monotonic()
        finally:
            consumer.close()

    def _fold(self, records: list[Any]) -> None:
        """Records of one partition, in order."""
        with self.sketches.lock:
            for record in records:
                if record.topic == names.TOPK:
                    self.windows.apply(record.key, record.value)
                elif record.topic == names.SKETCHES:
                    self.sketches.apply(record.key, record.value, record.offset)
                else:
                    self.sketches.apply_late(record.value, record.offset)
