"""Questions made of a list of words: which are asked how, and whose meanings are offered beside the right one. Pure."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts import question_types as kinds
from contracts.spelling import spelled
from serving.quizzes.draft import QuestionDraft
from serving.quizzes.sheets import LineError

# What a list of words can be asked by; pictures and recordings are put in by hand.
TYPES = (
    kinds.DEFINITION_TO_WORD,
    kinds.WORD_TO_DEFINITION,
    kinds.GAP_IN_SENTENCE,
    kinds.LISTENING,
    kinds.TYPED_SPELLING,
)
WRONG_CHOICES = 3
_TRIES = 12


@dataclass(frozen=True, slots=True)
class ListedWord:
    """One line of a list. wrong: what its author wants offered beside it; empty: words of other lines."""

    line: int
    word: str
    definition: str
    example: str = ""
    part: str = ""
    wrong: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class _Other(NamedTuple):
    """A word that may be offered beside another; name, meaning: in the form in which spellings are compared."""

    word: str
    definition: str
    name: str
    meaning: str


class Pool:
    """The words of a list, as choices beside each other."""

    def __init__(self, words: Sequence[ListedWord]) -> None:
        self.all: list[_Other] = []
        self.by_part: defaultdict[str, list[_Other]] = defaultdict(list)
        for word in words:
            one = _Other(word.word, word.definition, spelled(word.word), spelled(word.definition))
            self.all.append(one)
            self.by_part[word.part].append(one)


def questions_of(
    words: Sequence[ListedWord], types: Sequence[str]
) -> tuple[list[tuple[int, QuestionDraft]], list[LineError]]:
    """((line, question), by type and line; what keeps a line from being asked so)."""
    found: list[tuple[int, QuestionDraft]] = []
    errors: list[LineError] = []
    others = Pool(words)
    for kind in types:
        for word in words:
            made = _question(word, kind, others)
            if isinstance(made, LineError):
                errors.append(made)
            else:
                found.append((word.line, made))
    return found, errors


def with_gap(word: str, sentence: str) -> str | None:
    """The sentence with ___ in the word's place; None unless the word stands in it once, as it is. `a` and `an` become a(n)."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    if not word or len(pattern.findall(sentence)) != 1:
        return None
    return re.sub(r"\b([Aa])n? (?=___)", r"\1(n) ", pattern.sub("___", sentence))


def _question(word: ListedWord, kind: str, others: Pool) -> QuestionDraft | LineError:
    by_meaning = kind in (kinds.WORD_TO_DEFINITION, kinds.LISTENING)
    prompt, answer = (word.word, word.definition) if by_meaning else (word.definition, word.word)
    if kind == kinds.GAP_IN_SENTENCE:
        gapped = with_gap(word.word, word.example)
        if gapped is None:
            return LineError(word.line, "gap", f"the example must have {word.word!r} in it once, exactly so")
        prompt = gapped
    elif not word.definition:
        return LineError(word.line, "definition_missing", f"{word.word!r} has no definition")
    wrong: list[str] = []
    if kind != kinds.TYPED_SPELLING:
        wrong = _wrong(word, by_meaning, others)
        if not wrong:
            return LineError(word.line, "no_choices", "there is no other word to be offered beside it")
    # Cut like anything that is typed: the bounds are told by their line before it comes here.
    return QuestionDraft.model_validate(
        {
            "type": kind, "prompt": prompt, "answer": answer, "wrong": wrong, "word": word.word, "part": word.part,
            "tags": list(word.tags),
        }
    )  # fmt: skip


def _wrong(word: ListedWord, by_meaning: bool, others: Pool) -> list[str]:
    """Up to three other choices: the author's own, else other lines', of the same part of speech first. Fixed by the word."""
    if word.wrong and not by_meaning:
        return list(word.wrong)
    chance = random.Random(f"{word.word}/{by_meaning}")
    taken = {spelled(word.word), spelled(word.definition)}
    found: list[str] = []
    # Some are left out, and a few must remain; a list of hundreds is not gone through for each of its words.
    near = others.by_part[word.part]
    for pool in (
        chance.sample(near, min(len(near), _TRIES)),
        chance.sample(others.all, min(len(others.all), _TRIES)),
    ):
        for other in pool:
            text, key = (other.definition, other.meaning) if by_meaning else (other.word, other.name)
            if len(found) < WRONG_CHOICES and text and key not in taken and other.meaning not in taken - {""}:
                taken.add(key)
                found.append(text)
    return found
