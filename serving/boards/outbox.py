"""The relay's side of a shard: lease, reading and trimming the outbox, global boards. Synchronous: one loop a shard.

Nothing here decides; the scripts' first comments and `serving/relay/relay.py` say what makes a repeat harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from contracts import names
from contracts.events import AnswerEvent
from contracts.settings import ShardAddress
from serving.boards.acknowledged import ALLOW_OOM, add_wait
from serving.boards.clients import address_of, blocking_client_of, close_blocking_client
from serving.boards.shards import script_text
from serving.event_bytes import decode

# What the relay writes is allowed at the memory limit: without it the outbox is never trimmed.
# Renew only one's own lease; expiry in ms.
_RENEW = (
    ALLOW_OOM
    + "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
)
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# The lease's next epoch, or nothing while another holds it.
_TAKE = (
    ALLOW_OOM
    + "if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end "
    + "return redis.call('INCR', KEYS[2])"
)
_SET = ALLOW_OOM + "return redis.call('SET', KEYS[1], unpack(ARGV))"

# Longer than a restart of the relay; shorter, and a relay that is gone would still look level.
LAG_EXPIRY_MS = 15_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One outbox entry. mode: live, import, late (no Redis board takes it) or barrier."""

    seq: int
    type: str
    event: bytes
    mode: str
    _read: list[AnswerEvent] = field(default_factory=list, repr=False, compare=False)

    def answer(self) -> AnswerEvent:
        """The answer in an entry of that type, read once for all sinks. Raises BadInput(bad_event)."""
        if not self._read:
            self._read.append(decode(self.event))
        return self._read[0]


@dataclass(frozen=True, slots=True)
class Look:
    """What a shard said in one breath: the stream's last id, whether the lease is held, and whether replicas have it all."""

    last_seq: int
    leads: bool
    replicated: bool


@dataclass(frozen=True, slots=True)
class Fullness:
    """How full a shard is: entries in its outbox, memory in use and at most (bytes; 0: unlimited)."""

    entries: int
    memory: int
    memory_most: int


class Addition(NamedTuple):
    """One answer's share in the global boards of its instant: `ticks` has one number for each of `boards`."""

    boards: tuple[str, ...]
    user_id: str
    points: int
    ticks: tuple[int, ...]


def _last_id(stream: Any) -> int:
    """The last generated id of XINFO STREAM's reply; 0 if there is no stream."""
    if isinstance(stream, ResponseError) and "no such key" in str(stream):
        return 0
    if isinstance(stream, Exception):
        raise stream
    return int(stream["last-generated-id"].partition(b"-")[0])


