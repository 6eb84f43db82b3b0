"""One shard's relay: from the outbox to history and the global boards, and (a thread of its own) to Kafka.

A step, in order; a crash after any of them repeats it without effect, since each sink holds its own position:
1 read the stream's end, renew the lease, wait for the shard's replicas; 2 see that the stream has not lost its end;
3 history; 4 global boards; 5 trim what both have, and the boards' replicas too, by MINID. An entry that a replica lacks
is nobody's yet: if its primary dies, its seq is given to another answer (docs/decisions/0010).

Kafka has its own pace, from the outbox or, where that was trimmed, from history. While Postgres is away 3 is tried again
now and then, 4 goes on, and 5 waits.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import redis.exceptions

from contracts.errors import BrokenContract
from contracts.settings import ShardAddress
from serving.boards.outbox import Entry, Look, Outbox
from serving.relay.to_global_boards import GlobalBoards, decided_without_postgres
from serving.relay.to_history import History

LOG = logging.getLogger(__name__)
# Entries a batch: a transaction of 1,000 takes about 40 ms; more would hold the global boards' shard too long.
BATCH_ENTRIES = 1_000
# Longer than the slowest batch; a relay that stalls longer is succeeded, and fenced by the positions.
LEASE_MS = 10_000
# Trimming costs a call: wait until it is worth it, or there is nothing else to do.
TRIM_ENTRIES = 5_000
# How long the outbox is not trimmed after a replica did not say what it has.
KEPT_UNKNOWN_S = 5.0
# Pause between tries of Postgres while it is away: a refused connection costs little, one that hangs costs 5 s.
POSTGRES_RETRY_S = 2.0


@dataclass
class Progress:
    """What others may read of one shard's relay: positions, lag, alarm."""

    history: int = 0
    global_boards: int = 0
    kafka: int = 0
    last_seq: int = 0
    leading: bool = False
    history_away: bool = False
    replicas_away: bool = False
    alarm: str = ""
    kafka_alarm: str = ""
    turned_at: float = field(default_factory=time.monotonic)
    kafka_turned_at: float = field(default_factory=time.monotonic)


