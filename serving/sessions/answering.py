"""One live answer, from its arrival to its result: decide in Python, record in the one script (the run layer)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice

from contracts import names
from contracts.errors import BadInput, LakeboardError, Retryable, SystemMissing
from contracts.events import AnswerEvent
from contracts.ranking import unpack
from serving.boards.session_boards import removed_ahead
from serving.boards.shards import COUNTED, REPEAT, AnswerToRecord, Outcome
from serving.live import phases
from serving.live.messages import Finished, Result, Shown
from serving.metrics import ACK, ANSWERS, NEGATIVE_ELAPSED
from serving.play.record import AnswerBatcher, to_record
from serving.sessions import challenge, judging
from serving.sessions.session import CHALLENGE, Player, Question, Session
from serving.sessions.store import SessionStore, now_us

# A session moves every few seconds: an answer that is stale three times in a row has another cause.
STALE_TRIES = 3
# A shard that restarts answers within seconds; a player who waits longer should be told.
SEND_TRIES = 6
SEND_PAUSE_S = 0.25
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
Done = Callable[[Result | None], None]
_COUNTED = {status: ANSWERS.labels(status) for status in (COUNTED, REPEAT)}


class Answering:
    """Scores and records live answers; holds the state of the sessions it saw (CONTRACTS A7)."""

    def __init__(self, store: SessionStore, batcher: AnswerBatcher, boards_since_us: int) -> None:
        self.store = store
        self.batcher = batcher
        self.boards_since_us = boards_since_us
        self._states: dict[str, State] = {}
        # When the read of a held state began (UTC µs), and the read under way with its begin.
        self._read_at_us: dict[str, int] = {}
        self._reading: dict[str, tuple[int, asyncio.Task[State]]] = {}
        # Who tells this process' own sockets that a session has changed (its rooms), and by what name other handlers know it.
        self.tell: Callable[[str], None] = lambda session_id: None
        self.handler = ""

    async def state(self, session_id: str, fresh: bool = False, since_us: int | None = None) -> State:
        """The session and its questions, from memory unless `fresh`; the questions never change.

        since_us: as they were at that instant or later. Many who ask for the same share one read: when a question closes,
        all who were late do.
        """
        since_us = now_us() if fresh else since_us or 0
        known = self._states.get(session_id)
        if known and self._read_at_us.get(session_id, 0) >= since_us:
            return known
        began_us, task = self._reading.get(session_id, (-1, None))
        if task is None or began_us < since_us:
            began_us = now_us()
            task = asyncio.create_task(self._read(session_id, began_us))
            self._reading[session_id] = (began_us, task)
            task.add_done_callback(partial(self._read_ended, session_id))
        return await asyncio.shield(task)

    def _read_ended(self, session_id: str, task: asyncio.Task[State]) -> None:
        if self._reading.get(session_id, (0, None))[1] is task:
            del self._reading[session_id]
        if not task.cancelled():
            task.exception()  # told to those who wait, if anybody does

    async def _read(self, session_id: str, began_us: int) -> State:
        return await self.learn(await self.store.load(session_id), began_us)

    async def learn(self, session: Session, began_us: int = 0) -> State:
        """Keeps a session, so that its next answer is decided on it; with its questions. began_us: of the read."""
        known = self._states.get(session.session_id)
        questions = (
            known[1] if known else {q.question_id: q for q in await self.store.questions(session.session_id)}
        )
        if len(self._states) >= CACHED_SESSIONS:
            forgotten = next(iter(self._states))
            self._states.pop(forgotten)
            self._read_at_us.pop(forgotten, None)
        if began_us >= self._read_at_us.get(session.session_id, 0):
            self._states[session.session_id] = (session, questions)
            self._read_at_us[session.session_id] = began_us
        return session, questions

    def begin(
        self, session_id: str, player: Player, question_id: str, choice: str, received: int, done: Done
    ) -> bool:
        """The short way of `submit`, without a task: for what is plain on the state held here. False: it is not, go by `submit`.

        done: called once, later: with the result, or None where it has turned out not to be plain (a state that is out of
        date, a shard that is away, a removed player among those before): then `submit` goes on with the same `received`.
        Raises LakeboardError with nothing written.
        """
        known = self._states.get(session_id)
        if known is None or known[0].mode == CHALLENGE or question_id not in known[1]:
            return False
        session, questions = known
        try:
            event = judging.answer_event(session, questions[question_id], player, choice, received)
        except BadInput:
            return False  # what is held here may be old: only a fresh state may refuse
        if received < session.shown_at_us and not session.resumed_at_us:
            NEGATIVE_ELAPSED.inc()
        answer = self._to_record(event, str(session.epoch))

        def recorded(outcomes: list[Outcome] | Exception) -> None:
            outcome = None if isinstance(outcomes, Exception) else outcomes[0]
            now = self._states.get(session_id)
            if outcome is None or not outcome.kept or outcome.rank is None or now is None or now[0].removed:
                done(None)
                return
            _COUNTED[outcome.status].inc()
            ACK.observe((now_us() - received) / 1e6)
            if outcome.status == COUNTED:
                self.tell(session_id)
            done(_result(question_id, outcome, outcome.total_packed, outcome.rank))

        try:
            self.batcher.put([answer], recorded)
        except LakeboardError as error:
            ANSWERS.labels(error.code).inc()
            raise
        return True

    async def submit(
        self, session_id: str, player: Player, question_id: str, choice: str, received: int | None = None
    ) -> Result:
        """Records an answer and returns its result after the shard has synced it. A repeat gets the first result.

        received: UTC µs; now, if it is not said.
        Raises BadInput (unknown_session, unknown_question, question_closed, session_ended, session_paused,
        player_removed, invalid_field …) with nothing written, and Retryable when a shard does not answer: the caller
        may send it again unchanged.
        """
        if received is None:
            received = now_us()
        try:
            outcome = await self._decide_and_record(session_id, player, question_id, choice, received)
        except LakeboardError as error:
            ANSWERS.labels(error.code).inc()
            raise
        ANSWERS.labels(outcome.status).inc()
        ACK.observe((now_us() - received) / 1e6)
        if outcome.status == COUNTED:
            self.tell(session_id)
        return await self._told(session_id, question_id, player.user_id, outcome)

    async def last_result(self, session_id: str, question_id: str, user_id: str) -> Result | None:
        """The result of an answer already counted, for a player who comes back; None if none is acknowledged."""
        try:
            outcome = await self._first_outcome(session_id, question_id, user_id)
        except SystemMissing:  # a replica lacks it; sent again, it gets its result once it is kept
            return None
        return None if outcome is None else await self._told(session_id, question_id, user_id, outcome)

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
        since_us = None
        for attempt in range(STALE_TRIES):
            session, questions = await self.state(session_id, since_us=since_us)
            if question_id not in questions:
                raise BadInput(
                    "unknown_question",
                    f"session {session_id} has no question {question_id[:80]!r}",
                    status=404,
                )
            try:
                event = await self._event(session, questions, player, question_id, choice, received)
            except BadInput:
                # What is held here may be old: only a fresh state may refuse, and never a repeat. But questions never
                # come again: one that was passed by then is closed in any newer state.
                if attempt == 0 and not _passed(session, questions, question_id):
                    since_us = received
                    continue
                first = await self._first_outcome(session_id, question_id, player.user_id)
                if first is None:
                    raise
                return first
            outcome = await self._record(event, str(session.epoch))
            if outcome.kept:
                return outcome
            since_us = now_us()
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

    def _to_record(self, event: AnswerEvent, epoch: str) -> AnswerToRecord:
        return to_record(event, self.boards_since_us, epoch=epoch, with_rank=True, handler=self.handler)

    async def _record(self, event: AnswerEvent, epoch: str) -> Outcome:
        answer = self._to_record(event, epoch)
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

    async def _told(self, session_id: str, question_id: str, user_id: str, outcome: Outcome) -> Result:
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
        return _result(question_id, outcome, packed, rank)


def _passed(session: Session, questions: dict[str, Question], question_id: str) -> bool:
    """Whether a hosted session is beyond a question, and so for good."""
    if session.mode == CHALLENGE or session.question_index < 1:
        return False
    return question_id in islice(questions, session.question_index)


def _result(question_id: str, outcome: Outcome, packed: int | None, rank: int | None) -> Result:
    return Result(
        question_id=question_id,
        points=outcome.points,
        correct=outcome.correct,
        total=outcome.points if packed is None else unpack(packed)[0],
        rank=rank,
        repeat=outcome.status == REPEAT,
    )
