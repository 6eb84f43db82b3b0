"""The one door to the record: answers wait here a moment and go to their shard in batches.

Per shard: a bounded queue, at most 128 answers a script, two scripts in flight (with one in flight the shard idles while
the append-only file is synced). A batch takes what waits, of all sessions, those of one session together: what one script
reads and writes once a session (its hash, its last write, its version, the word to other handlers) then serves many
answers. The first answer of a quiet moment goes out at once; the busier it is, the more gather. `to_record` builds what
one answer writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache, partial
from typing import NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts import names
from contracts.boards import Board, Scope, boards_of, kept_in_redis
from contracts.errors import Retryable, SystemMissing
from contracts.events import AnswerEvent
from contracts.periods import period_start, span
from contracts.ranking import ticks_of
from serving.boards.acknowledged import refusal_of
from serving.boards.shards import IN_FLIGHT, LIVE, OUTBOX_FULL, AnswerToRecord, Outcome, Shards
from serving.event_bytes import encode

LOG = logging.getLogger(__name__)
# About 20 MB; beyond, all are looked up again.
REMEMBERED_QUIZZES = 65_536
# One script's answers: at 128 a script takes about 6 ms; more would make everybody's tail longer.
BATCH_ANSWERS = 128
# While answers come faster than this, a script waits for more of them: fewer scripts, fewer syncs of the append-only file,
# less of everybody's time an answer. Lower, and a script takes one or two; higher, and players would notice.
GATHER_S = 0.012
# So many are worth a script at once.
ENOUGH_ANSWERS = 64
# A second script goes out beside one in flight only with so many: else they would share what one could take alone.
SECOND_ANSWERS = 32
# The oldest answer that waits: with an older one a new one is told to come back, since it would wait for longer still.
MOST_WAIT_S = 1.5
# Answers that may wait for a shard: about 2 s of its work; beyond, callers are told to come back.
QUEUE_ANSWERS = 20_000


Done = Callable[[list[Outcome] | Exception], None]
"""Called once with the outcomes of a group, in its order, or with what its caller is told."""


@dataclass(slots=True)
class _Group:
    """Answers of one caller; they stay in order, and one script never overtakes another of the same caller."""

    answers: Sequence[AnswerToRecord]
    done: Done


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


class _Day(NamedTuple):
    """A local day of one quiz: its span, and (key, anchor, tick; µs) of the quiz's boards on it that Redis keeps."""

    start_us: int
    end_us: int
    boards: tuple[tuple[str, int, int], ...]


# The day that a quiz' last answer fell on: the next one mostly falls on it too, and finds its boards by one look.
_LAST_DAYS: dict[tuple[str, str, int], _Day] = {}


@lru_cache(maxsize=65_536)
def _day_of(quiz_id: str, zone: str, local_day: date, boards_since_us: int) -> _Day:
    """A quiz' boards on a local day; every answer of that day shares them."""
    scope = Scope("quiz", quiz_id)
    day = Board(scope, "daily", local_day, zone).anchor_us
    whole = span("daily", local_day, zone)
    boards = [board for board in boards_of(scope, day, zone) if kept_in_redis(board, boards_since_us)]
    return _Day(
        whole.start_us,
        whole.end_us,
        tuple((board.key, board.anchor_us, board.tick_us) for board in boards),
    )


def _day_at(quiz_id: str, zone: str, at_us: int, boards_since_us: int) -> _Day:
    place = (quiz_id, zone, boards_since_us)
    day = _LAST_DAYS.get(place)
    if day is None or not day.start_us <= at_us < day.end_us:
        if len(_LAST_DAYS) >= REMEMBERED_QUIZZES:
            _LAST_DAYS.clear()
        day = _day_of(quiz_id, zone, period_start("daily", at_us, zone), boards_since_us)
        _LAST_DAYS[place] = day
    return day


def board_ticks(event: AnswerEvent, boards_since_us: int) -> tuple[tuple[str, int], ...]:
    """(Redis key, ticks) of the session's board and the quiz's boards that Redis keeps, for one event."""
    at = event.occurred_at_us
    day = _day_at(event.quiz_id, event.quiz_zone, at, boards_since_us)
    found = tuple([(key, ticks_of(at, anchor_us, tick_us)) for key, anchor_us, tick_us in day.boards])
    if event.session_started_at_us < boards_since_us:
        return found
    ticks = ticks_of(at, event.session_started_at_us, event.session_tick_ms * 1_000)
    return ((names.session_board(event.session_id), ticks), *found)


def to_record(
    event: AnswerEvent,
    boards_since_us: int,
    *,
    mode: str = LIVE,
    epoch: str = "",
    with_rank: bool = False,
    handler: str | None = None,
) -> AnswerToRecord:
    """What the script needs for one event. with_rank: the reply carries total and rank on the session's board.

    handler: who tells its own sockets of it; None: nobody is told.
    """
    boards = () if mode == "late" else board_ticks(event, boards_since_us)
    own = names.session_board(event.session_id)
    rank_board = own if with_rank and boards and boards[0][0] == own else ""
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
        handler,
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