class ShardRelay:
    """The relay of one shard. `after` is called with the name of each finished step (tests end the process there).

    postgres_ready: False until the migrations are applied; till then Postgres counts as away.
    """

    def __init__(
        self,
        shard: int,
        shards: Sequence[str | ShardAddress],
        postgres_url: str,
        *,
        after: Callable[[str], None] = lambda step: None,
        postgres_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.shard = shard
        self._postgres_ready = postgres_ready
        self.progress = Progress()
        self.lease_name = f"relay-{shard}"
        self._token = uuid.uuid4().hex
        self._after = after
        self._outbox = Outbox(shards[shard])
        self._targets = [Outbox(one) for one in shards]
        self._globals = GlobalBoards(shard, self._targets)
        self._history = History(postgres_url, shard)
        self._epoch: int | None = None
        self._history_position: int | None = None
        self._looked = False
        self._history_due = 0.0
        self._trimmed = 0
        self._trim_at = 0.0
        self._boards_since_us: int | None = None
        # (position, the entries after it) of this step: history and global boards mostly stand at the same one.
        self._read: tuple[int, list[Entry]] | None = None

    def close(self) -> None:
        """Give the lease back and close."""
        try:
            self._outbox.release_lease(self.lease_name, self._token)
        except redis.exceptions.RedisError as error:
            LOG.warning("lease_not_released shard=%d error=%s", self.shard, error)
        for outbox in (self._outbox, *self._targets):
            outbox.close()
        self._history.close()

    def _lead(self) -> Look | None:
        """Hold the lease, and look. A loss forgets all positions: the successor may have moved them. None: another leads."""
        for _ in range(2):
            if self._epoch is None:
                self._history_position = None
                self._looked = False
                self._epoch = self._outbox.take_lease(self.lease_name, self._token, LEASE_MS)
                if self._epoch is None:
                    return None
                LOG.info("lease_taken shard=%d epoch=%d", self.shard, self._epoch)
            look = self._outbox.look(self.lease_name, self._token, LEASE_MS)
            if look.leads:
                return look
            LOG.warning("lease_lost shard=%d epoch=%d", self.shard, self._epoch)
            self._epoch = None
        return None

    def step(self) -> bool:
        """One round; True if it moved anything. Raises BrokenContract where a person must act."""
        self.progress.turned_at = time.monotonic()
        look = self._lead()
        if look is not None and self._replicated(look):
            self.progress.last_seq = look.last_seq
            self._looked = True
        # Kafka goes by `last_seq` while this leads: one of an earlier lead would look like a lost end.
        self.progress.leading = look is not None and self._looked
        if look is None or not look.replicated:
            return False
        last, self._read = look.last_seq, None
        self._after("lease")
        moved = self._try_history(last)
        self._after("history")
        moved = self._to_global_boards(last) or moved
        self._after("global_boards")
        self._trim(idle=not moved)
        self._after("trim")
        return moved

    def _replicated(self, look: Look) -> bool:
        """Whether the replicas have what was looked at; said once when that changes."""
        if self.progress.replicas_away == look.replicated:
            LOG.log(
                logging.INFO if look.replicated else logging.WARNING,
                "replicas_%s shard=%d last_seq=%d",
                "there" if look.replicated else "away",
                self.shard,
                look.last_seq,
            )
        self.progress.replicas_away = not look.replicated
        return look.replicated

    def _try_history(self, last: int) -> bool:
        """History, unless Postgres is away."""
        if not self._postgres_ready():
            self.progress.history_away = True
            return False
        if time.monotonic() < self._history_due:
            return False
        try:
            moved = self._to_history(last)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._history.close()
            self._history_position = None
            self._history_due = time.monotonic() + POSTGRES_RETRY_S
            if not self.progress.history_away:
                LOG.warning("history_waits shard=%d error=%s", self.shard, error)
            self.progress.history_away = True
            return False
        if self.progress.history_away:
            LOG.info("history_goes_on shard=%d position=%d", self.shard, self._history_position or 0)
        self.progress.history_away = False
        return moved

    def _check(self, position: int, last: int, sink: str) -> None:
        if last < position:
            raise BrokenContract(
                "position_lost",
                f"shard {self.shard}: the outbox ends at {last}, {sink} is at {position}",
                next_step="restore the shard from its append-only file; see docs/runbooks",
            )

    def _next(self, position: int, last: int) -> list[Entry]:
        """The next batch, none above `last`. Raises BrokenContract(sequence_gap) if it does not continue."""
        count = min(BATCH_ENTRIES, last - position)
        if count <= 0:
            return []
        if self._read is not None and self._read[0] == position:
            return self._read[1]
        entries = [entry for entry in self._outbox.read_after(position, count) if entry.seq <= last]
        for expected, entry in enumerate(entries, position + 1):
            if entry.seq != expected:
                raise BrokenContract(
                    "sequence_gap", f"shard {self.shard}: seq {expected} is not in the outbox"
                )
        self._read = position, entries
        return entries

    def _to_history(self, last: int) -> bool:
        if self._history_position is None:
            self._history_position = self._history.position()
        self._check(self._history_position, last, "history")
        entries = self._next(self._history_position, last)
        if entries:
            assert self._epoch is not None
            try:
                self._history_position = self._history.write(self._history_position, entries, self._epoch)
            except BrokenContract as error:
                self._history_position = None
                if error.code != "fenced":
                    raise
                LOG.warning("fenced shard=%d detail=%s", self.shard, error.detail)
        self.progress.history = self._history_position or self.progress.history
        return bool(entries)

    def _to_global_boards(self, last: int) -> bool:
        moved = False
        positions = self._globals.positions()
        for position in sorted(set(positions)):
            self._check(position, last, "a global board")
            entries = self._next(position, last)
            if not entries:
                continue
            # Asked after the entries were read: what `replay --keep-boards` moved before it sent them is seen with them.
            since_us, certain = self._boards_since()
            if since_us is None:
                return moved
            if not certain:
                entries = decided_without_postgres(entries, since_us)
            if entries:
                self._globals.apply(position, entries, since_us)
                moved = True
        self.progress.global_boards = min(self._globals.positions()) if moved else min(positions)
        return moved

    def _boards_since(self) -> tuple[int | None, bool]:
        """`boards_since_us` and whether it is Postgres' own; else the value last seen, which may be too late."""
        if not self.progress.history_away:
            try:
                found = self._history.boards_since_us()
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._history.close()
            else:
                if found != self._boards_since_us:
                    self._outbox.remember_boards_since(found)
                self._boards_since_us = found
                return found, True
        if self._boards_since_us is None:
            self._boards_since_us = self._outbox.remembered_boards_since()
        return self._boards_since_us, False

    def _trim(self, *, idle: bool) -> None:
        through = min(self.progress.history, self.progress.global_boards)
        due = idle or through - self._trimmed >= TRIM_ENTRIES
        if through > self._trimmed and due and time.monotonic() >= self._trim_at:
            # A target whose replica is promoted stands where that replica stood, and asks for the entries from there.
            kept = self._globals.kept_position()
            if not kept:
                # A replica is away: asking waits for it, which would cost the other sinks their pace.
                self._trim_at = time.monotonic() + KEPT_UNKNOWN_S
            through = min(through, kept)
            if through > self._trimmed:
                self._outbox.trim(through)
                self._trimmed = through
