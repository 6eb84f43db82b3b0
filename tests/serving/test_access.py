"""Tokens, the table route × role generated from the code, the starter words, and the session's moves."""

from __future__ import annotations

import pytest

from contracts.errors import BadInput
from contracts.ranking import SHORT_SESSION_US
from serving.access.roles import table
from serving.access.tokens import PLAYER, TOKEN_LIFE_S, Identity, read, sign
from serving.api import create_app
from serving.quizzes.store import question_of, starter_quizzes
from serving.sessions import machine
from serving.sessions.machine import Player, Question, Session

pytestmark = pytest.mark.unit
KEY = "a key that is long enough for HS256, surely"
QUESTION = Question("q1", "Which?", ("a", "b", "c", "d"), "b", "definition_to_word")
SESSION = Session(
    "s1",
    "quiz",
    "UTC",
    "host",
    "123456",
    "live",
    "lobby",
    0,
    -1,
    "",
    0,
    0,
    5_000_000,
    10,
    "speed@1",
    1,
    "Title",
)


def opened(now_us: int = 10_000_000) -> Session:
    fields = {name: str(value) for name, value in machine.next_question(SESSION, QUESTION, now_us).items()}
    base = {name: str(getattr(SESSION, name)) for name in SESSION.__slots__}
    return Session.from_hash("s1", {**base, **fields})


def test_a_token_returns_its_identity_and_expires() -> None:
    identity = Identity("u1", PLAYER, 7, "s1", "q1", "Ada")
    assert identity == read(sign(identity, KEY), KEY)
    for token in (sign(identity, KEY + "x"), sign(identity, KEY, now_s=1_000_000_000), "x.y.z", ""):
        with pytest.raises(BadInput, match="unauthenticated"):
            read(token, KEY)
    assert TOKEN_LIFE_S > 11 * 3600


def test_every_route_has_its_roles() -> None:
    rows = {(method, path): roles for method, path, roles in table(create_app({}))}
    assert rows["POST", "/v1/sessions/{session_id}/answers"] == "player"
    assert rows["POST", "/v1/sessions/{session_id}/next"] == "host"
    assert rows["POST", "/v1/import/answers"] == "importer"
    assert rows["POST", "/internal/barriers"] == "importer"
    for (_, path), roles in rows.items():
        if path.startswith(("/internal", "/v1/import")):
            assert roles == "importer", path


def test_starter_words_are_sound() -> None:
    words = [(quiz["level"], word) for quiz in starter_quizzes() for word in quiz["words"]]
    assert len(words) >= 60 and len({word["word"] for _, word in words}) == len(words)
    for level, word in words:
        question = question_of(level, word)
        assert len(set(question.choices)) == 4 and question.answer in question.choices
        assert word["word"] not in word["definition"].lower() and word["word"] in word["example"].lower()


@pytest.mark.parametrize(
    ("received_us", "choice", "points"),
    [
        (10_000_000, "b", 1000),
        (20_000_000, "b", 750),
        (30_000_000, "b", 500),
        (9_000_000, "b", 1000),
        (11_000_000, "a", 0),
    ],
)
def test_an_answer_is_scored_from_the_sessions_clock(received_us: int, choice: str, points: int) -> None:
    event = machine.answer_event(opened(), QUESTION, Player("u", 1), choice, received_us)
    assert (points, received_us) == (event.points, event.occurred_at_us)
    assert event.elapsed_ms >= 0


@pytest.mark.parametrize(
    ("session", "choice", "received_us", "code"),
    [
        (SESSION, "b", 10_000_000, "question_closed"),
        (opened(), "z", 10_000_000, "invalid_field"),
        (opened(), "b", 30_000_001, "question_closed"),
    ],
)
def test_an_answer_is_refused(session: Session, choice: str, received_us: int, code: str) -> None:
    with pytest.raises(BadInput) as error:
        machine.answer_event(session, QUESTION, Player("u", 1), choice, received_us)
    assert code == error.value.code


def test_moves() -> None:
    assert machine.close(opened())["state"] == "closed"
    assert machine.next_question(opened(), None, 0)["state"] == "ended"
    late = 5_000_000 + SHORT_SESSION_US
    assert machine.next_question(opened(), QUESTION, late - 1)["state"] == "question"
    assert machine.next_question(opened(), QUESTION, late)["state"] == "ended"
    with pytest.raises(BadInput, match="session_ended"):
        machine.check_open(opened(late - 1), "q1", late)
    with pytest.raises(BadInput, match="session_conflict"):
        machine.close(SESSION)
    assert "answer" not in machine.state_message(opened(), QUESTION)
