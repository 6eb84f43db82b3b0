"""The session machine against a slow, obvious model, over long random sequences of moves, answers and time.

The model keeps no deadlines and moves no instants: it writes down everything that happened, and works out from that
list alone what is open, how long a player has really been thinking, and what may be known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts import scoring
from contracts.errors import BadInput
from serving.live.messages import as_document
from serving.live.phases import phase_message
from serving.sessions import judging, machine, pacing
from serving.sessions.session import Player, Question, Session

pytestmark = pytest.mark.property
MS = 1000
LIMIT_MS = 20_000
PLAYERS = ("ada", "bea", "cyd")
RUNNING = ("lobby", "question", "closed", "reveal", "standings", "podium")
# Which moves a phase takes, and where they lead; None: to the next question, or the podium after the last.
FLOW: dict[str, dict[str, str | None]] = {
    "lobby": {"next": None, "advance": None},
    "question": {"next": None, "skip": None, "close": "closed", "advance": "closed"},
    "closed": {"next": None, "reveal": "reveal", "advance": "reveal"},
    "reveal": {"next": None, "standings": "standings", "advance": "standings"},
    "standings": {"next": None, "advance": None},
    "podium": {"next": "ended", "advance": "ended"},
    "ended": {},
}


class Model:
    """What happened, in order, and what follows from it."""

    def __init__(self, questions: int) -> None:
        self.questions = questions
        self.phase = "lobby"
        self.number = -1
        self.locked = False
        self.removed: set[str] = set()
        self.moves = 0
        # Spans since the question was shown, ms, each marked: was the clock running?
        self.clock: list[tuple[int, bool]] = []
        self.paused = False
        self.points: dict[tuple[int, str], int] = {}

    def tick(self, ms: int) -> None:
        self.clock.append((ms, not self.paused))

    def thought_ms(self) -> int:
        """How long the question has really been open."""
        return sum(ms for ms, running in self.clock if running)

    def move(self, kind: str) -> bool:
        """Whether the move is allowed; does it."""
        if kind == "end":
            if self.phase != "ended":
                self.phase, self.paused = "ended", False
                self.moves += 1
            return True
        if kind in ("lock", "unlock"):
            if self.phase == "ended":
                return False
            if self.locked != (kind == "lock"):
                self.locked = not self.locked
                self.moves += 1
            return True
        if kind in ("pause", "resume"):
            return self._pause(kind)
        if self.paused or kind not in FLOW[self.phase]:
            return False
        last = self.number + 1 >= self.questions
        to = FLOW[self.phase][kind]
        if kind == "advance" and self.phase == "reveal" and last:
            to = None
        if to is None:
            to = "podium" if last else "question"
            if to == "question":
                self.number += 1
                self.clock = []
        self.phase = to
        self.moves += 1
        return True

    def _pause(self, kind: str) -> bool:
        if (kind == "pause") == self.paused or self.phase not in ("question", "reveal", "standings"):
            return False
        if kind == "pause" and self.phase == "question" and self.thought_ms() > LIMIT_MS:
            return False
        self.paused = not self.paused
        self.moves += 1
        return True

    def answer(self, user: str, correct: bool) -> int | None:
        """The points of an answer now, or None if it is refused; a first one stays."""
        if (self.number, user) in self.points:
            return self.points[self.number, user]
        if self.phase != "question" or self.paused or user in self.removed or self.thought_ms() > LIMIT_MS:
            return None
        worth = 500 + 500 * (LIMIT_MS - self.thought_ms()) // LIMIT_MS if correct else 0
        self.points[self.number, user] = worth
        return worth


class SessionMachine(RuleBasedStateMachine):
    """Drives `machine`, `judging` and `pacing`, with the duplicate key that the script holds, beside the model."""

    @initialize(questions=st.integers(1, 4))
    def begin(self, questions: int) -> None:
        self.questions = [
            Question(f"q{n}", f"Which {n}?", ("a", "b", "c", "d"), "abcd"[n], "definition_to_word")
            for n in range(questions)
        ]
        self.now_us = 1_000_000_000
        self.session = Session(
            "s1",
            "quiz",
            host_id="host",
            questions=questions,
            tick_ms=10,
            started_at_us=self.now_us,
            phase_at_us=self.now_us,
            host_seen_us=self.now_us,
        )
        self.model = Model(questions)
        self.kept: dict[tuple[str, str], int] = {}
        self.old: list[Session] = []

    def write(self, fields: dict[str, Any]) -> None:
        """What the script does: nothing unless the epoch is the one it was decided on."""
        if fields:
            assert self.session.epoch + 1 == fields["epoch"]
            self.old.append(self.session)
            self.session = replace(self.session, **fields)

    @rule(ms=st.sampled_from([0, 1, 700, 5_000, 15_000, 20_000, 20_400, 31_000, 601_000]))
    def time_passes(self, ms: int) -> None:
        self.now_us += ms * MS
        self.model.tick(ms)

    @precondition(lambda self: self.model.moves > 12)
    @rule()
    def the_host_ends_it(self) -> None:
        self.the_host_moves("end")

    @precondition(lambda self: self.model.phase == "question" and not self.model.paused)
    @rule(ms=st.sampled_from([1, 700, 40_000]), user=st.sampled_from(PLAYERS), right=st.booleans())
    def a_pause_in_a_question(self, ms: int, user: str, right: bool) -> None:
        """A pause, an answer in it, and another at once after it."""
        question = self.questions[self.session.question_index]
        choice = question.answer if right else next(c for c in question.choices if c != question.answer)
        self.the_host_moves("pause")
        self.a_player_answers(user, choice)
        self.time_passes(ms)
        self.the_host_moves("resume")
        self.a_player_answers(user, choice)

    @rule(kind=st.sampled_from(sorted(machine.MOVES.keys() - {"end"})))
    def the_host_moves(self, kind: str) -> None:
        try:
            fields = machine.MOVES[kind](self.session, self.questions, self.now_us)
        except BadInput:
            assert not self.model.move(kind), kind
            return
        assert self.model.move(kind), kind
        self.write(fields)

    @rule(user=st.sampled_from(PLAYERS), back=st.booleans())
    def a_player_is_removed_or_let_in(self, user: str, back: bool) -> None:
        try:
            fields = (machine.readmit if back else machine.remove)(self.session, user)
        except BadInput:
            assert "ended" == self.model.phase
            return
        if fields:
            self.write(fields)
            self.model.moves += 1
            change = self.model.removed.discard if back else self.model.removed.add
            change(user)
            gone = self.session.removed - {user} if back else self.session.removed | {user}
            self.session = replace(self.session, removed=gone)

    @rule(user=st.sampled_from(PLAYERS), choice=st.sampled_from("abcd"))
    def a_player_answers(self, user: str, choice: str) -> None:
        if not self.session.question_id:
            return
        question = self.questions[self.session.question_index]
        expected = self.model.answer(user, choice == question.answer)
        key = (question.question_id, user)
        if key in self.kept:
            assert expected == self.kept[key]
            return
        try:
            event = judging.answer_event(self.session, question, Player(user, 1), choice, self.now_us)
        except BadInput:
            assert expected is None
            return
        assert (
            expected == event.points == scoring.points("speed@1", event.correct, event.elapsed_ms, LIMIT_MS)
        )
        self.kept[key] = event.points

    @rule(user=st.sampled_from(PLAYERS), number=st.integers(0, 3))
    def another_question_is_answered(self, user: str, number: int) -> None:
        if number < len(self.questions) and number != self.session.question_index:
            with pytest.raises(BadInput):
                judging.answer_event(self.session, self.questions[number], Player(user, 1), "a", self.now_us)

    @precondition(lambda self: self.session.resumed_at_us)
    @rule(user=st.sampled_from(PLAYERS), before_ms=st.integers(1, 30_000))
    def an_answer_from_before_the_pause_gains_nothing(self, user: str, before_ms: int) -> None:
        """Received before the last pause or in it, recorded now: never faster than the pause's beginning allows."""
        received = self.session.resumed_at_us - before_ms * MS
        try:
            judging.check_open(self.session, self.session.question_id, received)
        except BadInput:
            return
        assert received < self.session.paused_at_us
        # As long as the clock had run when the pause began: all of its time until now but what came after the pause.
        since = (self.now_us - self.session.resumed_at_us) // MS
        if self.model.phase == "question":
            assert self.model.thought_ms() - since == judging.elapsed_ms(self.session, received)

    @rule(host_here=st.booleans())
    def the_clock_looks(self, host_here: bool) -> None:
        move, again_us = pacing.due(self.session, self.questions, host_here, self.now_us)
        phase = self.model.phase
        if not move:
            assert again_us is None or again_us > self.now_us
            assert (again_us is None) == (phase in ("lobby", "ended"))
            return
        if phase == "question" and not self.model.paused:
            assert self.model.thought_ms() > LIMIT_MS
        elif phase != "closed":
            assert not host_here
        assert self.model.move("resume" if self.model.paused else "advance")
        self.write(move)

    @rule(pick=st.randoms(use_true_random=False))
    def a_move_decided_on_an_old_state_is_not_written(self, pick: Any) -> None:
        """What the script compares: no older state has the epoch of the newest one."""
        if self.old:
            assert pick.choice(self.old).epoch < self.session.epoch

    @invariant()
    def the_phase_is_the_models(self) -> None:
        expected = "paused" if self.model.paused else self.model.phase
        assert (expected, self.model.moves) == (self.session.state, self.session.epoch)
        assert self.model.locked == self.session.locked
        assert self.model.number == self.session.question_index

    @invariant()
    def the_right_answer_is_told_only_after_the_closing(self) -> None:
        question = {q.question_id: q for q in self.questions}.get(self.session.question_id)
        told = as_document(phase_message(self.session, question, self.now_us))
        assert ("answer" in told) == (self.model.phase == "reveal" and not self.model.paused)
        if "answer" in told and question is not None:
            with pytest.raises(BadInput):
                judging.check_open(self.session, question.question_id, self.now_us)

    @invariant()
    def a_session_that_runs_is_never_left_alone(self) -> None:
        """Something is due by itself some day, whatever the host does, but in the lobby and after the end."""
        at = pacing.look_at_us(self.session)
        assert (at is None) == (self.model.phase in ("lobby", "ended"))


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
