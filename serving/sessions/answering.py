"""One live answer, from its arrival to its result: decide in Python, record in the one script (the run layer)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from contracts import names
from contracts.errors import BadInput, LakeboardError, Retryable, SystemMissing
from contracts.events import AnswerEvent
from contracts.ranking import unpack
from serving.boards.shards import Outcome
from serving.metrics import ANSWERS, NEGATIVE_ELAPSED
from serving.play.record import AnswerBatcher, to_record
from serving.sessions import machine
from serving.sessions.machine import Player, Question, Session
from serving.sessions.store import SessionStore, now_us

# A session moves every few seconds: an answer that is stale three times in a row has another cause.
STALE_TRIES = 3
# A shard that restarts answers within seconds; a player who waits longer should be told.
SEND_TRIES = 6
SEND_PAUSE_S = 0.25
# An answer tells its session's receivers at most this often; the push loop sends at most 4 states a second anyway.
PUBLISH_EVERY_S = 0.05
CACHED_SESSIONS = 10_000
_CODES = {
    "ended": "session_ended",
    "sealed": "session_sealed",
    "too_late": "question_closed",
    "wrong_question": "question_closed",
    "points_limit": "points_overflow",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What the player is told. `repeat`: this is the first answer's result; total and rank are on the session's board."""

    question_id: str
    points: int
    correct: bool
    total: int
    rank: int | None
    repeat: bool

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Answering:
    """Scores and records live answers; holds the state of the sessions it saw (CONTRACTS A7)."""

    def __init__(self, store: SessionStore, batcher: AnswerBatcher, boards_since_us: int) -> None:
        self.store = store
        self.batcher = batcher
        self.boards_since_us = boards_since_us
        self._states: dict[str, tuple[Session, dict[str, Question]]] = {}
        self._published: dict[str, float] = {}
        self._publishing: set[asyncio.Task[None]] = set()

    async def state(self, session_id: str, fresh: bool = False) -> tuple[Session, dict[str, Question]]:
        """The session and its questions, from memory unless `fresh`; the questions never change."""
        known = self._states.get(session_id)
        if known and not fresh:
            return known
        session = await self.store.load(session_id)
        questions = known[1] if known else {q.question_id: q for q in await self.store.questions(session_id)}
        if len(self._states) >= CACHED_SESSIONS:
            self._states.pop(next(iter(self._states)))
        self._states[session_id] = (session, questions)
        return session, questions

    async def submit(self, session_id: str, player: Player, question_id: str, choice: str) -> Result:
        """Records an answer and returns its result after the shard has synced it. A repeat gets the first result.

        Raises BadInput (unknown_session, unknown_question, question_closed, session_ended, invalid_field …) with
        nothing written, and Retryable when a shard does not answer: the caller may send it again unchanged.
        """
        received = now_us()
        try:
            outcome = await self._decide_and_record(session_id, player, question_id, choice, received)
        except LakeboardError as error:
            ANSWERS.labels(error.code).inc()
            raise
        ANSWERS.labels(outcome.status).inc()
        self._tell(session_id)
        total, rank = await self._standing(session_id, player.user_id, outcome)
        return Result(question_id, outcome.points, outcome.correct, total, rank, outcome.status == "repeat")

    async def _decide_and_record(
        self, session_id: str, player: Player, question_id: str, choice: str, received: int
    ) -> Outcome:
        for attempt in range(STALE_TRIES):
            session, questions = await self.state(session_id, fresh=attempt > 0)
            question = questions.get(question_id)
            if question is None:
                raise BadInput(
                    "unknown_question",
                    f"session {session_id} has no question {question_id[:80]!r}",
                    status=404,
                )
            try:
                event = machine.answer_event(session, question, player, choice, received)
            except BadInput:
                # What is held here may be old: only a fresh state may refuse, and never a repeat.
                if attempt == 0:
                    continue
                first = await self._first_outcome(session_id, question_id, player.user_id)
                if first is None:
                    raise
                return first
            if received < session.shown_at_us:
                NEGATIVE_ELAPSED.inc()
            outcome = await self._record(event, str(session.epoch))
            if outcome.kept:
                return outcome
            if outcome.status != "stale":
                code = _CODES.get(outcome.status, outcome.status)
                raise BadInput(
                    code, f"session {session_id}, question {question_id}: {outcome.status}", status=409
                )
        raise Retryable("stale", f"session {session_id} moved on while the answer was recorded")

    async def _record(self, event: AnswerEvent, epoch: str) -> Outcome:
        answer = to_record(event, self.boards_since_us, epoch=epoch, with_rank=True)
        for attempt in range(SEND_TRIES):
            try:
                return (await self.batcher.record([answer]))[0]
            except SystemMissing:
                if attempt == SEND_TRIES - 1:
                    raise
                await asyncio.sleep(SEND_PAUSE_S * (attempt + 1))
        raise AssertionError("unreachable")

    async def _first_outcome(self, session_id: str, question_id: str, user_id: str) -> Outcome | None:
        client = self.store.connections.texts[await self.store.shard_of(session_id)]
        kept = await client.hget(
            names.session_answers(session_id), names.duplicate_field(question_id, user_id)
        )
        if kept is None:
            return None
        points, occurred, seq, correct = kept.split("|")
        return Outcome("repeat", int(points), int(occurred), int(seq), correct == "1")

    async def _standing(self, session_id: str, user_id: str, outcome: Outcome) -> tuple[int, int | None]:
        if outcome.total_packed is not None:
            return unpack(outcome.total_packed)[0], outcome.rank
        session, _ = await self.state(session_id)
        place = await self.store.connections.boards.rank(
            names.session_board(session_id), user_id, session.quiz_id
        )
        return (place.points, place.rank) if place else (outcome.points, None)

    def _tell(self, session_id: str) -> None:
        """Publishes the session's change once for all answers of the same moment."""
        if session_id in self._published:
            return
        self._published[session_id] = time.monotonic()
        task = asyncio.create_task(self._publish(session_id))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, session_id: str) -> None:
        try:
            await asyncio.sleep(PUBLISH_EVERY_S)
            self._published.pop(session_id, None)
            client = self.store.connections.texts[await self.store.shard_of(session_id)]
            await client.publish(names.channel(session_id), "answers")
        finally:
            self._published.pop(session_id, None)
