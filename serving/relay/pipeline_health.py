"""How the pipeline stands, every few seconds: on the relay's metrics port and, where there is a QuestDB, as rows over time.

Looked at: each shard (outbox, memory), history (the newest settlement), Kafka (consumers' lag) and Flink (does the streams
job run, its newest checkpoint, its watermark). A system that does not answer is said to be down and its figures are taken
away: an old figure would look like a good one. Nothing here is needed by play; a look that fails is tried again.

Table `pipeline_health`: one row per (look, measure, source). Looks begin on whole tens of seconds, so that several relays
write the same rows; instants become ages there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from prometheus_client import Gauge

from contracts import names, tsdb
from contracts.errors import SystemMissing
from contracts.settings import Settings
from serving.boards.outbox import Outbox

LOG = logging.getLogger(__name__)
# Often enough for a graph of a game of some minutes; a look costs about thirty calls on loopback.
EVERY_S = 10.0
# A system that takes longer is as good as away.
TIMEOUT_S = 5.0
TABLE = tsdb.PIPELINE_HEALTH.name
# Name → (what it is, what its source is). An instant ends in _timestamp_seconds.
MEASURES = {
    "outbox_entries": ("Entries in a shard's outbox", "shard"),
    "valkey_memory_bytes": ("Memory in use by a shard", "shard"),
    "valkey_memory_most_bytes": ("Memory that a shard may use; 0: unlimited", "shard"),
    "settlement_timestamp_seconds": ("When the newest settlement was published", "database"),
    "consumer_lag_records": ("Records that a consumer group has not committed yet", "group"),
    "streams_running": ("1 while the streams job runs", "job"),
    "streams_checkpoint_timestamp_seconds": ("When the newest completed checkpoint began", "job"),
    "streams_watermark_timestamp_seconds": ("The oldest watermark of the streams job", "job"),
}
_GAUGES = {name: Gauge(f"lakeboard_{name}", what, [label]) for name, (what, label) in MEASURES.items()}
_UP = Gauge("lakeboard_system_up", "1 while a system answers the relay", ["system"])
_INSTANT = "_timestamp_seconds"
# Flink's "no watermark yet" is the smallest 64-bit integer.
_NO_WATERMARK = -(2**62)


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure: a name of MEASURES (or relay_lag_seconds), what it was read of, and its value."""

    measure: str
    source: str
    value: float


def as_stored(readings: Iterable[Reading], now_s: float) -> list[Reading]:
    """As they are written to QuestDB: instants (UTC s) as ages at `now_s`, not below 0. Pure."""
    return [
        Reading(r.measure.removesuffix(_INSTANT) + "_age_seconds", r.source, max(0.0, now_s - r.value))
        if r.measure.endswith(_INSTANT)
        else r
        for r in readings
    ]


def of_shard(shard: int, outbox: Outbox) -> list[Reading]:
    """Outbox and memory of one shard. Raises a Redis error when it is away."""
    found = outbox.fullness()
    source = str(shard)
    return [
        Reading("outbox_entries", source, found.entries),
        Reading("valkey_memory_bytes", source, found.memory),
        Reading("valkey_memory_most_bytes", source, found.memory_most),
    ]


def of_settlements(postgres_url: str) -> list[Reading]:
    """When the newest settlement was published; nothing before the first. Raises psycopg.Error when Postgres is away."""
    with psycopg.connect(postgres_url, connect_timeout=int(TIMEOUT_S), autocommit=True) as sql:
        sql.execute(f"SET statement_timeout = {int(TIMEOUT_S * 1000)}")
        row = sql.execute("SELECT extract(epoch FROM max(created_at)) FROM settlements").fetchone()
    if row is None or row[0] is None:
        return []
    return [Reading("settlement_timestamp_seconds", "postgres", float(row[0]))]


def of_flink(rest_url: str) -> list[Reading]:
    """The streams job by Flink's REST API. Raises httpx.HTTPError when the JobManager is away.

    Source: https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/ (/jobs/overview, /jobs/ID/checkpoints,
    /jobs/ID/vertices/ID/watermarks).
    """
    job = names.STREAMS_JOB
    with httpx.Client(base_url=rest_url, timeout=TIMEOUT_S) as http:

        def get(path: str) -> Any:
            return http.get(path).raise_for_status().json()

        running = [
            one["jid"]
            for one in get("/jobs/overview")["jobs"]
            if one["name"] == job and one["state"] == "RUNNING"
        ]
        if not running:
            return [Reading("streams_running", job, 0)]
        found = [Reading("streams_running", job, 1)]
        completed = get(f"/jobs/{running[0]}/checkpoints")["latest"]["completed"]
        if completed:
            began_s = completed["trigger_timestamp"] / 1000
            found.append(Reading("streams_checkpoint_timestamp_seconds", job, began_s))
        marks = [
            int(one["value"])
            for vertex in get(f"/jobs/{running[0]}")["vertices"]
            for one in get(f"/jobs/{running[0]}/vertices/{vertex['id']}/watermarks")
        ]
        known = [mark for mark in marks if mark > _NO_WATERMARK]
        if known:
            found.append(Reading("streams_watermark_timestamp_seconds", job, min(known) / 1000))
    return found