class Outbox:
    """One shard, seen from the relay. Connects with the first call, so that a relay starts while a shard is away."""

    def __init__(self, shard: str | ShardAddress) -> None:
        self._address = address_of(shard)
        self._client: Any = blocking_client_of(self._address)
        self._apply = self._client.register_script(script_text("global_boards"))

    def close(self) -> None:
        close_blocking_client(self._client)

    def has_session(self, session_id: str) -> bool:
        """Whether the shard knows a session: one that it does not know is sealed, never new."""
        return bool(self._client.exists(names.session(session_id)))

    def report_lag(self, text: str) -> None:
        """Leave the relay's lag by sink (JSON) on the shard; it goes when the relay no longer says it."""
        self._client.eval(_SET, 1, names.relay_lag(), text, "PX", LAG_EXPIRY_MS)

    def fullness(self) -> Fullness:
        """How full the shard is now."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xlen(names.outbox())
            pipe.info("memory")
            entries, memory = pipe.execute()
        return Fullness(int(entries), int(memory["used_memory"]), int(memory["maxmemory"]))

    def take_lease(self, name: str, token: str, expiry_ms: int) -> int | None:
        """Take a lease: its epoch (1, 2, 3 …), or None while another holds it."""
        keys = (names.lease(name), names.lease(name + ":epoch"))
        found = self._client.eval(_TAKE, 2, *keys, token, expiry_ms)
        return None if found is None else int(found)

    def look(self, name: str, token: str, expiry_ms: int) -> Look:
        """Read the last id, renew the lease, and wait for the replicas; in this order and on one connection.

        What is there when the lease is renewed is on every replica if `replicated`: whichever is promoted has it. An
        entry beyond may be lost with its primary, and its seq be given to another answer: nobody may take it yet.
        """
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xinfo_stream(names.outbox())
            pipe.eval(_RENEW, 1, names.lease(name), token, expiry_ms)
            self._add_wait(pipe)
            stream, leads, *waited = pipe.execute(raise_on_error=False)
        if isinstance(leads, Exception):
            raise leads
        return Look(_last_id(stream), bool(leads), self._has_waited(waited))

    def _add_wait(self, pipe: Any) -> None:
        if self._address.wait_replicas:
            add_wait(pipe, self._address)

    def _has_waited(self, replies: Sequence[Any]) -> bool:
        """Whether the end of a pipeline says that the replicas have what came before it; so where there are none."""
        if not self._address.wait_replicas:
            return True
        return isinstance(replies[-1], int) and replies[-1] >= self._address.wait_replicas

    def release_lease(self, name: str, token: str) -> None:
        """Give it back, if it is still one's own."""
        self._client.eval(_RELEASE, 1, names.lease(name), token)

    def last_seq(self) -> int:
        """The stream's last generated id, which trimming does not change; 0 if there is no stream."""
        try:
            return _last_id(self._client.xinfo_stream(names.outbox()))
        except ResponseError as error:
            return _last_id(error)

    def read_after(self, position: int, count: int) -> list[Entry]:
        """The next entries after a position, in order. The first may not be position + 1 if the stream was trimmed."""
        found = self._client.xrange(names.outbox(), min=f"{position + 1}-0", max="+", count=count)
        return [
            Entry(int(ident.partition(b"-")[0]), fields[b"t"].decode(), fields[b"e"], fields[b"m"].decode())
            for ident, fields in found
        ]

    def trim(self, through: int) -> int:
        """Delete the entries up to a sequence number, by MINID; how many went."""
        return int(self._client.xtrim(names.outbox(), minid=f"{through + 1}-0", approximate=False))

    def global_position(self, source: int) -> int:
        """How far this shard's global boards have taken a source's outbox."""
        return int(self._client.get(names.global_position(source)) or 0)

    def kept_position(self, source: int) -> int | None:
        """The same, if it and its boards are on every replica; None if that is not known."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(names.global_position(source))
            self._add_wait(pipe)
            position, *waited = pipe.execute(raise_on_error=False)
        if isinstance(position, Exception):
            raise position
        return int(position or 0) if self._has_waited(waited) else None

    def remember_boards_since(self, instant_us: int) -> None:
        """Keep a copy of `boards_since_us` for the time when Postgres is away."""
        self._client.eval(_SET, 1, names.boards_since(), instant_us)

    def remembered_boards_since(self) -> int | None:
        """The copy, or None. `boards_since` only moves back, so the copy may be later than the truth, never earlier."""
        found = self._client.get(names.boards_since())
        return None if found is None else int(found)

    def apply_global(
        self, source: int, start: int, end: int, additions: Sequence[Addition]
    ) -> tuple[bool, int, int]:
        """Apply a batch if the position is `start`: (applied, position now, points that overflowed)."""
        keys = [names.global_position(source)]
        index: dict[str, int] = {}
        argv: list[Any] = [start, end, 0]
        for boards, run in groupby(additions, key=itemgetter(0)):
            for board in boards:
                if board not in index:
                    keys.append(board)
                    index[board] = len(keys)
            argv[2] += 1
            those = list(run)
            argv += (len(boards), *(index[board] for board in boards), len(those))
            for _, user_id, points, ticks in those:
                argv += (user_id, points, *ticks)
        status, position, overflows = self._apply(keys=keys, args=argv)
        return status == b"applied", int(position), int(overflows)
