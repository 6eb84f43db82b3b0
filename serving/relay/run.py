"""The relay process: one loop a shard, Kafka beside it where it is configured, sealing, heartbeat and metrics.

    python -m serving.relay.run [--metrics-port N [--metrics-host ADDRESS]]      settings from LAKEBOARD_* (contracts/settings.py)

Several may run: the leases let one lead each shard. A shard whose record is broken stops and alarms; others go on.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
import redis.exceptions
from prometheus_client import Gauge, start_http_server
from sqlalchemy.exc import OperationalError

from contracts.errors import BrokenContract, LakeboardError
from contracts.settings import Settings, ShardAddress, from_mapping
from serving.boards.outbox import Outbox
from serving.boards.shards import Shards
from serving.metrics import RELAY_LAG
from serving.migrations.upgrade import upgrade
from serving.play.importing import clock_us
from serving.play.sealing import Sealer
from serving.relay.kafka_loop import KafkaLoop
from serving.relay.lag import Lag
from serving.relay.pipeline_health import PipelineHealth
from serving.relay.relay import ShardRelay
from serving.relay.table_loop import CORRECTIONS, ENROLMENTS, TableLoop

LOG = logging.getLogger(__name__)
# A step costs nearly the same for one entry as for many: with nothing left it waits for more.
_IDLE_S = 0.05
_RETRY_S = 0.5
_BEAT_S = 2.0
# A loop that has not turned for this long is stalled: no heartbeat, so the supervisor restarts the process.
_STALLED_S = 60.0
# Kafka's client waits up to a minute in one call while the broker is away, and a transaction takes two.
_KAFKA_STALLED_S = 300.0
_SEAL_EVERY_S = 30.0
_BEHIND = Gauge("lakeboard_relay_behind", "Entries not yet in a sink", ["shard", "sink"])
_ALARM = Gauge("lakeboard_relay_alarm", "1 while a shard's record is broken", ["shard"])
_REPLICAS_AWAY = Gauge(
    "lakeboard_replicas_away",
    "1 while a shard's replicas lack its newest entries: nothing is acknowledged",
    ["shard"],
)


class RelayLoop(threading.Thread):
    """Turns one shard's relay until `stopping` is set."""

    def __init__(self, relay: ShardRelay, stopping: threading.Event) -> None:
        super().__init__(name=f"relay-{relay.shard}", daemon=True)
        self.relay = relay
        self._stopping = stopping

    def run(self) -> None:
        """Step; pause when idle; retry what is away; alarm on what is broken."""
        progress = self.relay.progress
        while not self._stopping.is_set():
            try:
                moved = self.relay.step()
                progress.alarm = ""
                left = progress.last_seq - min(progress.history, progress.global_boards)
                pause = 0.0 if moved and left > 0 else _IDLE_S if progress.leading else _RETRY_S
            except BrokenContract as error:
                if not progress.alarm:
                    LOG.error(
                        "record_broken shard=%d code=%s detail=%s", self.relay.shard, error.code, error.detail
                    )
                progress.alarm, pause = error.code, 5.0
            except (redis.exceptions.RedisError, psycopg.OperationalError, LakeboardError, OSError) as error:
                LOG.warning("sink_away shard=%d error=%s", self.relay.shard, error)
                progress.turned_at = time.monotonic()
                pause = _RETRY_S
            if pause:
                self._stopping.wait(pause)
        self.relay.close()


class Reports:
    """What others see of the relay: metrics on its port, and each led shard's lag on the shard, for the api."""

    def __init__(self, loops: list[RelayLoop], addresses: Sequence[ShardAddress], with_kafka: bool) -> None:
        self._loops = loops
        self._lags = [Lag() for _ in loops]
        # Connections of its own: the loops' belong to their threads.
        self._shards = [Outbox(address) for address in addresses]
        self._with_kafka = with_kafka
        self._seconds: dict[tuple[str, str], float] = {}

    def seconds(self) -> dict[tuple[str, str], float]:
        """(shard, sink) → lag of the shards that this process led when it last looked."""
        return self._seconds

    def publish(self) -> None:
        """Set the gauges and leave the lags on the shards; a shard that is away is left out."""
        now = time.monotonic()
        found: dict[tuple[str, str], float] = {}
        for loop, lag, outbox in zip(self._loops, self._lags, self._shards, strict=True):
            progress, shard = loop.relay.progress, str(loop.relay.shard)
            _ALARM.labels(shard).set(bool(progress.alarm or progress.kafka_alarm))
            _REPLICAS_AWAY.labels(shard).set(progress.replicas_away)
            if not progress.leading:
                continue
            lag.look(now, progress.last_seq)
            positions = {"history": progress.history, "global_boards": progress.global_boards}
            if self._with_kafka:
                positions["kafka"] = progress.kafka
            seconds = {sink: round(lag.seconds(now, at), 3) for sink, at in positions.items()}
            found |= {(shard, sink): value for sink, value in seconds.items()}
            for sink, at in positions.items():
                _BEHIND.labels(shard, sink).set(max(0, progress.last_seq - at))
                RELAY_LAG.labels(shard, sink).set(seconds[sink])
            try:
                outbox.report_lag(json.dumps(seconds))
            except redis.exceptions.RedisError as error:
                LOG.warning("lag_not_reported shard=%s error=%s", shard, error)
        self._seconds = found  # replaced whole: another thread reads it


