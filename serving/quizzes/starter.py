"""The starter words of our own, and the quizzes made of them: a quiz for each level, type and unit of twelve words.

`starter/LEVEL.csv` is written by hand, a word a line: number, word, part of speech, definition, an example in which the
word stands once, and three wrong choices, words of the same file and part of speech that fit neither definition nor
example. A word's number is part of its questions' ids: lines are added at the end, never moved.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from contracts import question_types as kinds
from serving.quizzes.draft import QuestionDraft, QuizDraft

FOLDER = Path(__file__).parent / "starter"
UNIT_WORDS = 12
LEVELS = {
    "A1": "First words",
    "A2": "Everyday words",
    "B1": "Words for stories",
    "B2": "Words for opinions",
    "C1": "Words for experts",
}


class Kind(NamedTuple):
    """How a starter quiz asks. short: in ids; says: in its title."""

    type: str
    short: str
    says: str


KINDS = (
    Kind(kinds.DEFINITION_TO_WORD, "word", "find the word"),
    Kind(kinds.WORD_TO_DEFINITION, "meaning", "find the meaning"),
    Kind(kinds.GAP_IN_SENTENCE, "gap", "fill the gap"),
    Kind(kinds.LISTENING, "listen", "listen"),
    Kind(kinds.TYPED_SPELLING, "spell", "spell it"),
)


@dataclass(frozen=True, slots=True)
class StarterWord:
    """One line of a level's file. wrong: three other words of it."""

    number: int
    word: str
    part: str
    definition: str
    example: str
    wrong: tuple[str, ...]

    @property
    def with_gap(self) -> str:
        """The example without its word; `a` and `an` would tell how the word begins."""
        gapped = re.sub(rf"(?<!\w){re.escape(self.word)}(?!\w)", "___", self.example, count=1)
        return re.sub(r"\b([Aa])n? (?=___)", r"\1(n) ", gapped)


@dataclass(frozen=True, slots=True)
class StarterQuiz:
    """A quiz of the starter set. unit: from 1."""

    quiz_id: str
    unit: int
    kind: Kind
    draft: QuizDraft


@cache
def words_of(level: str) -> tuple[StarterWord, ...]:
    """The words of a level, in order."""
    with (FOLDER / f"{level.lower()}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            StarterWord(
                int(row["number"]), row["word"], row["part"], row["definition"], row["example"],
                tuple(row["wrong"].split()),
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


def quiz_id_of(level: str, kind: Kind, unit: int) -> str:
    """`starter-a1` for a level's first quiz, `starter-a1-gap-2` for others."""
    first = f"starter-{level.lower()}"
    return first if (kind, unit) == (KINDS[0], 1) else f"{first}-{kind.short}-{unit}"


def question_draft(level: str, kind: Kind, word: StarterWord) -> QuestionDraft:
    """A word's question of a kind. Its id says nothing of the answer: players see ids."""
    by_word = {one.word: one for one in words_of(level)}
    others = list(word.wrong)
    meanings = [by_word[other].definition for other in others]
    prompt, answer, wrong = {
        kinds.DEFINITION_TO_WORD: (word.definition, word.word, others),
        kinds.WORD_TO_DEFINITION: (word.word, word.definition, meanings),
        kinds.GAP_IN_SENTENCE: (word.with_gap, word.word, others),
        kinds.LISTENING: (word.word, word.definition, meanings),
        kinds.TYPED_SPELLING: (word.definition, word.word, []),
    }[kind.type]
    asked = {"type": kind.type, "prompt": prompt, "answer": answer, "wrong": wrong}
    ident = f"{level.lower()}-{word.number:03}-{kind.short}"
    return QuestionDraft.model_validate({"question_id": ident, **asked, "word": word.word, "part": word.part})


@cache
def starter_quizzes() -> tuple[StarterQuiz, ...]:
    """Every quiz of the starter set, by level, unit and kind."""
    found = []
    for level, title in LEVELS.items():
        words = words_of(level)
        for start in range(0, len(words), UNIT_WORDS):
            unit = start // UNIT_WORDS + 1
            for kind in KINDS:
                draft = QuizDraft(
                    title=f"{title} {unit} ({level}): {kind.says}",
                    description=f"{level}, part {unit}: {', '.join(w.word for w in words[start : start + 3])} …",
                    level=level,  # type: ignore[arg-type]
                    questions=[question_draft(level, kind, w) for w in words[start : start + UNIT_WORDS]],
                )
                found.append(StarterQuiz(quiz_id_of(level, kind, unit), unit, kind, draft))
    return tuple(found)


@cache
def right_answers() -> dict[str, str]:
    """question_id → right answer, of every starter question; for tests and simulated learners."""
    return {
        question.question_id: question.answer
        for quiz in starter_quizzes()
        for question in quiz.draft.questions
    }
