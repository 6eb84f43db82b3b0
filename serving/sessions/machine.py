"""A hosted session's moves, as pure decisions: values in, the fields to write or an error out (the decide layer).

    lobby ─next─► question ─close─► closed ─reveal─► reveal ─standings─► standings ─next─► question …
                     └───────── skip, next ─────────► the next question; after the last: podium ─► ended
    pause / resume from question, reveal and standings; lock, unlock, remove, readmit and end from anywhere

A question is closed before it is revealed, so that no answer can follow a reveal, on whichever shard. Every move raises
the epoch: an answer decided on an older state is `stale` and is decided again. A session is written by one script that
compares the epoch (`move_session.lua`), so of two moves decided on one state one is done. `pacing.py` says which moves
come by the clock. A challenge (self-paced, `challenge.py`) has one phase, `open`, and only the moves of the last line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts.errors import BadInput
from contracts.ranking import SESSION_MAX_US, SHORT_SESSION_TICK_MS, SHORT_SESSION_US
from serving.sessions.session import (
    CHALLENGE,
    CLOSED,
    ENDED,
    LOBBY,
    PAUSED,
    PODIUM,
    QUESTION,
    REVEAL,
    SEALED,
    STANDINGS,
    Question,
    Session,
)

Move = dict[str, Any]
"""Fields of the session's hash to write; empty: what was asked for holds already."""
PAUSABLE = (QUESTION, REVEAL, STANDINGS)


def ended(session: Session) -> BadInput:
    """The error of a move or answer that comes after the end."""
    code = "session_sealed" if session.state == SEALED else "session_ended"
    return BadInput(code, f"session {session.session_id} has ended", status=409)


def _conflict(session: Session, why: str) -> BadInput:
    return BadInput("session_conflict", f"session {session.session_id}: {why}", status=409)


def _running(session: Session, *phases: str) -> None:
    """Raises BadInput unless the hosted session is in one of these phases."""
    if session.over:
        raise ended(session)
    if session.mode == CHALLENGE:
        raise _conflict(session, "in a challenge every player has a question of their own")
    if session.state == PAUSED and PAUSED not in phases:
        raise BadInput(
            "session_paused", f"session {session.session_id} is paused", status=409, next_step="resume it"
        )
    if session.state not in phases:
        raise _conflict(session, f"in {session.state}; this takes {' or '.join(phases)}")


def _to(session: Session, phase: str, now_us: int, **fields: Any) -> Move:
    return {"state": phase, "epoch": session.epoch + 1, "phase_at_us": now_us, **fields}


def over(session: Session, now_us: int) -> bool:
    """Whether a session has lasted as long as its board can tell instants apart (CONTRACTS B5)."""
    longest = SHORT_SESSION_US if session.tick_ms == SHORT_SESSION_TICK_MS else SESSION_MAX_US
    return now_us - session.started_at_us >= longest


def next_question(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Shows the next question from whichever phase; after the last the podium, and after that the end.

    An open question is left without a reveal: what was answered stays counted. Raises BadInput: session_ended,
    session_paused, session_conflict.
    """
    _running(session, LOBBY, QUESTION, CLOSED, REVEAL, STANDINGS, PODIUM)
    if session.state == PODIUM or over(session, now_us):
        return end(session, questions, now_us)
    at = session.question_index + 1
    if at >= len(questions):
        return _to(session, PODIUM, now_us)
    question = questions[at]
    return _to(
        session,
        QUESTION,
        now_us,
        question_index=at,
        question_id=question.question_id,
        shown_at_us=now_us,
        deadline_us=now_us + question.time_limit_ms * 1000,
        paused_at_us=0,
        resumed_at_us=0,
        answered=0,
    )


def skip(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Leaves the open question for the next one. Raises BadInput if none is open."""
    _running(session, QUESTION)
    return next_question(session, questions, now_us)


def close(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Closes the open question: from here no answer to it is taken. Raises BadInput if none is open."""
    _running(session, QUESTION)
    return _to(session, CLOSED, now_us)


def reveal(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Tells the closed question's right answer. Raises BadInput unless it is closed."""
    _running(session, CLOSED)
    return _to(session, REVEAL, now_us)


def standings(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Shows who stands where, after the reveal."""
    _running(session, REVEAL)
    return _to(session, STANDINGS, now_us)


def advance(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """The next phase of the flow, whatever the phase is: the host's one button, and what the clock presses."""
    last = session.question_index + 1 >= len(questions)
    step = {QUESTION: close, CLOSED: reveal, REVEAL: next_question if last else standings}
    return step.get(session.state, next_question)(session, questions, now_us)


def pause(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Stops the clock. Raises BadInput(session_conflict) where nothing runs, or the question's time is over."""
    _running(session, *PAUSABLE)
    if session.state == QUESTION and now_us > session.deadline_us:
        raise _conflict(session, "the question's time is over")
    # `phase_at_us` stays: `resume` moves it by the pause.
    return {
        "state": PAUSED,
        "epoch": session.epoch + 1,
        "paused_from": session.state,
        "paused_at_us": now_us,
    }


def resume(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Lets the clock run on: the phase's beginning and the question's deadline move by the pause."""
    _running(session, PAUSED)
    paused_us = max(now_us - session.paused_at_us, 0)
    fields: Move = {
        "state": session.paused_from,
        "epoch": session.epoch + 1,
        "phase_at_us": session.phase_at_us + paused_us,
        "paused_from": "",
        "resumed_at_us": session.paused_at_us + paused_us,
    }
    if session.paused_from == QUESTION:
        fields["shown_at_us"] = session.shown_at_us + paused_us
        fields["deadline_us"] = session.deadline_us + paused_us
    return fields


def _lock(session: Session, locked: bool) -> Move:
    if session.over:
        raise ended(session)
    return {} if session.locked == locked else {"locked": int(locked), "epoch": session.epoch + 1}


def lock(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Nobody new gets in; who is in may go and come back."""
    return _lock(session, True)


def unlock(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Others may join again."""
    return _lock(session, False)


def end(session: Session, questions: Sequence[Question], now_us: int) -> Move:
    """Ends the session; an ended one is left as it is."""
    return {} if session.over else _to(session, ENDED, now_us)


def remove(session: Session, user_id: str) -> Move:
    """Removes a player: the epoch moves, so that no handler takes an answer of theirs on an older state."""
    if session.over:
        raise ended(session)
    return {} if user_id in session.removed else {"epoch": session.epoch + 1}


def readmit(session: Session, user_id: str) -> Move:
    """Lets a removed player in again."""
    if session.over:
        raise ended(session)
    return {"epoch": session.epoch + 1} if user_id in session.removed else {}


MOVES: dict[str, Callable[[Session, Sequence[Question], int], Move]] = {
    "next": next_question,
    "advance": advance,
    "skip": skip,
    "close": close,
    "reveal": reveal,
    "standings": standings,
    "pause": pause,
    "resume": resume,
    "lock": lock,
    "unlock": unlock,
    "end": end,
}
