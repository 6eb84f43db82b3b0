"""Who an answer is: ids, event ids, and where a key belongs (ring, partition, shard).

Pure; the ids are compared as bytes everywhere. Nothing here may change once a record exists: an event id or a
partition computed differently would count an answer twice.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from bisect import bisect_right

from contracts.errors import BadInput

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# UUIDv5 of the DNS-like name below; fixed for ever (CONTRACTS A2).
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "answers.lakeboard")
_NAMESPACE_BYTES = NAMESPACE.bytes
# A UUID's variant replaces the two highest bits of this hex digit by 10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
ANSWER_PARTITIONS = 12
# Points on the ring per shard: at 1,024 four shards differ by under a fifth in load (at 160 by two fifths); more makes
# start-up slower only.
_RING_POINTS = 1_024


def valid_id(text: str) -> bool:
    """True if `text` may be an id of ours: 1–64 of A–Z a–z 0–9 _ and -."""
    return _ID.fullmatch(text) is not None


def checked_id(text: str, field: str) -> str:
    """`text` unchanged. Raises BadInput(invalid_id) naming `field`."""
    if not valid_id(text):
        raise BadInput("invalid_id", f"{field} {text[:80]!r} must match [A-Za-z0-9_-]{{1,64}}")
    return text


def import_id(text: str) -> str:
    """The id an imported one is kept under: itself if valid, else `x_` + 32 hex digits of SHA-256 of its UTF-8."""
    return text if valid_id(text) else "x_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def event_id(session_id: str, question_id: str, user_id: str) -> str:
    """UUIDv5 of (session, question, user), the identity of one counted answer (CONTRACTS A2)."""
    name = f"answer/{session_id}/{question_id}/{user_id}".encode()
    # As uuid.uuid5 does it (RFC 9562, 5.5), which takes four times as long by way of objects; every answer comes here.
    h = hashlib.sha1(_NAMESPACE_BYTES + name, usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def barrier_id(zone: str, day: str, shard: int) -> str:
    """UUIDv5 of (zone, day `YYYY-MM-DD`, shard), the identity of one barrier (CONTRACTS D2)."""
    return str(uuid.uuid5(NAMESPACE, f"barrier/{zone}/{day}/{shard}"))


def _hash64(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def answers_partition(user_id: str, partitions: int = ANSWER_PARTITIONS) -> int:
    """The partition of `answers.v1` for a user. Computed here because client libraries hash differently."""
    return _hash64("partition/" + user_id) % partitions


def user_shard(user_id: str, shards: int) -> int:
    """The shard that holds a user's place on global boards."""
    return _hash64("user/" + user_id) % shards


class HashRing:
    """Consistent hashing of quizzes to shards: adding one shard moves about 1/n of the quizzes."""

    def __init__(self, shards: int, points: int = _RING_POINTS) -> None:
        if shards < 1:
            raise ValueError(f"a ring needs at least one shard, got {shards}")
        ring = sorted(
            (_hash64(f"ring/{shard}/{point}"), shard) for shard in range(shards) for point in range(points)
        )
        self._positions = [position for position, _ in ring]
        self._owners = [shard for _, shard in ring]

    def shard_of(self, quiz_id: str) -> int:
        """The shard (0 … n−1) that owns a quiz: the first ring point after the quiz's own, O(log n)."""
        index = bisect_right(self._positions, _hash64("quiz/" + quiz_id))
        return self._owners[index % len(self._owners)]
