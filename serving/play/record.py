"""The one door to the record: answers wait here a moment and go to their shard in batches.

Per shard: a bounded queue, at most 128 answers a script, two scripts in flight (with one in flight the shard idles while
the append-only file is synced). Batches are made by session: what one script reads and writes once a session (its hash,
its last write, its version) then serves many answers. `to_record` builds what one answer writes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts import names
from contracts.boards import Board, Scope, boards_of, kept_in_redis
from contracts.errors import Retryable, SystemMissing
from contracts.events import AnswerEvent, encode
from contracts.periods import period_start
from contracts.ranking import ticks_of
from serving.boards.acknowledged import refusal_of
from serving.boards.shards import LIVE, OUTBOX_FULL, AnswerToRecord, Outcome, Shards

# One script's answers: at 128 a script takes about 6 ms; more would make everybody's tail longer.
BATCH_ANSWERS = 128
# Scripts in flight a shard: the second runs while the first one's append is synced.
IN_FLIGHT = 2
# Answers that may wait for a shard: about 2 s of its work; beyond, callers are told to come back.
QUEUE_ANSWERS = 20_000


@dataclass(slots=True)
class _Group:
    """Answers of one caller; they stay in order, and one script never overtakes another of the same caller."""

    answers: Sequence[AnswerToRecord]
    done: asyncio.Future[list[Outcome]]


class SessionQueue:
    """Groups that wait for a shard, by session: sessions take turns, and a session's groups keep their order. Pure.

    A group of several sessions (an import's) counts as its first one's: its lanes wait for each reply, so nothing of the
    same session is behind it.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, deque[_Group]] = OrderedDict()
        self.answers = 0

    def put(self, group: _Group) -> None:
        """Adds a group at the end of its session's."""
        self._sessions.setdefault(group.answers[0].session_id, deque()).append(group)
        self.answers += len(group.answers)

    def take(self, most: int) -> list[_Group]:
        """Whole groups of at most `most` answers (but at least one group), of as few sessions as have them."""
        taken: list[_Group] = []
        size = 0
        while self._sessions:
            session_id, groups = next(iter(self._sessions.items()))
            before = len(taken)
            while groups and (not taken or size + len(groups[0].answers) <= most):
                size += len(groups[0].answers)
                taken.append(groups.popleft())
            if groups:
                if len(taken) > before:
                    # Its turn comes again after the others'; one that got nothing stays first.
                    self._sessions.move_to_end(session_id)
                break
            del self._sessions[session_id]
        self.answers -= size
        return taken


@lru_cache(maxsize=65_536)
def _quiz_boards(quiz_id: str, zone: str, local_day: date) -> tuple[Board, ...]:
    """The four boards of a quiz on a local day; every answer of that day shares them."""
    noon = Board(Scope("quiz", quiz_id), "daily", local_day, zone).anchor_us
    return tuple(boards_of(Scope("quiz", quiz_id), noon, zone))


def board_ticks(event: AnswerEvent, boards_since_us: int) -> tuple[tuple[str, int], ...]:
    """(Redis key, ticks) of the session's board and the quiz's boards that Redis keeps, for one event."""
    found: list[tuple[str, int]] = []
    at = event.occurred_at_us
    if event.session_started_at_us >= boards_since_us:
        ticks = ticks_of(at, event.session_started_at_us, event.session_tick_ms * 1_000)
        found.append((names.session_board(event.session_id), ticks))
    for board in _quiz_boards(event.quiz_id, event.quiz_zone, period_start("daily", at, event.quiz_zone)):
        if kept_in_redis(board, boards_since_us):
            found.append((board.key, ticks_of(at, board.anchor_us, board.tick_us)))
    return tuple(found)


def to_record(
    event: AnswerEvent, boards_since_us: int, *, mode: str = LIVE, epoch: str = "", with_rank: bool = False
) -> AnswerToRecord:
    """What the script needs for one event. with_rank: the reply carries total and rank on the session's board."""
    boards = () if mode == "late" else board_ticks(event, boards_since_us)
    own = names.session_board(event.session_id)
    rank_board = own if with_rank and any(key == own for key, _ in boards) else ""
    return AnswerToRecord(
        event.session_id,
        event.quiz_id,
        event.question_id,
        event.user_id,
        event.points,
        event.occurred_at_us,
        event.correct,
        encode(event),
        boards,
        mode,
        epoch,
        rank_board,
        # Imported sessions have no host who asks for a report.
        names.answer_detail(event.elapsed_ms, event.choice) if mode == LIVE else "",
    )


