"""The relay's side of a shard: lease, reading and trimming the outbox, global boards. Synchronous: one loop a shard.

Nothing here decides; the scripts' first comments and `serving/relay/relay.py` say what makes a repeat harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from contracts import names
from serving.boards.shards import script_text

# Renew only one's own lease; expiry in ms.
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

# Longer than a restart of the relay; shorter, and a relay that is gone would still look level.
LAG_EXPIRY_MS = 15_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One outbox entry. mode: live, import, late (no Redis board takes it) or barrier."""

    seq: int
    type: str
    event: bytes
    mode: str


@dataclass(frozen=True, slots=True)
class Addition:
    """One answer's share in one global board."""

    board: str
    user_id: str
    points: int
    ticks: int


class Outbox:
    """One shard, seen from the relay. Connects with the first call, so that a relay starts while a shard is away."""

    def __init__(self, url: str) -> None:
        self._client: Any = Redis.from_url(url, protocol=2, socket_timeout=30)
        self._apply = self._client.register_script(script_text("global_boards"))

    def close(self) -> None:
        self._client.close()

    def has_session(self, session_id: str) -> bool:
        """Whether the shard knows a session: one that it does not know is sealed, never new."""
        return bool(self._client.exists(names.session(session_id)))

    def report_lag(self, text: str) -> None:
        """Leave the relay's lag by sink (JSON) on the shard; it goes when the relay no longer says it."""
        self._client.set(names.relay_lag(), text, px=LAG_EXPIRY_MS)

    def take_lease(self, name: str, token: str, expiry_ms: int) -> int | None:
        """Take a lease: its epoch (1, 2, 3 …), or None while another holds it."""
        if self._client.set(names.lease(name), token, nx=True, px=expiry_ms) is None:
            return None
        return int(self._client.incr(names.lease(name + ":epoch")))

    def renew_lease(self, name: str, token: str, expiry_ms: int) -> bool:
        """Renew it. False: it was lost."""
        return bool(self._client.eval(_RENEW, 1, names.lease(name), token, expiry_ms))

    def release_lease(self, name: str, token: str) -> None:
        """Give it back, if it is still one's own."""
        self._client.eval(_RELEASE, 1, names.lease(name), token)

    def last_seq(self) -> int:
        """The stream's last generated id, which trimming does not change; 0 if there is no stream."""
        if not self._client.exists(names.outbox()):
            return 0
        return int(self._client.xinfo_stream(names.outbox())["last-generated-id"].partition(b"-")[0])

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

    def remember_boards_since(self, instant_us: int) -> None:
        """Keep a copy of `boards_since_us` for the time when Postgres is away."""
        self._client.set(names.boards_since(), instant_us)

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
        argv: list[Any] = [start, end, len(additions)]
        for a in additions:
            if a.board not in index:
                keys.append(a.board)
                index[a.board] = len(keys)
            argv += (index[a.board], a.user_id, a.points, a.ticks)
        status, position, overflows = self._apply(keys=keys, args=argv)
        return status == b"applied", int(position), int(overflows)
