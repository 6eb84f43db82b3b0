"""Self-paced challenges, as pure decisions: each player goes through the questions on a clock of their own.

A player's place is one value, `index|shown_at_us`, replaced only by compare-and-set (`show_question.lua`). It moves on
when the question shown is answered or its time is over, so no question is seen twice or for longer. Right answers are
told when the whole challenge has ended: before that another player, or the same one under another name, may still answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import BadInput
from contracts.events import AnswerEvent
from serving.sessions import judging, machine
from serving.sessions.session import OPEN, Player, Question, Session


@dataclass(frozen=True, slots=True)
class Place:
    """Where a player is: the question shown last (-1: none yet) and since when (UTC µs)."""

    index: int = -1
    shown_at_us: int = 0

    def encode(self) -> str:
        return f"{self.index}|{self.shown_at_us}" if self.index >= 0 else ""

    @staticmethod
    def decode(text: str | None) -> Place:
        if not text:
            return Place()
        index, shown = text.split("|")
        return Place(int(index), int(shown))


def deadline_us(session: Session, question: Question, place: Place) -> int:
    """When the question shown to a player closes: after its time, and never after the challenge itself."""
    return min(place.shown_at_us + question.time_limit_ms * 1000, session.deadline_us)


def check_running(session: Session, now_us: int) -> None:
    """Raises BadInput: session_conflict (not a challenge), session_ended (closed, or its time is over)."""
    if session.state != OPEN and not session.over:
        raise BadInput("session_conflict", f"session {session.session_id} is led by its host", status=409)
    if session.over or now_us > session.deadline_us:
        raise machine.ended(session)


def step(
    session: Session, questions: Sequence[Question], place: Place, answered: bool, player: Player, now_us: int
) -> Place:
    """The player's place after asking for the next question; the same one while theirs is still open.

    `index` may come to len(questions): the player is through. Raises BadInput: player_removed, session_ended.
    """
    judging.check_player(session, player.user_id)
    check_running(session, now_us)
    if place.index >= len(questions):
        return place
    if place.index >= 0 and not answered and now_us <= deadline_us(session, questions[place.index], place):
        return place
    return Place(place.index + 1, now_us)


def answer_event(
    session: Session,
    questions: Sequence[Question],
    place: Place,
    question_id: str,
    player: Player,
    choice: str,
    received_us: int,
) -> AnswerEvent:
    """The event of an answer in a challenge, scored from when the question was shown to this player.

    Raises BadInput: player_removed, session_ended, question_closed, invalid_field.
    """
    judging.check_player(session, player.user_id)
    check_running(session, received_us)
    if not 0 <= place.index < len(questions) or questions[place.index].question_id != question_id:
        raise BadInput("question_closed", f"question {question_id} is not the one shown", status=409)
    question = questions[place.index]
    judging.check_deadline(question_id, deadline_us(session, question, place), received_us)
    taken_ms = max((received_us - place.shown_at_us) // 1000, 0)
    return judging.scored(session, question, player, choice, received_us, taken_ms)
