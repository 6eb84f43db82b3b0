"""Pasted or saved lists made into questions, looked at before anything is stored: all of it, or its errors by line. Pure.

words      word, definition, example …: one line a word, asked by the types that are wanted
questions  type, prompt, answer …: one line a question, as `questions_csv` writes it
anki       notes as text, with Anki's headers; the first two fields are word and definition, or a cloze deletion
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from contracts import question_types as kinds
from contracts.errors import BadInput
from contracts.spelling import spelled
from serving.quizzes import anki, sheets
from serving.quizzes.draft import MOST_QUESTIONS, QuestionDraft, QuizDraft, clean, problems
from serving.quizzes.sheets import LineError, Row
from serving.quizzes.word_lists import ListedWord, questions_of

WORDS, QUESTIONS, ANKI = "words", "questions", "anki"
FORMATS = (WORDS, QUESTIONS, ANKI)
# Errors that are told of one text: whoever has more has chosen the wrong file.
MOST_ERRORS = 100
# What a column may be called → what it is. In small letters.
_WORD_COLUMNS = {
    "word": "word", "headword": "word", "term": "word", "front": "word",
    "definition": "definition", "meaning": "definition", "back": "definition",
    "example": "example", "sentence": "example",
    "part": "part", "pos": "part", "part of speech": "part",
    "wrong": "wrong", "wrong choices": "wrong", "distractors": "wrong",
    "tags": "tags", "level": "level", "cefr": "level", "list": "list",
}  # fmt: skip
_PLAIN = ("word", "definition", "example")
QUESTION_COLUMNS = (
    "type", "prompt", "answer", "wrong", "also", "word", "part", "tags", "time_limit_s", "media_kind", "media_url",
    "media_alt", "question_id",
)  # fmt: skip
_LISTS = ("wrong", "also", "tags")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a text is read. separator: empty, to find out; types: of a list of words; swapped: the definition comes first."""

    format: str = ""
    separator: str = ""
    types: tuple[str, ...] = (kinds.DEFINITION_TO_WORD,)
    swapped: bool = False


@dataclass
class Preview:
    """What a text holds. questions: (line, question); complete only without errors."""

    format: str
    separator: str
    words: int = 0
    questions: list[tuple[int, QuestionDraft]] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)
    # (word, definition) as they are compared → the line that said it first.
    lines: dict[tuple[str, str], int] = field(default_factory=dict)


def preview(text: str, wanted: Wanted) -> Preview:
    """Reads a text. Raises BadInput: nothing_to_import, body_too_large (too many lines)."""
    lines = sheets.lines_of(text)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise BadInput("nothing_to_import", "the text has no line with anything in it")
    kind = wanted.format or (ANKI if anki.is_anki([first]) else "")
    if kind == ANKI:
        found = _anki(lines, wanted)
    else:
        separator = wanted.separator or _separator(first, lines)
        header = _header(first, separator)
        kind = kind or (QUESTIONS if header and {"type", "answer"} <= set(header) else WORDS)
        rows, errors = _split(sheets.rows_of(lines, separator))
        if kind == QUESTIONS:
            found = _questions(rows, header)
        else:
            found = _words(rows, header if header and "word" in header else (), wanted)
        found.errors += errors
        found.separator = separator
    if not (found.questions or found.errors):
        raise BadInput("nothing_to_import", "the text has a header and no line after it")
    _check(found)
    return found


def _split(rows: object) -> tuple[list[Row], list[LineError]]:
    every = list(rows)  # type: ignore[call-overload]
    return [one for one in every if isinstance(one, Row)], [
        one for one in every if isinstance(one, LineError)
    ]


def _separator(first: str, lines: Sequence[str]) -> str:
    """That of a header line, if the first line is one; else what most lines have."""
    for one in sheets.SEPARATORS:
        if one in first and _header(first, one):
            return one
    return sheets.separator_of(lines)


def _header(first: str, separator: str) -> tuple[str, ...]:
    """The names of the columns, if a text's first line has nothing else; () if it is a line like the others."""
    row = next(iter(sheets.rows_of([first], separator)), None)
    if not isinstance(row, Row):
        return ()
    names = [cell.strip().lower() for cell in row.cells]
    if {"type", "answer"} <= set(names) and all(name in QUESTION_COLUMNS for name in names):
        return tuple(names)
    found = tuple(_WORD_COLUMNS.get(name, "") for name in names)
    return found if len(found) > 1 and all(found) and "word" in found else ()


def _words(rows: Sequence[Row], header: Sequence[str], wanted: Wanted) -> Preview:
    found = Preview(WORDS, "")
    columns = header or (("definition", "word", "example") if wanted.swapped else _PLAIN)
    listed: list[ListedWord] = []
    for row in rows[1:] if header else rows:
        cells = {name: sheets.unguarded(cell) for name, cell in zip(columns, row.cells, strict=False)}
        if len(row.cells) < 2:
            found.errors.append(
                LineError(row.line, "one_column", "a word and its definition need something between them")
            )
            continue
        one = ListedWord(
            row.line,
            clean(cells.get("word", "")),
            clean(cells.get("definition", "")),
            clean(cells.get("example", "")),
            clean(cells.get("part", "")),
            tuple(clean(text) for text in sheets.list_of(cells.get("wrong", ""))),
            tuple(clean(text) for text in sheets.list_of(cells.get("tags", ""))),
        )
        _take(found, listed, one)
    _ask(found, listed, wanted.types)
    return found