class Consumers:
    """How far consumer groups are behind their topics. Joins no group: it only asks for committed offsets.

    Flink commits with its checkpoints, and a transaction's marker takes an offset that nobody commits: a lag of some
    records a partition is level.
    """

    def __init__(self, bootstrap: str, groups: Mapping[str, tuple[str, ...]]) -> None:
        self._bootstrap = bootstrap.split(",")
        self._groups = groups
        self._clients: dict[str, Any] = {}

    def readings(self) -> list[Reading]:
        """One per group whose topics exist. Raises a Kafka error when Kafka is away; the next call connects anew."""
        try:
            return [
                Reading("consumer_lag_records", group, self._behind(group, topics))
                for group, topics in self._groups.items()
            ]
        except Exception:
            self.close()
            raise

    def _behind(self, group: str, topics: tuple[str, ...]) -> int:
        from kafka import KafkaConsumer, TopicPartition  # profile `live` has no Kafka to ask

        if group not in self._clients:
            self._clients[group] = KafkaConsumer(
                bootstrap_servers=self._bootstrap,
                group_id=group,
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
        client = self._clients[group]
        parts = [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(client.partitions_for_topic(topic) or ())
        ]
        firsts, ends = client.beginning_offsets(parts), client.end_offsets(parts)
        # A group that has committed nothing has everything before it; what retention deleted is nobody's any more.
        return sum(max(0, ends[part] - max(client.committed(part) or 0, firsts[part])) for part in parts)

    def close(self) -> None:
        for client in self._clients.values():
            client.close(autocommit=False)
        self._clients.clear()


class PipelineHealth(threading.Thread):
    """Looks until `stopping` is set. lags: (shard, sink) → seconds, as the relay's loops say now."""

    def __init__(
        self,
        settings: Settings,
        stopping: threading.Event,
        lags: Callable[[], Mapping[tuple[str, str], float]],
    ) -> None:
        super().__init__(name="pipeline-health", daemon=True)
        self._stopping = stopping
        self._lags = lags
        # Name → its measures and how to read them, in the order of the way of the data.
        self._sources: dict[str, Callable[[], list[Reading]]] = {}
        self._shown: dict[str, set[tuple[str, str]]] = {}
        for shard, address in enumerate(settings.shards):
            self._sources[f"valkey_{shard}"] = _shard_source(shard, address)
        self._sources["postgres"] = lambda: of_settlements(settings.postgres_url)
        self._questdb: Any = None
        self._made = False
        if settings.kafka_bootstrap:
            consumers = Consumers(settings.kafka_bootstrap, _groups(settings))
            self._sources["kafka"] = consumers.readings
        if settings.flink_rest_url:
            self._sources["flink"] = lambda: of_flink(settings.flink_rest_url)
        if settings.questdb_http_url:
            from serving.relay.questdb import Questdb  # profile `live` has no library for it

            self._questdb = Questdb(settings.questdb_http_url)

    def run(self) -> None:
        """Look, show, write; for ever."""
        while not self._stopping.is_set():
            self.look(int(time.time() // EVERY_S * EVERY_S))
            self._stopping.wait(EVERY_S - time.time() % EVERY_S)

    def look(self, at_s: int) -> None:
        """One look at everything, written under the instant `at_s` (UTC s)."""
        found = [Reading("relay_lag_seconds", f"{s}/{sink}", lag) for (s, sink), lag in self._lags().items()]
        for system, source in self._sources.items():
            try:
                readings = source()
            except Exception as error:  # of many libraries; whatever it is, the system is not to be read
                LOG.warning("not_looked_at system=%s error=%r", system, error)
                readings = []
                _UP.labels(system).set(0)
            else:
                _UP.labels(system).set(1)
            self._show(system, readings)
            found += readings
        if self._questdb is not None:
            _UP.labels("questdb").set(self._write(as_stored(found, time.time()), at_s))

    def _show(self, system: str, readings: list[Reading]) -> None:
        shown = {(r.measure, r.source) for r in readings}
        for measure, source in self._shown.get(system, set()) - shown:
            _GAUGES[measure].remove(source)
        for reading in readings:
            _GAUGES[reading.measure].labels(reading.source).set(reading.value)
        self._shown[system] = shown

    def _write(self, readings: list[Reading], at_s: int) -> bool:
        """Whether QuestDB took the rows. What it did not take is gone: it was of a moment."""
        from serving.relay.window_rows import Row

        try:
            if not self._made:
                self._questdb.make_tables()
                self._made = True
            self._questdb.write(
                [
                    Row(
                        TABLE,
                        at_s * 1_000_000,
                        {"measure": r.measure, "source": r.source, "value": float(r.value)},
                    )
                    for r in readings
                ]
            )
        except SystemMissing as error:
            LOG.warning("pipeline_health_not_written error=%s", error)
            self._made = False  # it may come back without its tables
            return False
        return True


def _shard_source(shard: int, address: Any) -> Callable[[], list[Reading]]:
    outbox = Outbox(address)
    return lambda: of_shard(shard, outbox)


def _groups(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Consumer group → its topics: those of this deployment's parts."""
    found: dict[str, tuple[str, ...]] = {}
    if settings.flink_rest_url:
        found[names.STREAMS_JOB] = (names.ANSWERS,)
    if settings.questdb_http_url:
        from serving.relay.to_questdb import GROUP, TOPICS

        found[GROUP] = TOPICS
    return found