@dataclass(slots=True)
class _Lane:
    """One shard: what waits for it, what is in flight, and when the next script may go out."""

    queue: SessionQueue
    free: list[int]
    sent_at: float = -1.0
    timer: asyncio.Handle | None = None
    in_flight_since: dict[int, float] = field(default_factory=dict)


class AnswerBatcher:
    """Micro-batcher over all shards. A caller's order is kept; start() before use, stop() at the end."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._lanes = [_Lane(SessionQueue(), list(range(IN_FLIGHT))) for _ in range(len(shards))]
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Takes answers from here on."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Sends what waits, and returns when nothing is under way any more."""
        self._stopping = True
        for shard in range(len(self._lanes)):
            self._pump(shard)
        await self._idle.wait()

    def waiting(self) -> int:
        """Answers not yet sent, over all shards."""
        return sum(lane.queue.answers for lane in self._lanes)

    def put(self, answers: Sequence[AnswerToRecord], done: Done) -> None:
        """Records answers of one quiz, at most BATCH_ANSWERS; `done` gets their outcomes in order, or what `record` raises.

        Raises Retryable(overloaded) with nothing sent, and `done` is not called.
        """
        shard = self.shards.shard_of(answers[0].quiz_id)
        self._check_room(shard, len(answers))
        self._put(shard, answers, done)

    def _check_room(self, shard: int, more: int) -> None:
        lane = self._lanes[shard]
        waiting = lane.queue.answers
        # What is in flight is the oldest: its reply is what everything behind it waits for.
        oldest = min(lane.in_flight_since.values(), default=self._loop.time())
        late = waiting >= BATCH_ANSWERS and self._loop.time() - oldest > MOST_WAIT_S
        if self._stopping or waiting + more > QUEUE_ANSWERS or late:
            raise Retryable(
                "overloaded", f"{waiting} answers wait for shard {shard}", next_step="send it again in 1 s"
            )

    def _put(self, shard: int, answers: Sequence[AnswerToRecord], done: Done) -> None:
        lane = self._lanes[shard]
        lane.queue.put(_Group(answers, done))
        self._idle.clear()
        if lane.timer is None:
            # Not at once: what comes in the same turn of the loop goes along.
            lane.timer = self._loop.call_soon(self._timer_over, shard)
        elif lane.queue.answers == ENOUGH_ANSWERS:
            lane.timer.cancel()
            lane.timer = self._loop.call_soon(self._timer_over, shard)

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
            self._check_room(shard, len(indices))
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
            found: asyncio.Future[list[Outcome]] = self._loop.create_future()
            self._put(shard, [answers[i] for i in part], partial(_settle, found))
            for index, outcome in zip(part, await found, strict=True):
                outcomes[index] = outcome

    def _timer_over(self, shard: int) -> None:
        self._lanes[shard].timer = None
        self._pump(shard)

    def _pump(self, shard: int) -> None:
        """Sends what may go out now; a timer or a reply looks again later."""
        lane = self._lanes[shard]
        while lane.queue.answers and lane.free:
            waiting, now = lane.queue.answers, self._loop.time()
            if waiting < ENOUGH_ANSWERS and not self._stopping:
                if (wait_s := lane.sent_at + GATHER_S - now) > 0:
                    if lane.timer is None:
                        lane.timer = self._loop.call_later(wait_s, self._timer_over, shard)
                    return
                if waiting < SECOND_ANSWERS and len(lane.free) < IN_FLIGHT:
                    return
            self._send(shard, lane.queue.take(BATCH_ANSWERS), now)

    def _send(self, shard: int, groups: list[_Group], now: float) -> None:
        lane = self._lanes[shard]
        slot = lane.free.pop()
        lane.sent_at = lane.in_flight_since[slot] = now

        def done(outcomes: list[Outcome] | Exception) -> None:
            lane.free.append(slot)
            del lane.in_flight_since[slot]
            _tell(shard, groups, outcomes)
            self._pump(shard)
            if not any(one.queue.answers or one.in_flight_since for one in self._lanes):
                self._idle.set()

        try:
            batch = [answer for group in groups for answer in group.answers]
            self.shards.send_batch(shard, batch, slot, done)
        except Exception as error:  # every caller must learn of it, whatever it is
            done(error)


def _settle(found: asyncio.Future[list[Outcome]], outcomes: list[Outcome] | Exception) -> None:
    if found.done():  # its caller has gone
        return
    if isinstance(outcomes, Exception):
        found.set_exception(outcomes)
    else:
        found.set_result(outcomes)


def _tell(shard: int, groups: Sequence[_Group], outcomes: list[Outcome] | Exception) -> None:
    """Gives each group its part of a batch's outcomes, or what its caller is told of the batch's failure."""
    start = 0
    for group in groups:
        found: list[Outcome] | Exception
        if isinstance(outcomes, Exception):
            found = _failure(shard, outcomes)
        else:
            found = outcomes[start : start + len(group.answers)]
            start += len(group.answers)
            if any(outcome.status == OUTBOX_FULL for outcome in found):
                found = _outbox_full(shard)
        try:
            group.done(found)
        except Exception:
            LOG.exception("caller_failed shard=%d", shard)  # the others must learn all the same
