"""Moves of a session and the judging of answers, one by one; their long sequences are in `test_session_property.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.errors import BadInput
from contracts.ranking import SHORT_SESSION_US
from serving.live.messages import as_document
from serving.live.phases import phase_message
from serving.sessions import challenge, judging, machine, pacing
from serving.sessions.challenge import Place
from serving.sessions.session import CHALLENGE, OPEN, Player, Question, Session

pytestmark = pytest.mark.unit
QUESTION = Question("q1", "Which?", ("a", "b", "c", "d"), "b", "definition_to_word")
SECOND = Question("q2", "Who?", ("a", "b", "c", "d"), "a", "definition_to_word")
QUESTIONS = [QUESTION, SECOND]
SESSION = Session("s1", "quiz", started_at_us=5_000_000, tick_ms=10, questions=2, host_id="host", title="T")
ADA = Player("ada", 1)
S = 1_000_000
SHOWN = 10 * S


def after(session: Session, kind: str, now_us: int) -> Session:
    fields: dict[str, Any] = machine.MOVES[kind](session, QUESTIONS, now_us)
    return replace(session, **fields)


def led(*moves: str, at_us: int = SHOWN) -> Session:
    """A session after moves that all happen at one instant."""
    session = SESSION
    for kind in moves:
        session = after(session, kind, at_us)
    return session


def code_of(call: Any, *args: Any) -> str:
    with pytest.raises(BadInput) as error:
        call(*args)
    return error.value.code


@pytest.mark.parametrize(
    ("received_us", "choice", "points"),
    [
        (10 * S, "b", 1000),
        (20 * S, "b", 750),
        (30 * S, "b", 500),
        (9 * S, "b", 1000),
        (11 * S, "a", 0),
    ],
)
def test_an_answer_is_scored_from_the_sessions_clock(received_us: int, choice: str, points: int) -> None:
    event = judging.answer_event(led("next"), QUESTION, ADA, choice, received_us)
    assert (points, received_us) == (event.points, event.occurred_at_us)
    assert event.elapsed_ms >= 0


@pytest.mark.parametrize(
    ("session", "choice", "received_us", "code"),
    [
        (SESSION, "b", SHOWN, "question_closed"),
        (led("next"), "z", SHOWN, "invalid_field"),
        (led("next"), "b", 30 * S + 1, "question_closed"),
        (led("next", "close"), "b", SHOWN, "question_closed"),
        (led("next", "pause"), "b", SHOWN, "session_paused"),
        (led("next", "next"), "b", SHOWN, "question_closed"),
        (led("next", "end"), "b", SHOWN, "session_ended"),
        (replace(led("next"), removed=frozenset({"ada"})), "b", SHOWN, "player_removed"),
    ],
)
def test_an_answer_is_refused(session: Session, choice: str, received_us: int, code: str) -> None:
    assert code == code_of(judging.answer_event, session, QUESTION, ADA, choice, received_us)


def test_the_flow_by_one_button() -> None:
    session, seen = SESSION, []
    for _ in range(9):
        session = after(session, "advance", SHOWN)
        seen.append(session.state)
    one = ["question", "closed", "reveal"]
    assert [*one, "standings", *one, "podium", "ended"] == seen
    assert 9 == session.epoch


def test_moves_that_do_not_fit() -> None:
    for moves, kind, code in (
        ((), "close", "session_conflict"),
        ((), "skip", "session_conflict"),
        ((), "pause", "session_conflict"),
        (("next",), "reveal", "session_conflict"),
        (("next",), "standings", "session_conflict"),
        (("next",), "resume", "session_conflict"),
        (("next", "pause"), "next", "session_paused"),
        (("next", "pause"), "pause", "session_paused"),
        (("end",), "next", "session_ended"),
        (("end",), "lock", "session_ended"),
    ):
        assert code == code_of(machine.MOVES[kind], led(*moves), QUESTIONS, SHOWN), (moves, kind)
    assert "session_conflict" == code_of(machine.pause, led("next"), QUESTIONS, 30 * S + 1)
    assert {} == machine.end(led("end"), QUESTIONS, SHOWN) == machine.lock(led("lock"), QUESTIONS, SHOWN)


def test_a_session_ends_where_its_boards_ticks_end() -> None:
    late = 5 * S + SHORT_SESSION_US
    assert machine.next_question(SESSION, QUESTIONS, late - 1)["state"] == "question"
    assert machine.next_question(SESSION, QUESTIONS, late)["state"] == "ended"
    assert "session_ended" == code_of(judging.check_open, led("next", at_us=late - 1), "q1", late)


def test_a_pause_takes_no_time_and_gives_none() -> None:
    paused = after(led("next"), "pause", 15 * S)
    assert 15_000 == as_document(phase_message(paused, QUESTION, 0))["left_ms"]
    resumed = after(paused, "resume", 75 * S)
    assert (70 * S, 90 * S) == (resumed.shown_at_us, resumed.deadline_us)
    # 5 s before the pause and 5 s after it: 10 s.
    assert 750 == judging.answer_event(resumed, QUESTION, ADA, "b", 80 * S).points
    # Received at 4 s, recorded only after the pause: as if at its beginning, never as if at once.
    assert 5_000 == judging.answer_event(resumed, QUESTION, ADA, "b", 14 * S).elapsed_ms
    assert "session_paused" == code_of(judging.answer_event, resumed, QUESTION, ADA, "b", 40 * S)


@pytest.mark.parametrize("moves", [(), ("next",), ("next", "close"), ("next", "pause"), ("next", "next")])
def test_the_right_answer_is_told_only_by_the_reveal(moves: tuple[str, ...]) -> None:
    session = led(*moves)
    question = {q.question_id: q for q in QUESTIONS}.get(session.question_id)
    assert "answer" not in as_document(phase_message(session, question, 0))
    told = as_document(phase_message(led("next", "close", "reveal"), QUESTION, 0))
    assert "b" == told["answer"]


def test_the_clock_closes_and_reveals_whoever_is_there() -> None:
    open_ = led("next")
    at = 30 * S + pacing.CLOSE_GRACE_US
    assert (None, at) == pacing.due(open_, QUESTIONS, True, at - 1)
    move, _ = pacing.due(open_, QUESTIONS, True, at)
    assert move is not None and "closed" == move["state"]
    move, _ = pacing.due(replace(open_, **move), QUESTIONS, True, at)
    assert move is not None and "reveal" == move["state"]


def test_the_clock_leads_only_while_the_host_is_away() -> None:
    shown = replace(led("next", "close", "reveal"), host_seen_us=SHOWN)
    later = SHOWN + pacing.HOST_AWAY_US
    assert (None, later) == pacing.due(shown, QUESTIONS, False, later - 1)
    assert (None, later + pacing.LOOK_AGAIN_US) == pacing.due(shown, QUESTIONS, True, later)
    move, _ = pacing.due(shown, QUESTIONS, False, later)
    assert move is not None and "standings" == move["state"]
    for moves in ((), ("end",)):
        assert (None, None) == pacing.due(led(*moves), QUESTIONS, False, 10**15)


OPENED = replace(SESSION, mode=CHALLENGE, state=OPEN, deadline_us=100 * S)


def test_a_challenges_player_has_a_clock_of_their_own() -> None:
    first = challenge.step(OPENED, QUESTIONS, Place(), False, ADA, SHOWN)
    assert Place(0, SHOWN) == first == Place.decode(first.encode())
    # Asking again shows the same question, its clock running on.
    assert first == challenge.step(OPENED, QUESTIONS, first, False, ADA, SHOWN + 5 * S)
    event = challenge.answer_event(OPENED, QUESTIONS, first, "q1", ADA, "b", SHOWN + 10 * S)
    assert (750, 10_000) == (event.points, event.elapsed_ms)
    second = challenge.step(OPENED, QUESTIONS, first, True, ADA, SHOWN + 11 * S)
    assert 1 == second.index
    assert 1 == challenge.step(OPENED, QUESTIONS, first, False, ADA, SHOWN + 20 * S + 1).index
    through = challenge.step(OPENED, QUESTIONS, second, True, ADA, SHOWN + 12 * S)
    assert len(QUESTIONS) == through.index
    assert through == challenge.step(OPENED, QUESTIONS, through, True, ADA, SHOWN + 13 * S)


@pytest.mark.parametrize(
    ("place", "question_id", "received_us", "code"),
    [
        (Place(), "q1", SHOWN, "question_closed"),
        (Place(0, SHOWN), "q2", SHOWN, "question_closed"),
        (Place(1, SHOWN), "q1", SHOWN, "question_closed"),
        (Place(0, SHOWN), "q1", SHOWN + 20 * S + 1, "question_closed"),
        (Place(0, 95 * S), "q1", 100 * S + 1, "session_ended"),
        (Place(2, SHOWN), "q2", SHOWN, "question_closed"),
    ],
)
def test_a_challenges_answer_is_refused(place: Place, question_id: str, received_us: int, code: str) -> None:
    judge = challenge.answer_event
    assert code == code_of(judge, OPENED, QUESTIONS, place, question_id, ADA, "a", received_us)


def test_a_challenge_takes_no_hosts_moves_but_its_end() -> None:
    for kind in ("next", "advance", "skip", "close", "pause", "resume", "standings"):
        assert "session_conflict" == code_of(machine.MOVES[kind], OPENED, QUESTIONS, SHOWN), kind
    assert "ended" == machine.end(OPENED, QUESTIONS, SHOWN)["state"]
    assert 1 == machine.lock(OPENED, QUESTIONS, SHOWN)["locked"]
    assert "session_conflict" == code_of(challenge.check_running, led("next"), SHOWN)
