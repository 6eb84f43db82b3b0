"""A session's states and moves, as pure decisions: values in, a move or an error out (the decide layer).

    lobby ──next──► question ──close──► closed ──next──► question … ──next after the last / end──► ended
                       └──────────────next──────────────────┘
Every move raises the epoch, so that an answer decided on an older state is `stale` and is decided again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts import scoring
from contracts.errors import BadInput
from contracts.events import AnswerEvent
from contracts.identity import event_id
from contracts.periods import iso_ms
from contracts.ranking import SESSION_MAX_US, SHORT_SESSION_TICK_MS, SHORT_SESSION_US

LOBBY, QUESTION, CLOSED, ENDED, SEALED = "lobby", "question", "closed", "ended", "sealed"
# Field of the questions hash that keeps their order; `#` is not valid in an id, so no question can have this name.
ORDER_FIELD = "#order"
TIME_LIMIT_MS = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """One question as a session plays it. `answer` is one of `choices`, and both are texts that players see."""

    question_id: str
    prompt: str
    choices: tuple[str, ...]
    answer: str
    type: str
    tags: tuple[str, ...] = ()
    time_limit_ms: int = TIME_LIMIT_MS

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Question:
        document = json.loads(text)
        return Question(
            **{**document, "choices": tuple(document["choices"]), "tags": tuple(document["tags"])}
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A session's hash, typed."""

    session_id: str
    quiz_id: str
    quiz_zone: str
    host_id: str
    pin: str
    origin: str
    state: str
    epoch: int
    question_index: int
    question_id: str
    shown_at_us: int
    deadline_us: int
    started_at_us: int
    tick_ms: int
    rule: str
    questions: int
    title: str

    @staticmethod
    def from_hash(session_id: str, fields: Mapping[str, str]) -> Session:
        """The session in a hash; fields that an imported session lacks are empty."""

        def number(name: str, default: int = 0) -> int:
            return int(fields.get(name) or default)

        return Session(
            session_id,
            fields["quiz_id"],
            fields.get("quiz_zone", "UTC"),
            fields.get("host_id", ""),
            fields.get("pin", ""),
            fields.get("origin", "live"),
            fields["state"],
            number("epoch"),
            number("question_index", -1),
            fields.get("question_id", ""),
            number("shown_at_us"),
            number("deadline_us"),
            number("started_at_us"),
            number("tick_ms", 1000),
            fields.get("rule", scoring.DEFAULT_RULE),
            number("questions"),
            fields.get("title", ""),
        )


Move = dict[str, Any]


def _ended(session: Session) -> BadInput:
    code = "session_sealed" if session.state == SEALED else "session_ended"
    return BadInput(code, f"session {session.session_id} has ended", status=409)


def next_question(session: Session, question: Question | None, now_us: int) -> Move:
    """Fields to write for the next question (or the end: `question` is None, or the session's time is over).

    Raises BadInput(session_ended).
    """
    if session.state in (ENDED, SEALED):
        raise _ended(session)
    if question is None or over(session, now_us):
        return end(session)
    return {
        "state": QUESTION,
        "epoch": session.epoch + 1,
        "question_index": session.question_index + 1,
        "question_id": question.question_id,
        "shown_at_us": now_us,
        "deadline_us": now_us + question.time_limit_ms * 1000,
    }


def over(session: Session, now_us: int) -> bool:
    """Whether a session has lasted as long as its board can tell instants apart (CONTRACTS B5)."""
    longest = SHORT_SESSION_US if session.tick_ms == SHORT_SESSION_TICK_MS else SESSION_MAX_US
    return now_us - session.started_at_us >= longest


def close(session: Session) -> Move:
    """Fields to write to close the open question. Raises BadInput(session_conflict) if none is open."""
    if session.state in (ENDED, SEALED):
        raise _ended(session)
    if session.state != QUESTION:
        raise BadInput(
            "session_conflict",
            f"session {session.session_id} is in {session.state}; no question is open",
            status=409,
        )
    return {"state": CLOSED, "epoch": session.epoch + 1}


def end(session: Session) -> Move:
    """Fields to write to end the session; an ended one is left as it is."""
    if session.state in (ENDED, SEALED):
        return {}
    return {"state": ENDED, "epoch": session.epoch + 1}


@dataclass(frozen=True, slots=True)
class Player:
    """Who answers."""

    user_id: str
    user_no: int


def answer_event(
    session: Session, question: Question, player: Player, choice: str, received_us: int
) -> AnswerEvent:
    """The event of a live answer, scored under the session's state (CONTRACTS A7, A8).

    Raises BadInput: session_ended, question_closed (another or no question is open, or the deadline has passed),
    invalid_field (a choice that was not offered). A negative elapsed time is clamped to 0 by the caller's clock rule.
    """
    check_open(session, question.question_id, received_us)
    if choice not in question.choices:
        raise BadInput(
            "invalid_field", f"choice {choice[:80]!r} is not among the choices of {question.question_id}"
        )
    elapsed_ms = max((received_us - session.shown_at_us) // 1000, 0)
    correct = choice == question.answer
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
        quiz_version=1,
        question_id=question.question_id,
        question_type=question.type,
        skill_tags=question.tags,
        choice=choice,
        correct=correct,
        elapsed_ms=elapsed_ms,
        time_limit_ms=question.time_limit_ms,
        rule=session.rule,
        points=scoring.points(session.rule, correct, elapsed_ms, question.time_limit_ms),
    )


def check_open(session: Session, question_id: str, received_us: int) -> None:
    """Raises BadInput unless this question takes answers at this instant."""
    if session.state in (ENDED, SEALED) or over(session, received_us):
        raise _ended(session)
    if session.state != QUESTION or session.question_id != question_id:
        raise BadInput("question_closed", f"question {question_id} is not open", status=409)
    if received_us > session.deadline_us:
        raise BadInput(
            "question_closed", f"question {question_id} closed at {iso_ms(session.deadline_us)}", status=409
        )


def state_message(session: Session, question: Question | None) -> dict[str, Any]:
    """The push that shows a state; the answer is in it only once the question is closed."""
    base: dict[str, Any] = {
        "session_id": session.session_id,
        "epoch": session.epoch,
        "title": session.title,
        "question_index": session.question_index,
        "questions": session.questions,
        "pin": session.pin,
    }
    if session.state == QUESTION and question is not None:
        return {
            "type": "question",
            **base,
            "question_id": question.question_id,
            "prompt": question.prompt,
            "choices": list(question.choices),
            "shown_at": iso_ms(session.shown_at_us),
            "deadline": iso_ms(session.deadline_us),
            "deadline_us": session.deadline_us,
            "time_limit_ms": question.time_limit_ms,
        }
    if session.state == CLOSED and question is not None:
        return {
            "type": "closed",
            **base,
            "question_id": question.question_id,
            "prompt": question.prompt,
            "choices": list(question.choices),
            "answer": question.answer,
        }
    return {"type": "ended" if session.state in (ENDED, SEALED) else "lobby", **base}
