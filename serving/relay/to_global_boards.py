"""Sink: the global boards, sharded by user, fed from every outbox (CONTRACTS C8).

Each target shard holds the position of each source and takes a batch only if it continues that position, in one call
with the additions, empty batches too; so a repeat after a crash changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from contracts.boards import Board, Scope, boards_of, kept_in_redis
from contracts.events import ANSWER_TYPE, AnswerEvent
from contracts.identity import user_shard
from contracts.ranking import ticks_of
from serving.boards.outbox import Addition, Entry, Outbox

_DAY_US = 86_400_000_000


@lru_cache(maxsize=16_384)
def _boards_of_day(day_number: int) -> tuple[Board, ...]:
    return tuple(boards_of(Scope("global"), day_number * _DAY_US, "UTC"))


class _Kept(NamedTuple):
    """The boards of a day that Redis keeps: their keys, and (anchor, tick; µs) of each."""

    keys: tuple[str, ...]
    clocks: tuple[tuple[int, int], ...]


@lru_cache(maxsize=16_384)
def _kept_of_day(day_number: int, boards_since_us: int) -> _Kept:
    kept = [board for board in _boards_of_day(day_number) if kept_in_redis(board, boards_since_us)]
    return _Kept(
        tuple(board.key for board in kept), tuple((board.anchor_us, board.tick_us) for board in kept)
    )


_user_shard = lru_cache(maxsize=65_536)(user_shard)


def additions_of(
    entries: Sequence[Entry],
    boards_since_us: int,
    shards: int,
    points_of: Callable[[AnswerEvent], int | None] = lambda event: event.points,
) -> list[list[Addition]]:
    """What each target shard adds for some entries of one source; barriers and late answers add nothing.

    points_of: what an answer counts, None if nothing (a rebuild applies corrections; as answers come none covers them).
    """
    by_shard: list[list[Addition]] = [[] for _ in range(shards)]
    for entry in entries:
        if entry.type != ANSWER_TYPE or entry.mode == "late":
            continue
        event = entry.answer()
        points = points_of(event)
        if points is None:
            continue
        at = event.occurred_at_us
        boards = _kept_of_day(at // _DAY_US, boards_since_us)
        ticks = tuple([ticks_of(at, anchor_us, tick_us) for anchor_us, tick_us in boards.clocks])
        by_shard[_user_shard(event.user_id, shards)].append(
            Addition(boards.keys, event.user_id, points, ticks)
        )
    return by_shard


def decided_without_postgres(entries: Sequence[Entry], boards_since_us: int) -> list[Entry]:
    """The first entries whose boards are certain although `boards_since_us` may be out of date.

    It only ever moves back: a board that is kept under an old value is kept under the new one. So the first answer that
    the old value would leave out of a board ends the list, and waits for Postgres.
    """
    certain: list[Entry] = []
    for entry in entries:
        if entry.type == ANSWER_TYPE and entry.mode != "late":
            day = entry.answer().occurred_at_us // _DAY_US
            if not all(kept_in_redis(board, boards_since_us) for board in _boards_of_day(day)):
                break
        certain.append(entry)
    return certain


class GlobalBoards:
    """The global boards of all target shards, fed from one source."""

    def __init__(self, source: int, targets: Sequence[Outbox]) -> None:
        self.source = source
        self.targets = targets
        self.overflows = 0

    def positions(self) -> list[int]:
        """How far each target is."""
        return [target.global_position(self.source) for target in self.targets]

    def kept_position(self) -> int:
        """How far all targets and their replicas are: the outbox is needed from there on. 0 if a replica does not say."""
        return min(target.kept_position(self.source) or 0 for target in self.targets)

    def apply(self, start: int, entries: Sequence[Entry], boards_since_us: int) -> None:
        """Bring every target that stands at `start` to the last entry; one that is elsewhere is left as it is."""
        parts = additions_of(entries, boards_since_us, len(self.targets))
        for target, part in zip(self.targets, parts, strict=True):
            _, _, overflows = target.apply_global(self.source, start, entries[-1].seq, part)
            self.overflows += overflows
