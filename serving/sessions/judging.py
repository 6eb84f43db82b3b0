"""Whether an answer is taken, and what it is worth: pure, from the session's state and the instant it was received.

What a client says of time, correctness or points is never asked (CONTRACTS A7, A8). A typed answer is judged by
`contracts/spelling.py`, and the event's `choice` is what was typed, in at most MOST_TYPED characters.
"""

from __future__ import annotations

from contracts import question_types, scoring, spelling
from contracts.errors import BadInput
from contracts.events import AnswerEvent
from contracts.identity import event_id
from contracts.periods import iso_ms
from serving.sessions.machine import ended, over
from serving.sessions.session import PAUSED, QUESTION, Player, Question, Session


def check_player(session: Session, user_id: str) -> None:
    """Raises BadInput(player_removed, 403) if the host has removed this player."""
    if user_id in session.removed:
        raise BadInput(
            "player_removed", f"the host removed {user_id} from session {session.session_id}", status=403
        )


def check_open(session: Session, question_id: str, received_us: int) -> None:
    """Raises BadInput unless this question of a hosted session takes answers at this instant."""
    if session.over or over(session, received_us):
        raise ended(session)
    paused = session.paused_at_us and session.paused_at_us <= received_us
    if session.state == PAUSED or (paused and received_us < session.resumed_at_us):
        raise BadInput(
            "session_paused", f"session {session.session_id} is paused", status=409, next_step="wait"
        )
    if session.state != QUESTION or session.question_id != question_id:
        raise BadInput("question_closed", f"question {question_id} is not open", status=409)
    check_deadline(question_id, session.deadline_us, received_us)


def check_deadline(question_id: str, deadline_us: int, received_us: int) -> None:
    """Raises BadInput(question_closed) after the deadline; the deadline itself is in time."""
    if received_us > deadline_us:
        raise BadInput(
            "question_closed", f"question {question_id} closed at {iso_ms(deadline_us)}", status=409
        )


def elapsed_ms(session: Session, received_us: int) -> int:
    """Time taken, without pauses; never negative (processes' clocks differ by some ms).

    An answer received before a pause and recorded only after it took no longer than until the pause began, and counts
    as that: against the question's moved beginning it would look as if it had come at once.
    """
    return max((max(received_us, session.resumed_at_us) - session.shown_at_us) // 1000, 0)


def answer_event(
    session: Session, question: Question, player: Player, choice: str, received_us: int
) -> AnswerEvent:
    """The event of a live answer in a hosted session, scored under the session's state.

    Raises BadInput: session_ended, session_paused, player_removed, question_closed (another or no question is open, or
    the deadline has passed), invalid_field (a choice that was not offered).
    """
    check_player(session, player.user_id)
    check_open(session, question.question_id, received_us)
    return scored(session, question, player, choice, received_us, elapsed_ms(session, received_us))


def scored(
    session: Session, question: Question, player: Player, choice: str, received_us: int, taken_ms: int
) -> AnswerEvent:
    """The event of an answer that is in time. Raises BadInput(invalid_field) for one that cannot be an answer to it."""
    kept, correct = judged(question, choice)
    return AnswerEvent(
        event_id=event_id(session.session_id, question.question_id, player.user_id),
        origin="live",
        occurred_at_us=received_us,
        user_id=player.user_id,
        user_no=player.user_no,
        session_id=session.session_id,
        session_started_at_us=session.started_at_us,
        session_tick_ms=session.tick_ms,
        quiz_id=session.quiz_id,
        quiz_zone=session.quiz_zone,
        quiz_version=session.quiz_version,
        question_id=question.question_id,
        question_type=question.type,
        skill_tags=question.tags,
        choice=kept,
        correct=correct,
        elapsed_ms=taken_ms,
        time_limit_ms=question.time_limit_ms,
        rule=session.rule,
        points=scoring.points(session.rule, correct, taken_ms, question.time_limit_ms),
    )


def judged(question: Question, given: str) -> tuple[str, bool]:
    """What is kept of an answer, and whether it is right.

    Raises BadInput(invalid_field): a choice that was not offered; a typed answer that is empty or longer than a word.
    """
    if question.type == question_types.TYPED_SPELLING:
        typed = spelling.as_typed(given)
        if not 0 < len(typed) <= spelling.MOST_TYPED:
            raise BadInput(
                "invalid_field",
                f"choice: a typed answer has 1 to {spelling.MOST_TYPED} characters, not {len(typed)}",
            )
        return typed, spelling.is_right(typed, (question.answer, *question.also))
    if given not in question.choices:
        raise BadInput(
            "invalid_field", f"choice {given[:80]!r} is not among the choices of {question.question_id}"
        )
    return given, given == question.answer
