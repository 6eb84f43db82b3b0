"""A running session as its clients see it, read in one transaction: its hash, who was removed, its first rows.

The board itself keeps a removed player, because it is a function of the record (`reconcile` and rebuilds hold it to
that); what is shown of it leaves the player out and closes the gap in the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts import names
from serving.boards.boards import Place

# Rows read beyond those shown, for removed players among them; with more removed the read is done again, longer.
_SPARE_ROWS = 8


@dataclass(frozen=True, slots=True)
class SessionReading:
    """One instant of a session. places: the first rows without removed players, ranks closed up."""

    fields: Mapping[str, str]
    removed: frozenset[str]
    places: tuple[Place, ...]
    participants: int


def shown_places(rows: list[tuple[str, float]], removed: frozenset[str], k: int) -> tuple[Place, ...]:
    """The first k rows (best first) without removed players, numbered from 1. Pure."""
    kept = [(user, int(score)) for user, score in rows if user not in removed][:k]
    return tuple(Place(rank, user, packed) for rank, (user, packed) in enumerate(kept, 1))


async def read_session(client: Any, session_id: str, k: int) -> SessionReading:
    """Reads a session through its shard's text client; `fields` is empty if the shard does not know it."""
    rows = k + _SPARE_ROWS
    while True:
        async with client.pipeline(transaction=True) as pipe:
            pipe.hgetall(names.session(session_id))
            pipe.smembers(names.session_removed(session_id))
            pipe.zrevrange(names.session_board(session_id), 0, rows - 1, withscores=True)
            pipe.zcard(names.session_board(session_id))
            fields, gone, top, count = await pipe.execute()
        removed = frozenset(gone)
        if k + len(removed) <= rows or len(top) < rows:
            # Who was removed had joined, and who joined is on the board.
            shown = shown_places(top, removed, k)
            return SessionReading(fields, removed, shown, max(count - len(removed), 0))
        rows = k + len(removed)


async def removed_ahead(client: Any, session_id: str, removed: frozenset[str], packed: int, user: str) -> int:
    """How many removed players stand before (packed, user) on the board: what a shown rank leaves out."""
    if not removed:
        return 0
    members = sorted(removed)
    scores = await client.zmscore(names.session_board(session_id), members)
    mine = (packed, user.encode())
    return sum(
        (int(score), member.encode()) > mine
        for member, score in zip(members, scores, strict=True)
        if score is not None and member != user
    )
