"""A quiz as its author writes it: the fields and their bounds, and what keeps it from being published. Pure.

A draft may be unfinished; a published version may not (`problems`). Both have this form, so that a version can be taken
up again as a draft. Whatever is typed is cleaned here, once, so that what is stored can be shown, searched and exported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts import question_types as kinds
from contracts.identity import valid_id
from contracts.names import word_tag
from contracts.spelling import MOST_TYPED, spelled
from serving.sessions.session import Question

# A lesson's worth. A session keeps its own copy of all of them, a host leads through them one by one.
MOST_QUESTIONS = 200
# Letters A to H.
MOST_WRONG = 7
LEVELS = ("A1", "A2", "B1", "B2", "C1", "C2")
PRIVATE, UNLISTED, PUBLIC = "private", "unlisted", "public"
# At least three low lines: an author types them by hand.
GAP = re.compile(r"_{3,}")
# What the media store gives out; nothing else is shown, so that no picture calls somebody else's server.
MEDIA_URL = r"^/media/quizzes/[0-9a-f]{40}\.(png|jpg|webp|mp3|ogg|m4a)$"
# Characters that turn the direction of the text after them: a right answer could be made to look like another one.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def clean(text: str) -> str:
    """NFC, single blanks, none around, without control characters, lone surrogates and marks that turn the text."""
    shown = (
        " " if c.isspace() else c
        for c in text
        if c.isspace() or (unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co") and ord(c) not in _TURNING)
    )
    return " ".join(unicodedata.normalize("NFC", "".join(shown)).split())


def _distinct(texts: list[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]


def _id_or_none(text: str) -> str:
    if text and not valid_id(text):
        raise ValueError("letters, digits, - and _ alone, at most 64")
    return text


Short = Annotated[str, Field(max_length=80), AfterValidator(clean)]
Long = Annotated[str, Field(max_length=300), AfterValidator(clean)]
# A choice is sent back as the answer, in a frame of 4 KiB.
Choice = Annotated[str, Field(max_length=200), AfterValidator(clean)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Media(_Form):
    """A picture or a recording from the media store. alt: what somebody who cannot see or hear it is told."""

    kind: Literal["picture", "audio"]
    url: Annotated[str, Field(pattern=MEDIA_URL)]
    alt: Choice = ""


class QuestionDraft(_Form):
    """One question. `question_id` is given by the server where it is empty, and kept by an edit, so that reports go on.

    prompt: what is shown; of `listening` what is spoken; of `gap_in_sentence` a sentence with ___ in it.
    also: of `typed_spelling` further spellings that are right. word: what is learned, empty: the answer or the prompt.
    """

    question_id: Annotated[str, AfterValidator(_id_or_none)] = ""
    type: Literal[
        "definition_to_word",
        "word_to_definition",
        "gap_in_sentence",
        "listening",
        "typed_spelling",
        "picture",
        "audio",
    ]
    prompt: Long = ""
    answer: Choice = ""
    wrong: Annotated[list[Choice], Field(max_length=MOST_WRONG), AfterValidator(_distinct)] = []
    also: Annotated[list[Choice], Field(max_length=5), AfterValidator(_distinct)] = []
    word: Short = ""
    part: Annotated[str, Field(max_length=20), AfterValidator(clean)] = ""
    tags: Annotated[list[Short], Field(max_length=5), AfterValidator(_distinct)] = []
    media: Media | None = None
    time_limit_s: Annotated[int, Field(ge=5, le=120)] = 20

    @property
    def learned(self) -> str:
        """The word that the question teaches."""
        shown = self.type in (kinds.WORD_TO_DEFINITION, kinds.LISTENING)
        return self.word or (self.prompt if shown else self.answer)


class QuizDraft(_Form):
    """A quiz as it is edited and, once it is complete, published."""

    title: Short = ""
    description: Long = ""
    level: Literal["", "A1", "A2", "B1", "B2", "C1", "C2"] = ""
    # BCP 47, for the voice that speaks and the page's `lang`.
    language: Annotated[str, Field(max_length=20, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")] = "en"
    questions: Annotated[list[QuestionDraft], Field(max_length=MOST_QUESTIONS)] = []

    @property
    def types(self) -> list[str]:
        """The types of its questions, each once, in the order of QUESTION_TYPES."""
        used = {question.type for question in self.questions}
        return [name for name in kinds.QUESTION_TYPES if name in used]


class Problem(NamedTuple):
    """Why a draft cannot be published. question: its number from 1, None for the quiz itself."""

    question: int | None
    code: str
    detail: str


def problems(draft: QuizDraft) -> list[Problem]:
    """Everything that keeps a draft from being published, in its order."""
    found = [] if draft.title else [Problem(None, "title_missing", "the quiz has no title")]
    if not draft.questions:
        found.append(Problem(None, "no_questions", "the quiz has no question"))
    ids: set[str] = set()
    for number, question in enumerate(draft.questions, 1):
        found += [Problem(number, code, detail) for code, detail in _of_question(question)]
        if question.question_id and question.question_id in ids:
            found.append(Problem(number, "id_repeated", f"question_id {question.question_id} is used twice"))
        ids.add(question.question_id)
    return found


def _of_question(question: QuestionDraft) -> Iterator[tuple[str, str]]:
    if not question.answer:
        yield "answer_missing", "it has no right answer"
    if not question.prompt and question.media is None:
        yield "prompt_missing", "it asks nothing"
    yield from _of_choices(question)
    yield from _of_media(question)
    if question.type == kinds.GAP_IN_SENTENCE and len(GAP.findall(question.prompt)) != 1:
        yield "gap_missing", "its sentence needs one gap: ___"
    if question.type not in (kinds.WORD_TO_DEFINITION, kinds.LISTENING) and question.answer:
        texts = [question.prompt, question.media.alt if question.media else ""]
        if any(_says(text, question.answer) for text in texts):
            yield "answer_in_prompt", f"what is shown says the answer, {question.answer!r}"


def _of_choices(question: QuestionDraft) -> Iterator[tuple[str, str]]:
    if question.type == kinds.TYPED_SPELLING:
        if question.wrong:
            yield "choices_not_taken", "a typed answer has no choices"
        if max(map(len, (question.answer, *question.also))) > MOST_TYPED:
            yield "answer_too_long", f"a typed answer has at most {MOST_TYPED} characters"
        return
    if question.also:
        yield "spellings_not_taken", "only a typed answer has further spellings"
    if not question.wrong:
        yield "choices_missing", "it needs a wrong choice at least"
    texts = [spelled(text) for text in (question.answer, *question.wrong)]
    if len(set(texts)) < len(texts):
        yield "choices_repeated", "two of its choices say the same"


def _of_media(question: QuestionDraft) -> Iterator[tuple[str, str]]:
    kind = question.media.kind if question.media else ""
    wanted = {
        kinds.PICTURE: ("picture",),
        kinds.AUDIO: ("audio",),
        kinds.TYPED_SPELLING: ("", "picture", "audio"),
    }
    if kind not in wanted.get(question.type, ("",)):
        if kind:
            yield "media_not_taken", f"{question.type} shows no {kind}"
        else:
            yield (
                "media_missing",
                f"it needs a {'picture' if question.type == kinds.PICTURE else 'recording'}",
            )


def _says(text: str, answer: str) -> bool:
    """Whether a text has the answer in it as whole words."""
    pattern = rf"(?<!\w){re.escape(spelled(answer))}(?!\w)"
    return bool(answer) and re.search(pattern, spelled(text)) is not None


def question_of(draft: QuizDraft, question: QuestionDraft) -> Question:
    """A question as a session plays it; its choices in the author's order, the right one first: whoever makes a session
    of it shuffles them. Its tags: level, part of speech, the author's own, and the word (contracts.names.word_tag).
    """
    spoken = question.type == kinds.LISTENING
    typed = question.type == kinds.TYPED_SPELLING
    tags = (draft.level, question.part, *question.tags, word_tag(question.learned))
    return Question(
        question_id=question.question_id,
        prompt="" if spoken else question.prompt,
        choices=() if typed else (question.answer, *question.wrong),
        answer=question.answer,
        type=question.type,
        tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
        time_limit_ms=question.time_limit_s * 1000,
        also=tuple(question.also),
        speech=question.prompt if spoken else "",
        language=draft.language,
        media=question.media.model_dump() if question.media else None,
    )


def questions_of(document: dict[str, Any]) -> list[Question]:
    """The questions of a published version's document, as a session plays them."""
    draft = QuizDraft.model_validate(document)
    return [question_of(draft, question) for question in draft.questions]