def _failure(shard: int, error: Exception) -> Exception:
    """What a caller is told of a batch that failed."""
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)):
        return SystemMissing(
            "system_missing",
            f"Valkey shard {shard} does not answer: {error}",
            next_step="send it again unchanged; see ./lakeboard status",
        )
    return refusal_of(error) or error


def _outbox_full(shard: int) -> Retryable:
    return Retryable(
        OUTBOX_FULL,
        f"the outbox of shard {shard} is full: history or the global boards do not follow",
        next_step="send it again later; see docs/runbooks/redis-full.md",
    )


class AnswerBatcher:
    """Micro-batcher over all shards. `record` keeps a caller's order; start() before use, stop() at the end."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._queues = [SessionQueue() for _ in range(len(shards))]
        self._wake = [asyncio.Event() for _ in range(len(shards))]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Start the workers (inside a running loop)."""
        self._tasks = [
            asyncio.create_task(self._work(shard))
            for shard in range(len(self.shards))
            for _ in range(IN_FLIGHT)
        ]

    async def stop(self) -> None:
        """Send what waits, then end the workers."""
        self._stopping = True
        for wake in self._wake:
            wake.set()
        await asyncio.gather(*self._tasks)

    def waiting(self) -> int:
        """Answers not yet sent, over all shards."""
        return sum(queue.answers for queue in self._queues)

    async def record(self, answers: Sequence[AnswerToRecord]) -> list[Outcome]:
        """Record answers; outcomes in their order, after the shard has synced them.

        Raises Retryable: overloaded when the queue is full (nothing was sent); outbox_full, memory_full, disk_full when the
        shard refuses; SystemMissing when a shard does not answer or too few of its replicas have them. Some may be recorded
        then, so the caller sends all of them again unchanged, a repeat being harmless.
        """
        by_shard: dict[int, list[int]] = {}
        for index, answer in enumerate(answers):
            by_shard.setdefault(self.shards.shard_of(answer.quiz_id), []).append(index)
        for shard, indices in by_shard.items():
            waiting = self._queues[shard].answers
            if self._stopping or waiting + len(indices) > QUEUE_ANSWERS:
                raise Retryable("overloaded", f"{waiting} answers wait for shard {shard}")
        outcomes: list[Outcome | None] = [None] * len(answers)
        await asyncio.gather(
            *(self._in_order(shard, answers, indices, outcomes) for shard, indices in by_shard.items())
        )
        return [outcome for outcome in outcomes if outcome is not None]

    async def _in_order(
        self,
        shard: int,
        answers: Sequence[AnswerToRecord],
        indices: list[int],
        outcomes: list[Outcome | None],
    ) -> None:
        """One caller's answers to one shard, a script's worth at a time so that none overtakes another."""
        for start in range(0, len(indices), BATCH_ANSWERS):
            part = indices[start : start + BATCH_ANSWERS]
            group = _Group([answers[i] for i in part], asyncio.get_running_loop().create_future())
            self._queues[shard].put(group)
            self._wake[shard].set()
            for index, outcome in zip(part, await group.done, strict=True):
                outcomes[index] = outcome

    async def _work(self, shard: int) -> None:
        wake = self._wake[shard]
        while True:
            groups = self._queues[shard].take(BATCH_ANSWERS)
            if not groups:
                if self._stopping:
                    return
                wake.clear()
                await wake.wait()
                continue
            await self._send(shard, groups)

    async def _send(self, shard: int, groups: list[_Group]) -> None:
        batch = [answer for group in groups for answer in group.answers]
        try:
            outcomes = await self.shards.record(shard, batch)
        except Exception as error:  # every caller must learn of it, whatever it is
            for group in groups:
                if not group.done.done():
                    group.done.set_exception(_failure(shard, error))
            return
        start = 0
        for group in groups:
            part = outcomes[start : start + len(group.answers)]
            start += len(group.answers)
            if group.done.done():
                continue
            if any(outcome.status == OUTBOX_FULL for outcome in part):
                group.done.set_exception(_outbox_full(shard))
            else:
                group.done.set_result(part)
