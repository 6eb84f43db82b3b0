"""One live answer, from its arrival to its result: decide in Python, record in the one script (the run layer)."""

from __future__ import annotations

import asyncio
import logging
import time

from redis.exceptions import RedisError

from contracts import names
from contracts.errors import BadInput, LakeboardError, Retryable, SystemMissing
from contracts.events import AnswerEvent
from contracts.ranking import unpack
from serving.boards.session_boards import removed_ahead
from serving.boards.shards import Outcome
from serving.live import phases
from serving.live.messages import Finished, Result, Shown
from serving.metrics import ANSWERS, NEGATIVE_ELAPSED
from serving.play.record import AnswerBatcher, to_record
from serving.sessions import challenge, judging
from serving.sessions.session import CHALLENGE, Player, Question, Session
from serving.sessions.store import SessionStore, now_us

LOG = logging.getLogger(__name__)
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
State = tuple[Session, dict[str, Question]]
"""A session and its questions, in order."""


class Answering:
    """Scores and records live answers; holds the state of the sessions it saw (CONTRACTS A7)."""

    def __init__(self, store: SessionStore, batcher: AnswerBatcher, boards_since_us: int) -> None:
        self.store = store
        self.batcher = batcher
        self.boards_since_us = boards_since_us
        self._states: dict[str, State] = {}
        self._published: dict[str, float] = {}
        self._publishing: set[asyncio.Task[None]] = set()

    async def state(self, session_id: str, fresh: bool = False) -> State:
        """The session and its questions, from memory unless `fresh`; the questions never change."""
        known = self._states.get(session_id)
        if known and not fresh:
            return known
        return await self.learn(await self.store.load(session_id))

    async def learn(self, session: Session) -> State:
        """Keeps a session that was read just now, so that its next answer is decided on it; with its questions."""
        known = self._states.get(session.session_id)
        questions = (
            known[1] if known else {q.question_id: q for q in await self.store.questions(session.session_id)}
        )
        if len(self._states) >= CACHED_SESSIONS:
            self._states.pop(next(iter(self._states)))
        self._states[session.session_id] = (session, questions)
        return session, questions

    async def submit(self, session_id: str, player: Player, question_id: str, choice: str) -> Result:
        """Records an answer and returns its result after the shard has synced it. A repeat gets the first result.

        Raises BadInput (unknown_session, unknown_question, question_closed, session_ended, session_paused,
        player_removed, invalid_field …) with nothing written, and Retryable when a shard does not answer: the caller
        may send it again unchanged.
        """
        received = now_us()
        try:
            outcome = await self._decide_and_record(session_id, player, question_id, choice, received)
        except LakeboardError as error:
            ANSWERS.labels(error.code).inc()
            raise
        ANSWERS.labels(outcome.status).inc()
        self._tell(session_id)
        return await self._result(session_id, question_id, player.user_id, outcome)

    async def last_result(self, session_id: str, question_id: str, user_id: str) -> Result | None:
        """The result of an answer already counted, for a player who comes back; None if none is acknowledged."""
        try:
            outcome = await self._first_outcome(session_id, question_id, user_id)
        except SystemMissing:  # a replica lacks it; sent again, it gets its result once it is kept
            return None
        return None if outcome is None else await self._result(session_id, question_id, user_id, outcome)

    async def next_question(self, session_id: str, player: Player) -> Shown | Finished:
        """In a challenge: the player's next question, or the one still open, its clock running on; or `finished`.

        Raises BadInput: session_conflict (not a challenge), session_ended, player_removed.
        """
        for _ in range(STALE_TRIES):
            session, by_id = await self.state(session_id, fresh=True)
            questions = list(by_id.values())
            place = await self.store.place(session_id, player.user_id)
            answered = False
            if 0 <= place.index < len(questions):
                asked = questions[place.index].question_id
                answered = await self.store.kept_answer(session_id, asked, player.user_id) is not None
            now = now_us()
            wanted = challenge.step(session, questions, place, answered, player, now)
            if wanted != place:
                moved = await self.store.move_place(session, player.user_id, place, wanted)
                if moved is None:
                    continue
                place = moved
            if place.index >= len(questions):
                return Finished(session_id=session_id, questions=len(questions))
            return phases.own_question(session, questions[place.index], place, now)
        raise Retryable("stale", f"session {session_id} moved on while the next question was looked for")

    async def shown_to(self, session: Session, questions: dict[str, Question], user_id: str) -> str:
        """The id of the question that a player sees now; empty if none."""
        if session.mode != CHALLENGE:
            return session.question_id
        place = await self.store.place(session.session_id, user_id)
        ordered = list(questions)
        return ordered[place.index] if 0 <= place.index < len(ordered) else ""

    async def _decide_and_record(
        self, session_id: str, player: Player, question_id: str, choice: str, received: int
    ) -> Outcome:
        for attempt in range(STALE_TRIES):
            session, questions = await self.state(session_id, fresh=attempt > 0)
            if question_id not in questions:
                raise BadInput(
                    "unknown_question",
                    f"session {session_id} has no question {question_id[:80]!r}",
                    status=404,
                )
            try:
                event = await self._event(session, questions, player, question_id, choice, received)
            except BadInput:
                # What is held here may be old: only a fresh state may refuse, and never a repeat.
                if attempt == 0:
                    continue
                first = await self._first_outcome(session_id, question_id, player.user_id)
                if first is None:
                    raise
                return first
            outcome = await self._record(event, str(session.epoch))
            if outcome.kept:
                return outcome
            if outcome.status != "stale":
                code = _CODES.get(outcome.status, outcome.status)
                raise BadInput(
                    code, f"session {session_id}, question {question_id}: {outcome.status}", status=409
                )
        raise Retryable("stale", f"session {session_id} moved on while the answer was recorded")

    async def _event(
        self,
        session: Session,
        questions: dict[str, Question],
        player: Player,
        question_id: str,
        choice: str,
        received: int,
    ) -> AnswerEvent:
        if session.mode == CHALLENGE:
            place = await self.store.place(session.session_id, player.user_id)
            ordered = list(questions.values())
            return challenge.answer_event(session, ordered, place, question_id, player, choice, received)
        event = judging.answer_event(session, questions[question_id], player, choice, received)
        if received < session.shown_at_us and not session.resumed_at_us:
            NEGATIVE_ELAPSED.inc()
        return event

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
        kept = await self.store.kept_answer(session_id, question_id, user_id)
        return None if kept is None else Outcome("repeat", *kept)

    async def _result(self, session_id: str, question_id: str, user_id: str, outcome: Outcome) -> Result:
        """The outcome with total and rank, as the session's board shows them (without removed players)."""
        session, _ = await self.state(session_id)
        packed, rank = outcome.total_packed, outcome.rank
        if packed is None:
            place = await self.store.connections.boards.rank(
                names.session_board(session_id), user_id, session.quiz_id
            )
            packed, rank = (place.packed, place.rank) if place else (None, None)
        if packed is not None and rank is not None and session.removed:
            client = await self.store.client_of(session_id)
            rank -= await removed_ahead(client, session_id, session.removed, packed, user_id)
        return Result(
            question_id=question_id,
            points=outcome.points,
            correct=outcome.correct,
            total=outcome.points if packed is None else unpack(packed)[0],
            rank=rank,
            repeat=outcome.status == "repeat",
        )

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
            client = await self.store.client_of(session_id)
            await client.publish(names.channel(session_id), "answers")
        except (RedisError, LakeboardError) as error:
            # Rooms look by themselves every few seconds: the push comes later, and is not lost.
            LOG.warning("change_not_told session=%s error=%s", session_id, error)
        finally:
            self._published.pop(session_id, None)
