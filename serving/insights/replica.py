"""What this process holds of the streams: the newest windows' top 10s and sketches, replayed from the compacted topics.

The Flink job is the master that builds; a replica only keeps the master's bytes and merges them for a question. One
thread reads (from the start of the topics, read committed, no consumer group: every process wants everything), any
thread asks. `serving.insights.routes` is the door.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts import names
from contracts.errors import BadInput, LakeboardError, SystemMissing

if TYPE_CHECKING:
    from sketches.count_min import CountMin

LOG = logging.getLogger(__name__)
TOPICS = (names.TOPK, names.SKETCHES, names.LATE)
MINUTE_US = 60_000_000
# Two hours of minutes, as the topic keeps them: 13 MB of Count-Min. A month of minutes would be 4.7 GB.
MAX_WINDOWS = 120
# Late answers kept for widening bounds; beyond this the oldest minutes' counts are dropped with their windows.
MAX_LATE = 100_000
# Days of counts of skipped records: enough to see when it began.
MAX_HEALTH_DAYS = 7
RETRY_S = 2.0
LAG_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class RangeEstimate:
    """How often one key occurred in [from_us, to_us), whole windows. truth >= lower at `confidence`; truth <= upper.

    bound = ε · total + late: how far truth and value may lie apart. late = misses that came after their window closed
    and are in no sketch, so the truth may exceed `value` by as many. windows = sketches merged.
    """

    value: int
    lower: int
    upper: int
    bound: int
    confidence: float
    total: int
    late: int
    windows: int
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Lag:
    """records: not yet read. seen_s: seconds since the reader last heard from Kafka; None before the first time."""

    records: int | None
    seen_s: float | None


class Windows:
    """The state, without I/O: `apply` folds records in any order, a repeat changes nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sketches: dict[int, CountMin] = {}
        self._ends: dict[int, int] = {}
        self._top: dict[str, dict[int, dict[int, dict[str, Any]]]] = {"quizzes": {}, "users": {}}
        self._late: dict[str, tuple[int, str]] = {}
        self._health: dict[int, dict[str, int]] = {}
        self.skipped = 0

    def apply(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """Fold one record in. A record that is not one of ours is counted in `skipped`, never raised."""
        try:
            if topic == names.LATE:
                self._apply_late(json.loads(value or b""))
            elif topic == names.SKETCHES:
                self._apply_sketch(json.loads(key or b""), value)
            elif topic == names.TOPK:
                self._apply_top(json.loads(key or b""), value)
        except (ValueError, KeyError, TypeError, binascii.Error, BadInput) as error:
            self.skipped += 1
            LOG.warning("window_record_skipped topic=%s error=%s", topic, type(error).__name__)

    def _apply_sketch(self, key: dict[str, Any], value: bytes | None) -> None:
        from sketches.count_min import CountMin  # the environment of profile `live` has no datasketches

        if (key["kind"], key["level"]) != ("missed_questions", "minute"):
            return
        start = int(key["window_start_us"])
        with self._lock:
            if value is None:
                self._sketches.pop(start, None)
                return
            row = json.loads(value)
            self._sketches[start] = CountMin.from_bytes(base64.b64decode(row["sketch"], validate=True))
            self._ends[start] = int(row["window_end_us"])
            for old in sorted(self._sketches)[:-MAX_WINDOWS]:
                del self._sketches[old], self._ends[old]

    def _apply_top(self, key: dict[str, Any], value: bytes | None) -> None:
        start, place = int(key["window_start_us"]), int(key["place"])
        if key["kind"] == "health":
            self._apply_health(start, value)
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

    def _apply_late(self, row: dict[str, Any]) -> None:
        if row["correct"] is not False:
            return
        with self._lock:
            self._late[str(row["event_id"])] = (int(row["occurred_at_us"]), str(row["question_id"]))
            while len(self._late) > MAX_LATE:
                del self._late[next(iter(self._late))]

    @property
    def as_of_us(self) -> int | None:
        """End of the newest window held, or None."""
        with self._lock:
            return max(self._ends.values(), default=None)

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

    def estimate(self, key: str, from_us: int, to_us: int) -> RangeEstimate | None:
        """Missed answers of question `key` in the windows wholly inside [from_us, to_us), or None if none is held."""
        from sketches.count_min import CountMin

        with self._lock:
            starts = [start for start in self._sketches if from_us <= start and self._ends[start] <= to_us]
            if not starts:
                return None
            first, end = min(starts), max(self._ends[start] for start in starts)
            sample = self._sketches[first]
            merged = CountMin.from_error(sample.epsilon, sample.delta, seed=sample.seed)
            for start in starts:
                merged.merge(self._sketches[start])
            # A late answer of any question may have been this one's neighbour in no sketch: only this one's count.
            late = sum(1 for at, question in self._late.values() if first <= at < end and question == key)
        found = merged.estimate("question", key)
        return RangeEstimate(
            found.value,
            found.lower,
            found.upper + late,
            found.bound + late,
            found.confidence,
            merged.total,
            late,
            len(starts),
            first,
            end,
        )


class SketchReplica:
    """A thread that keeps `windows` up to date. `start`, then ask; `stop` ends the thread within about a second."""

    def __init__(self, bootstrap: str) -> None:
        self.windows = Windows()
        self._bootstrap = bootstrap.split(",")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sketch-replica", daemon=True)
        self._records: int | None = None
        self._seen: float | None = None

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

    def _run(self) -> None:
        from kafka.errors import KafkaError

        while not self._stopping.is_set():
            try:
                self._follow()
            except (KafkaError, OSError, LakeboardError) as error:
                LOG.warning("sketch_replica_waits error=%r", error)
                self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        """Read from the start until stopped. Starting again is harmless: every record is an upsert."""
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
            consumer.seek_to_beginning(*partitions)
            checked = 0.0
            while not self._stopping.is_set():
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        self.windows.apply(record.topic, record.key, record.value)
                if time.monotonic() - checked > LAG_EVERY_S:
                    checked = time.monotonic()
                    ends = consumer.end_offsets(partitions)  # raises when Kafka is away
                    self._records = sum(max(0, ends[part] - consumer.position(part)) for part in partitions)
                    self._seen = time.monotonic()
        finally:
            consumer.close()
