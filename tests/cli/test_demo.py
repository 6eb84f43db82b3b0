"""The demo's pure parts: which week it shows, and that moving the shipped week changes nothing else."""

from __future__ import annotations

import gzip
from datetime import date, timedelta
from pathlib import Path

import pytest

from cli.answer_files import read
from cli.commands.demo import WEEK, WEEK_FIRST, _right_choices, last_week, moved_week
from serving.quizzes.starter import starter_quizzes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("today", "monday"),
    [
        (date(2026, 11, 23), date(2026, 11, 16)),
        (date(2026, 11, 29), date(2026, 11, 16)),
        (date(2027, 1, 1), date(2026, 12, 21)),
    ],
)
def test_the_week_shown_is_the_last_whole_one(today: date, monday: date) -> None:
    assert monday == last_week(today)


def test_a_moved_week_is_the_same_answers_on_other_days(tmp_path: Path) -> None:
    text = gzip.decompress(WEEK.read_bytes()).decode()
    first = WEEK_FIRST + timedelta(days=35)
    file = tmp_path / "moved.csv"
    file.write_text(moved_week(text, first))
    (kept, _), (moved, bad) = read(WEEK, "csv", "speed@1"), read(file, "csv", "speed@1")
    assert [] == bad
    by_days = 35 * 86_400_000_000
    key = ("user_id", "question_id", "correct", "elapsed_ms")
    assert [(line["occurred_at_us"] + by_days, *(line[k] for k in key)) for line in kept] == [
        (line["occurred_at_us"], *(line[k] for k in key)) for line in moved
    ]


def test_simulated_learners_know_a_choice_of_each_starter_word() -> None:
    known = _right_choices()
    asked = [one.draft for one in starter_quizzes() if one.quiz_id in ("starter-a1", "starter-b1")]
    assert [(q.question_id, q.answer) for draft in asked for q in draft.questions] == [
        (q.question_id, known[q.question_id]) for draft in asked for q in draft.questions
    ]
