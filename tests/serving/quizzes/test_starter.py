"""The starter words as data: nothing gives its answer away, choices are fair, levels and parts of speech are spread."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from contracts.names import word_of
from contracts.question_types import GAP_IN_SENTENCE, LISTENING, TYPED_SPELLING, WORD_TO_DEFINITION
from serving.quizzes.draft import GAP, problems, question_of
from serving.quizzes.starter import KINDS, LEVELS, StarterWord, right_answers, starter_quizzes, words_of

pytestmark = pytest.mark.unit
WORDS = [(level, word) for level in LEVELS for word in words_of(level)]
# As many of each as a unit's wrong choices need, and more than one unit of the rest.
LEAST_PARTS = {"noun": 15, "verb": 10, "adjective": 6, "adverb": 4}


def forms(word: str) -> set[str]:
    """The word and what English grammar may make of it; a few too many do no harm."""
    found = {
        word,
        word + "s",
        word + "es",
        word + "ed",
        word + "ing",
        word + "er",
        word + "est",
        word + "ly",
        word + "r",
    }
    found |= {word + "'s", word + "d", word + "n", word + "ness", word + "ment", word + "st"}
    if word.endswith("e"):
        found |= {word[:-1] + end for end in ("ing", "ed", "ation", "ion", "y", "able", "er")}
    if word.endswith("y"):
        found |= {word[:-1] + end for end in ("ies", "ied", "ier", "iest", "ily", "iness")}
    found |= {word + word[-1] + end for end in ("ing", "ed", "er", "est")}
    irregular = {
        "buy": "bought", "swim": "swam swum", "read": "reader", "drink": "drank drunk", "sleep": "slept asleep",
        "write": "wrote written", "run": "ran", "sing": "sang sung song", "drive": "drove driven", "forget": "forgot forgotten",
        "break": "broke broken", "win": "won", "choose": "chose chosen choice", "send": "sent", "knife": "knives",
    }  # fmt: skip
    return found | set(irregular.get(word, "").split())


def said(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def test_there_are_words_of_every_level_and_part_of_speech() -> None:
    assert len(WORDS) >= 200
    for level in LEVELS:
        parts = Counter(word.part for word in words_of(level))
        assert all(parts[part] >= least for part, least in LEAST_PARTS.items()) and set(parts) == set(
            LEAST_PARTS
        ), level
        assert [word.number for word in words_of(level)] == list(range(1, len(words_of(level)) + 1))
    assert len({word.word for _, word in WORDS}) == len(WORDS)


@pytest.mark.parametrize(("level", "word"), WORDS, ids=[word.word for _, word in WORDS])
def test_a_word_is_sound(level: str, word: StarterWord) -> None:
    assert not forms(word.word) & said(word.definition), "the definition says its word"
    assert 1 == len(re.findall(rf"(?<!\w){word.word}(?!\w)", word.example)), "the example has its word once"
    assert forms(word.word) & said(word.example) == {word.word}, (
        "the example says another form of its word too"
    )
    assert word.example[0].isupper() and word.example[-1] in ".!?" and word.definition[0].isupper()
    assert word.definition[-1] != "." and len(word.definition) <= 90
    by_word = {one.word: one for one in words_of(level)}
    assert len(set(word.wrong)) == 3 and word.word not in word.wrong
    assert {word.part} == {by_word[other].part for other in word.wrong}, (
        "choices of one level and part of speech"
    )
    assert len({by_word[one].definition for one in (word.word, *word.wrong)}) == 4


def test_no_two_words_have_one_definition() -> None:
    assert len({word.definition.lower() for _, word in WORDS}) == len(WORDS)


def test_no_word_is_a_wrong_choice_everywhere_or_nowhere() -> None:
    for level in LEVELS:
        used = Counter(other for word in words_of(level) for other in word.wrong)
        assert set(used) == {word.word for word in words_of(level)} and max(used.values()) <= 6, (
            used.most_common(3)
        )


def test_quizzes_of_every_level_and_type_can_be_published() -> None:
    quizzes = starter_quizzes()
    assert {(q.draft.level, q.kind.type) for q in quizzes} == {
        (level, k.type) for level in LEVELS for k in KINDS
    }
    assert len({q.quiz_id for q in quizzes}) == len(quizzes) and quizzes[0].quiz_id == "starter-a1"
    assert {12} == {len(q.draft.questions) for q in quizzes}
    assert [] == [(q.quiz_id, problem) for q in quizzes for problem in problems(q.draft)]
    ids = [question.question_id for q in quizzes for question in q.draft.questions]
    assert len(set(ids)) == len(ids) == len(right_answers())


def test_nothing_that_is_shown_before_the_reveal_says_the_answer() -> None:
    """Ids, prompts and what is spoken; the choices say it, but in an order that each session makes by chance."""
    for quiz in starter_quizzes():
        for written in quiz.draft.questions:
            played = question_of(quiz.draft, written)
            word = str(written.word)
            shown = " ".join((played.question_id, played.prompt, played.speech)).lower()
            if played.type in (WORD_TO_DEFINITION, LISTENING):
                assert played.answer.lower() not in shown
            else:
                assert not forms(word) & said(shown) and word not in played.question_id
            assert (played.choices == ()) == (played.type == TYPED_SPELLING)
            assert played.tags[:2] == (quiz.draft.level, written.part) and word_of(
                played.tags
            ) == word.replace(" ", "-")


def test_a_gap_does_not_tell_how_its_word_begins() -> None:
    for quiz in starter_quizzes():
        if quiz.kind.type == GAP_IN_SENTENCE:
            for question in quiz.draft.questions:
                assert 1 == len(GAP.findall(question.prompt))
                assert not re.search(r"\ban? ___", question.prompt, re.IGNORECASE), question.prompt
