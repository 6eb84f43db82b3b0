"""A draft as a pure value: what is cleaned, what is refused, and what keeps it from being published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.question_types import QUESTION_TYPES
from serving.quizzes.draft import QuestionDraft, QuizDraft, clean, problems, question_of, questions_of

pytestmark = pytest.mark.property
PICTURE = {"kind": "picture", "url": f"/media/quizzes/{'a' * 40}.png", "alt": "something round"}
AUDIO = {**PICTURE, "kind": "audio", "url": f"/media/quizzes/{'a' * 40}.mp3"}
GOOD: dict[str, dict[str, Any]] = {
    "definition_to_word": {"prompt": "a round fruit", "answer": "apple", "wrong": ["pear"]},
    "word_to_definition": {"prompt": "apple", "answer": "a round fruit", "wrong": ["a yellow fruit"]},
    "gap_in_sentence": {"prompt": "I eat an ___ a day.", "answer": "apple", "wrong": ["pear"]},
    "listening": {"prompt": "apple", "answer": "a round fruit", "wrong": ["a yellow fruit"]},
    "typed_spelling": {"prompt": "a round fruit", "answer": "apple", "also": ["appel"]},
    "picture": {"prompt": "What is this?", "answer": "apple", "wrong": ["pear"], "media": PICTURE},
    "audio": {"answer": "apple", "wrong": ["pear"], "media": AUDIO},
}


def draft_of(kind: str, **changes: Any) -> QuizDraft:
    question = {"type": kind, "question_id": "q1", **GOOD[kind], **changes}
    return QuizDraft.model_validate({"title": "Fruit", "level": "A1", "questions": [question]})


def codes(draft: QuizDraft) -> set[str]:
    return {problem.code for problem in problems(draft)}


@pytest.mark.parametrize("kind", QUESTION_TYPES)
def test_each_type_has_a_form_that_can_be_published(kind: str) -> None:
    draft = draft_of(kind)
    assert set() == codes(draft)
    played = question_of(draft, draft.questions[0])
    assert kind == played.type and "word:apple" in played.tags
    if kind not in ("word_to_definition", "listening"):
        assert "apple" not in played.prompt


@pytest.mark.parametrize(
    ("kind", "changes", "code"),
    [
        ("definition_to_word", {"answer": " "}, "answer_missing"),
        ("definition_to_word", {"prompt": ""}, "prompt_missing"),
        ("definition_to_word", {"wrong": []}, "choices_missing"),
        ("definition_to_word", {"wrong": ["APPLE "]}, "choices_repeated"),
        ("definition_to_word", {"wrong": ["pear", "Pear"]}, "choices_repeated"),
        ("definition_to_word", {"prompt": "An Apple is a fruit"}, "answer_in_prompt"),
        ("definition_to_word", {"also": ["appel"]}, "spellings_not_taken"),
        ("definition_to_word", {"media": PICTURE}, "media_not_taken"),
        ("gap_in_sentence", {"prompt": "I eat fruit."}, "gap_missing"),
        ("gap_in_sentence", {"prompt": "___ and ____"}, "gap_missing"),
        ("gap_in_sentence", {"prompt": "An ___ is an apple."}, "answer_in_prompt"),
        ("typed_spelling", {"wrong": ["pear"]}, "choices_not_taken"),
        ("typed_spelling", {"answer": "x" * 65}, "answer_too_long"),
        ("picture", {"media": None}, "media_missing"),
        ("picture", {"media": AUDIO}, "media_not_taken"),
        ("picture", {"media": {**PICTURE, "alt": "a red apple"}}, "answer_in_prompt"),
        ("audio", {"media": None}, "media_missing"),
    ],
)
def test_what_keeps_it_from_being_published(kind: str, changes: dict[str, Any], code: str) -> None:
    assert code in codes(draft_of(kind, **changes))


def test_a_word_within_another_gives_nothing_away() -> None:
    assert set() == codes(draft_of("definition_to_word", prompt="what a pineapple has in its name"))


def test_an_empty_draft_says_what_it_needs() -> None:
    assert {"title_missing", "no_questions"} == codes(QuizDraft())
    twice = [{"type": "audio", "question_id": "q1"}] * 2
    assert "id_repeated" in codes(QuizDraft.model_validate({"questions": twice}))


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "essay"}, {"type": "picture", "answer": "x" * 201}, {"type": "picture", "wrong": ["x"] * 8},
        {"type": "picture", "question_id": "a b"}, {"type": "picture", "time_limit_s": 4}, {"type": "picture", "points": 9},
        {"type": "picture", "media": {**PICTURE, "url": "https://evil.example/x.png"}},
        {"type": "picture", "media": {**PICTURE, "url": f"/media/quizzes/{'a' * 40}.svg"}},
        {"type": "picture", "media": {**PICTURE, "url": f"/media/quizzes/../{'a' * 40}.png"}},
    ],
)  # fmt: skip
def test_what_no_draft_may_have(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QuestionDraft.model_validate(bad)


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_is_stable_and_can_be_stored(text: str) -> None:
    found = clean(text)
    assert clean(found) == found
    assert "\0" not in found and found == found.strip()
    found.encode()


def test_marks_that_turn_the_text_are_taken_out() -> None:
    assert "evil word" == clean("evil\u202e\u2066 word\u202c\x00")


def test_a_version_of_the_first_layout_can_still_be_played() -> None:
    document = {
        "title": "Old",
        "questions": [{"question_id": "a1-bread", "type": "definition_to_word", "prompt": "food", "answer": "bread",
                       "wrong": ["milk"], "tags": ["A1", "noun"]}],
    }  # fmt: skip
    assert ("A1", "noun", "word:bread") == questions_of(document)[0].tags