def _touch(run_dir: str, loops: list[RelayLoop], others: list[threading.Thread], with_kafka: bool) -> None:
    """Tell the supervisor that every loop turns; a stalled one costs a restart, which loses nothing."""
    now = time.monotonic()
    turning = all(
        loop.is_alive()
        and now - loop.relay.progress.turned_at < _STALLED_S
        and (not with_kafka or now - loop.relay.progress.kafka_turned_at < _KAFKA_STALLED_S)
        for loop in loops
    )
    # A thread that has died of an unknown error comes back with a restart, like a stalled one.
    if run_dir and turning and all(thread.is_alive() for thread in others):
        path = Path(run_dir) / "heartbeats" / "relay"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _questdb(settings: Settings, stopping: threading.Event) -> list[threading.Thread]:
    """The thread that takes the streams' windows to QuestDB, where Kafka and QuestDB are configured."""
    if not settings.kafka_bootstrap or not settings.questdb_http_url:
        return []
    from serving.relay import (
        to_questdb,
    )  # profile `live` has neither its libraries nor its systems

    arguments = (settings.kafka_bootstrap, settings.questdb_http_url, stopping, lambda: None)
    return [threading.Thread(target=to_questdb.run, args=arguments, name="questdb", daemon=True)]


def _sketches(
    settings: Settings, stopping: threading.Event, ready: Callable[[], bool]
) -> list[threading.Thread]:
    """The loop that merges sketches and lets old ones go, where Kafka and the library of sketches are there."""
    if not settings.kafka_bootstrap or importlib.util.find_spec("datasketches") is None:
        return []
    from serving.relay.sketch_loop import SketchLoop
    from serving.relay.to_questdb import GROUP

    group = GROUP if settings.questdb_http_url else None
    return [SketchLoop(settings.postgres_url, settings.kafka_bootstrap, group, stopping, ready)]


async def _seal(settings: Settings, loops: list[RelayLoop], stopping: threading.Event) -> None:
    """Seal quiet sessions of the shards that this process leads."""
    shards = Shards(settings.shards)

    async def position(shard: int) -> int:
        return loops[shard].relay.progress.history

    sealer = Sealer(shards, settings.postgres_url, clock_us, position)
    while not stopping.is_set():
        for loop in loops:
            if loop.relay.progress.leading:
                try:
                    count = await sealer.seal_quiet(loop.relay.shard)
                    if count:
                        LOG.info("sessions_sealed shard=%d count=%d", loop.relay.shard, count)
                except (redis.exceptions.RedisError, psycopg.Error, LakeboardError, OSError) as error:
                    LOG.warning("sealing_waits shard=%d error=%s", loop.relay.shard, error)
        waited = 0.0
        while waited < _SEAL_EVERY_S and not stopping.is_set():
            await asyncio.sleep(0.25)
            waited += 0.25
    await shards.close()


def run(
    settings: Settings, stopping: threading.Event, after: Callable[[str], None] = lambda step: None
) -> None:
    """Run every loop until `stopping` is set. `after` is told each finished step."""
    upgraded = threading.Event()
    upgrading = threading.Thread(
        target=upgrade_when_there, args=(settings.postgres_url, stopping, upgraded), daemon=True
    )
    upgrading.start()
    loops = [
        RelayLoop(
            ShardRelay(
                shard,
                settings.shards,
                settings.postgres_url,
                after=after,
                postgres_ready=upgraded.is_set,
            ),
            stopping,
        )
        for shard in range(len(settings.shards))
    ]
    kafka = [
        KafkaLoop(
            loop.relay.shard,
            settings.shards[loop.relay.shard],
            settings.postgres_url,
            settings.kafka_bootstrap,
            loop.relay.progress,
            stopping,
            after,
        )
        for loop in loops
        if settings.kafka_bootstrap
    ]
    others = _questdb(settings, stopping) + _sketches(settings, stopping, upgraded.is_set)
    if settings.kafka_bootstrap:
        others += [
            TableLoop(
                table, settings.postgres_url, settings.kafka_bootstrap, stopping, upgraded.is_set, after
            )
            for table in (CORRECTIONS, ENROLMENTS)
        ]
    reports = Reports(loops, settings.shards, bool(kafka))
    others.append(PipelineHealth(settings, stopping, reports.seconds))
    for thread in (*loops, *kafka, *others):
        thread.start()
    sealing = threading.Thread(target=lambda: asyncio.run(_seal(settings, loops, stopping)), daemon=True)
    sealing.start()
    LOG.info("relay_started shards=%d kafka=%s", len(loops), bool(kafka))
    while not stopping.wait(_BEAT_S):
        # Postgres being away is waited for; a migration that fails ends the process, loudly.
        if not upgrading.is_alive() and not upgraded.is_set():
            raise RuntimeError("the migrations failed; see the error above")
        _touch(settings.run_dir, loops, [*kafka, *others, sealing], bool(kafka))
        reports.publish()
    for thread in (*loops, *kafka, *others, sealing):
        thread.join(timeout=5)


def upgrade_when_there(url: str, stopping: threading.Event, upgraded: threading.Event) -> None:
    """Apply the migrations, waiting for Postgres as long as it takes; then set `upgraded`."""
    while not stopping.is_set():
        try:
            upgrade(url)
            upgraded.set()
            return
        except OperationalError as error:
            LOG.warning("postgres_away error=%s", str(error).splitlines()[0])
            stopping.wait(1.0)


def main(environment: Mapping[str, str] = os.environ) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m serving.relay.run", description="the relay process")
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--metrics-host", default="127.0.0.1")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("kafka", "httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if given.metrics_port:
        start_http_server(given.metrics_port, addr=given.metrics_host)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    run(from_mapping(environment), stopping)


if __name__ == "__main__":
    main()
