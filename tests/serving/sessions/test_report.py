"""The class report as a pure function: what is counted, what is hidden, the order, and cells that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from serving.sessions import report
from serving.sessions.report import Answered, Played
from serving.sessions.report_sources import parse_kept
from serving.sessions.session import CHALLENGE, Question, Session

pytestmark = pytest.mark.unit
QUESTIONS = tuple(Question(f"q{n}", f"prompt {n}", ("a", "b", "c"), "a", "t") for n in range(4))
PLAYED = Played(
    QUESTIONS[:3], {"u1": "Ada", "u2": "Grace", "u3": "Linus"}, frozenset(), frozenset(), 0, 10_000
)


def answer(question: int, user: str, choice: str, ms: int, points: int = 0) -> Answered:
    return Answered(f"q{question}", user, points, 1_000_000 * ms, choice == "a", choice, ms)


ANSWERS = [
    answer(0, "u1", "a", 1_000, 900),
    answer(0, "u2", "a", 3_000, 700),
    answer(0, "u3", "b", 2_500),
    answer(1, "u1", "c", 4_000),
    answer(1, "u2", "b", 5_000),
    answer(1, "u3", "c", 9_001),
]


def test_questions_are_counted_and_the_hardest_is_first() -> None:
    told = report.report(PLAYED, ANSWERS)
    assert [2, 1, 3] == [row["number"] for row in told["questions"]]
    hardest, first, unanswered = told["questions"]
    assert (3, 0, 0.0, 5_000, 6_000) == tuple(
        hardest[name] for name in ("answered", "right", "share_right", "median_ms", "mean_ms")
    )
    assert "c" == hardest["most_chosen_wrong"]
    assert [("a", 0), ("b", 1), ("c", 2)] == [(one["choice"], one["count"]) for one in hardest["choices"]]
    assert (0.6667, 2_500, 2_167, "b") == tuple(
        first[name] for name in ("share_right", "median_ms", "mean_ms", "most_chosen_wrong")
    )
    assert (0, None, None, None) == tuple(
        unanswered[name] for name in ("answered", "share_right", "median_ms", "most_chosen_wrong")
    )
    assert (6, 3) == (told["answers"], told["participants"])


def test_players_are_in_the_boards_order_with_those_who_never_answered() -> None:
    played = replace(PLAYED, names={**PLAYED.names, "u9": "Late"})
    rows = report.report(played, ANSWERS)["players"]
    assert [(1, "Ada", 900, 1), (2, "Grace", 700, 1), (3, "Late", 0, 0), (4, "Linus", 0, 0)] == [
        (row["rank"], row["name"], row["points"], row["right"]) for row in rows
    ]


def test_a_removed_player_is_listed_and_counted_nowhere() -> None:
    told = report.report(replace(PLAYED, removed=frozenset({"u1"})), ANSWERS)
    assert (4, 2) == (told["answers"], told["participants"])
    assert [(1, "Grace"), (2, "Linus"), (None, "Ada")] == [
        (row["rank"], row["name"]) for row in told["players"]
    ]
    assert 0.5 == next(row for row in told["questions"] if row["number"] == 1)["share_right"]


def test_nothing_tells_the_right_answer_of_a_hidden_question() -> None:
    told = report.report(replace(PLAYED, hidden=frozenset({"q1"})), ANSWERS)
    row = next(row for row in told["questions"] if row["number"] == 2)
    assert (True, 3, None, [], None) == tuple(
        row[name] for name in ("open", "answered", "answer", "choices", "most_chosen_wrong")
    )


@pytest.mark.parametrize(
    ("fields", "asked", "hidden"),
    [
        ({"state": "lobby"}, 0, set()),
        ({"state": "question", "question_index": 1, "question_id": "q1"}, 2, {"q1"}),
        ({"state": "closed", "question_index": 1, "question_id": "q1"}, 2, {"q1"}),
        ({"state": "reveal", "question_index": 1, "question_id": "q1"}, 2, set()),
        ({"state": "paused", "paused_from": "question", "question_index": 1, "question_id": "q1"}, 2, {"q1"}),
        ({"state": "paused", "paused_from": "reveal", "question_index": 1, "question_id": "q1"}, 2, set()),
        ({"state": "ended", "question_index": 1, "question_id": "q1"}, 2, set()),
        ({"state": "open", "mode": CHALLENGE}, 4, {"q0", "q1", "q2", "q3"}),
        ({"state": "ended", "mode": CHALLENGE}, 4, set()),
    ],
)
def test_what_was_asked_and_what_is_hidden(fields: dict[str, object], asked: int, hidden: set[str]) -> None:
    session = Session("s", "quiz", **fields)  # type: ignore[arg-type]
    assert asked == len(report.asked(session, QUESTIONS))
    assert hidden == report.hidden(session, QUESTIONS)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_that_looks_like_a_formula_is_a_text(name: str) -> None:
    played = replace(PLAYED, names={"u1": name, "u2": 'a "b", c'})
    text = report.as_csv(report.report(played, ANSWERS), report.PLAYERS)
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert f"'{name}" == rows[0]["name"] and 'a "b", c' == rows[1]["name"]
    assert "900" == rows[0]["points"] and "no" == rows[0]["removed"]


def test_an_answers_field_is_read_with_and_without_its_detail() -> None:
    assert Answered("q1", "u1", 900, 77, True, "a|b", 1200) == parse_kept("q1:u1", "900|77|5|1|1200|a|b")
    assert Answered("q1", "u1", 0, 77, False, None, None) == parse_kept("q1:u1", "0|77|5|0")
