"""The Kafka side of one shard's relay, on a thread of its own: Kafka away for an hour holds nobody else up.

It publishes only while the shard's relay leads, and only what that relay saw before it renewed its lease and knows to
be on every replica. What was
trimmed from the outbox comes from history. An error that a person must mend alarms; every error is tried again, as the
mend may be outside.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg
import redis.exceptions

from contracts.errors import BrokenContract, LakeboardError
from contracts.settings import ShardAddress
from serving.boards.outbox import Entry, Outbox
from serving.relay.relay import Progress
from serving.relay.to_history import History
from serving.relay.to_kafka import KafkaSink

LOG = logging.getLogger(__name__)
BATCH_ENTRIES = 2_000
_IDLE_S = 0.05
_RETRY_FIRST_S = 0.5
_RETRY_MOST_S = 15.0


class KafkaLoop(threading.Thread):
    """Runs until `stopping` is set."""

    def __init__(
        self,
        shard: int,
        address: str | ShardAddress,
        postgres_url: str,
        bootstrap: str,
        progress: Progress,
        stopping: threading.Event,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        super().__init__(name=f"kafka-{shard}", daemon=True)
        self._shard = shard
        self._progress = progress
        self._stopping = stopping
        self._after = after
        self._outbox = Outbox(address)
        self._history = History(postgres_url, shard)
        self._sink = KafkaSink(bootstrap, shard, after)
        self._position: int | None = None

    def run(self) -> None:
        """Publish, with a bounded back-off after an error."""
        pause = _RETRY_FIRST_S
        while not self._stopping.is_set():
            self._progress.kafka_turned_at = time.monotonic()
            try:
                moved = self.step()
                self._progress.kafka_alarm = ""
                pause = _RETRY_FIRST_S
                if not moved:
                    self._stopping.wait(_IDLE_S)
            except (LakeboardError, psycopg.Error, redis.exceptions.RedisError, OSError) as error:
                if isinstance(error, BrokenContract):
                    self._progress.kafka_alarm = error.code
                LOG.log(
                    logging.ERROR if self._progress.kafka_alarm else logging.WARNING,
                    "kafka_behind shard=%d pause_s=%.1f error=%s",
                    self._shard,
                    pause,
                    error,
                )
                self._give_up()
                self._stopping.wait(pause)
                pause = min(pause * 2, _RETRY_MOST_S)
        self._give_up()
        self._outbox.close()

    def _give_up(self) -> None:
        self._sink.close()
        self._history.close()
        self._position = None

    def step(self) -> bool:
        """One transaction, if there is something to publish."""
        if not self._progress.leading:
            if self._position is not None:
                self._give_up()
            return False
        if self._position is None:
            self._position = self._sink.open()  # fences the predecessor before it reads the position
            self._progress.kafka = self._position
        entries = self._next(self._position)
        if not entries:
            return False
        started = time.monotonic()
        self._position = self._progress.kafka = self._sink.write(entries)
        self._after("kafka")
        LOG.debug(
            "published shard=%d through=%d took_s=%.3f",
            self._shard,
            self._position,
            time.monotonic() - started,
        )
        return True

    def _next(self, position: int) -> list[Entry]:
        """The next batch. Raises BrokenContract where the record does not continue the position."""
        ready = self._progress.last_seq
        if ready < position:
            raise BrokenContract(
                "position_lost",
                f"shard {self._shard}: the outbox ends at {ready}, Kafka is at {position}",
                next_step="restore the shard from its append-only file; see docs/runbooks",
            )
        if ready == position:
            return []
        count = min(BATCH_ENTRIES, ready - position)
        entries = self._outbox.read_after(position, count)
        if not entries or entries[0].seq != position + 1:
            entries = self._history.read_after(position, count)
        entries = [entry for entry in entries if entry.seq <= ready]
        # Never archived: a month leaves history once the lake has it, which the lake gets through Kafka.
        expected = position
        for entry in entries:
            expected += 1
            if entry.seq != expected:
                break
        else:
            if entries:
                return entries
            expected = position + 1
        raise BrokenContract(
            "sequence_gap",
            f"shard {self._shard}: seq {expected} is neither in the outbox nor in history",
            next_step="see docs/runbooks/relay-alarm.md",
        )