def _anki(lines: Sequence[str], wanted: Wanted) -> Preview:
    lead = next((n for n, line in enumerate(lines) if line.strip()), 0)
    headers = anki.headers_of(lines[lead:])
    begin = lead + headers.lines
    # A comment is an empty line: the lines behind it keep their numbers.
    body = ["" if line.startswith("#") else line for line in lines[begin:]]
    separator = headers.separator or sheets.separator_of(body)
    rows, errors = _split(sheets.rows_of(body, separator, begin + 1))
    found = Preview(ANKI, separator, errors=errors)
    listed: list[ListedWord] = []
    for row in rows:
        fields = [cell for place, cell in enumerate(row.cells) if place not in headers.others]
        tags = list(headers.tags)
        if headers.tags_column is not None and headers.tags_column < len(row.cells):
            tags += row.cells[headers.tags_column].split()
        _take(
            found,
            listed,
            _note(row.line, fields, tuple(clean(tag) for tag in tags[:5]), headers.html, wanted.swapped),
        )
    _ask(found, listed, wanted.types)
    return found


def _note(line: int, fields: Sequence[str], tags: tuple[str, ...], html: bool, swapped: bool) -> ListedWord:
    first, second, third = (anki.plain(one, html) for one in (*fields, "", "", "")[:3])
    cloze = anki.cloze_of(first)
    if cloze is not None:
        word, sentence, hint = cloze
        return ListedWord(line, clean(word), clean(second or hint), clean(sentence), tags=tags)
    if swapped:
        first, second = second, first
    return ListedWord(line, clean(first), clean(second), clean(third), tags=tags)


def _take(found: Preview, listed: list[ListedWord], one: ListedWord) -> None:
    """Adds a word, or says what is wrong with its line."""
    key = (spelled(one.word), spelled(one.definition))
    too_long = [
        name
        for name, text, most in (
            ("word", one.word, 80),
            ("definition", one.definition, 200),
            ("example", one.example, 300),
        )
        if len(text) > most
    ]
    if not one.word:
        found.errors.append(LineError(one.line, "word_missing", "there is no word"))
    elif too_long:
        found.errors.append(
            LineError(one.line, "too_long", f"the {too_long[0]} is longer than a question may be")
        )
    elif len(one.part) > 20 or any(len(tag) > 80 for tag in one.tags) or len(one.tags) > 5:
        found.errors.append(
            LineError(one.line, "too_long", "its part of speech or its tags are longer than they may be")
        )
    elif len(one.wrong) > 7 or any(len(text) > 200 for text in one.wrong):
        found.errors.append(LineError(one.line, "too_long", "at most 7 wrong choices of 200 characters"))
    elif (first := found.lines.setdefault(key, one.line)) != one.line:
        found.errors.append(LineError(one.line, "repeated", f"it says what line {first} says"))
    else:
        listed.append(one)


def _ask(found: Preview, listed: Sequence[ListedWord], types: Sequence[str]) -> None:
    found.words = len(listed)
    found.questions, errors = questions_of(listed[: MOST_QUESTIONS + 1], types)
    found.errors += errors


def _questions(rows: Sequence[Row], header: Sequence[str]) -> Preview:
    found = Preview(QUESTIONS, "")
    if not header:
        found.errors.append(
            LineError(1, "header_missing", f"the first line names the columns: {', '.join(QUESTION_COLUMNS)}")
        )
        return found
    for row in rows[1:]:
        cells = {name: sheets.unguarded(cell) for name, cell in zip(header, row.cells, strict=False)}
        made = question_of(row.line, cells)
        if isinstance(made, LineError):
            found.errors.append(made)
        else:
            found.questions.append((row.line, made))
    return found


def question_of(line: int, cells: dict[str, str]) -> QuestionDraft | LineError:
    """A question in the columns of a line."""
    values: dict[str, object] = {
        name: text for name, text in cells.items() if text and not name.startswith("media_")
    }
    for name in _LISTS:
        if name in values:
            values[name] = sheets.list_of(cells[name])
    if cells.get("media_url"):
        values["media"] = {name: cells.get(f"media_{name}", "") for name in ("kind", "url", "alt")}
    try:
        return QuestionDraft.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return LineError(line, "invalid", f"{where}: {first['msg']}"[:200])


def _check(found: Preview) -> None:
    """What would keep a question from being published is told by its line; errors in order, not too many."""
    if len(found.questions) > MOST_QUESTIONS:
        line = found.questions[MOST_QUESTIONS][0]
        found.errors.append(LineError(line, "too_many", f"a quiz has at most {MOST_QUESTIONS} questions"))
    for line, question in found.questions:
        # Ids are looked at where the draft is saved.
        alone = QuizDraft(title="x", questions=[question])
        found.errors += [LineError(line, one.code, one.detail) for one in problems(alone)]
    found.errors = sorted(dict.fromkeys(found.errors), key=lambda one: (one.line, one.code))[:MOST_ERRORS]


def questions_csv(draft: QuizDraft) -> str:
    """A draft's questions as CSV; read again they are the same."""
    rows = []
    for question in draft.questions:
        values = question.model_dump()
        media = values.pop("media") or {}
        texts = {
            name: sheets.list_cell(values[name]) if name in _LISTS else str(values[name]) for name in values
        }
        texts |= {f"media_{name}": media.get(name, "") for name in ("kind", "url", "alt")}
        rows.append([texts[name] for name in QUESTION_COLUMNS])
    return sheets.csv_of(QUESTION_COLUMNS, rows)
