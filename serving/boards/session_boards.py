"""A running session as its clients see it, read at one instant: its hash, who was removed, its first rows.

The board itself keeps a removed player, because it is a function of the record (`reconcile` and rebuilds hold it to
that); what is shown of it leaves the player out and closes the gap in the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts import names
from contracts.settings import ShardAddress
from serving.boards.boards import Place
from serving.boards.line import Line
from serving.boards.shards import script_text
from serving.boards.ticks import Ticks

# Rows read beyond those shown, for removed players among them; with more removed the read is done again, longer.
_SPARE_ROWS = 8


@dataclass(frozen=True, slots=True)
class SessionReading:
    """One instant of a session. places: the first rows without removed players, ranks closed up."""

    fields: Mapping[str, str]
    removed: frozenset[str]
    places: tuple[Place, ...]
    participants: int


def shown_places(rows: Sequence[tuple[str, str]], removed: frozenset[str], k: int) -> tuple[Place, ...]:
    """The first k rows (best first) without removed players, numbered from 1. Pure."""
    kept = [(user, int(score)) for user, score in rows if user not in removed][:k]
    return tuple(Place(rank, user, packed) for rank, (user, packed) in enumerate(kept, 1))


def session_reads(address: ShardAddress) -> Ticks:
    """The reads of one shard's sessions: those of many sessions in one tick go together."""
    return Ticks(Line(address, text=True), script_text("read_session"))


def answer_reads(address: ShardAddress) -> Ticks:
    """The reads of one shard's kept answers, each told only if the replicas have it. The wait holds its line: no other's."""
    return Ticks(Line(address, text=True), confirmed=address)


async def read_session(reads: Ticks, session_id: str, k: int) -> SessionReading:
    """Reads a session from its shard; `fields` is empty if the shard does not know it."""
    rows = k + _SPARE_ROWS
    keys = _keys(session_id)
    while True:
        fields, gone, top, count = await reads.call(keys, rows)
        removed = frozenset(gone)
        if k + len(removed) <= rows or len(top) < 2 * rows:
            # Who was removed had joined, and who joined is on the board.
            shown = shown_places(list(batched_pairs(top)), removed, k)
            return SessionReading(dict(batched_pairs(fields)), removed, shown, max(count - len(removed), 0))
        rows = k + len(removed)


async def read_state(reads: Ticks, session_id: str) -> tuple[dict[str, str], list[str]]:
    """A session's hash and its removed players; empty if the shard does not know it."""
    fields, removed, _, _ = await reads.call(_keys(session_id), 1)
    return dict(batched_pairs(fields)), removed


def _keys(session_id: str) -> list[str]:
    return [names.session(session_id), names.session_removed(session_id), names.session_board(session_id)]


def batched_pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What a script returns as one list of pairs."""
    return zip(flat[::2], flat[1::2], strict=True)


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
