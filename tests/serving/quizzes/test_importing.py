"""Lists that are pasted or saved: every error by its line, nothing half taken, what is written reads back as it was."""

from __future__ import annotations

import csv
import gzip
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.errors import BadInput
from contracts.question_types import (
    GAP_IN_SENTENCE,
    LISTENING,
    QUESTION_TYPES,
    TYPED_SPELLING,
    WORD_TO_DEFINITION,
)
from serving.quizzes import anki, sheets
from serving.quizzes.draft import QuestionDraft, QuizDraft
from serving.quizzes.importing import ANKI, QUESTIONS, WORDS, Preview, Wanted, preview, questions_csv
from serving.quizzes.sheets import LineError, Row
from serving.quizzes.word_lists import TYPES, with_gap
from tests.conftest import SHARED
from tests.serving.quizzes.test_draft import GOOD

pytestmark = pytest.mark.property


def errors_of(found: Preview) -> list[tuple[int, str]]:
    return [(error.line, error.code) for error in found.errors]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("apple\ta round fruit\npear\ta green fruit", "\t"),
        ("apple,a round fruit\npear,a green fruit", ","),
        ("apple;a round, red fruit\npear;a green, sweet fruit", ";"),
        ("apple - a round, red fruit\npear - a well-known fruit", " - "),
        ("apple = a round fruit\r\npear = a green fruit\r\n", " = "),
        ("apple – a round fruit\rpear – a green fruit", " – "),
        ("\ufeffword,definition\napple,a round fruit\npear,a green fruit", ","),
        ('Term\tMeaning\napple\t"a ""round"" fruit\nof a tree"\npear\ta green fruit', "\t"),
        ("\n\n  \napple\ta round fruit\n\npear\ta green fruit\n\n", "\t"),
    ],
)
def test_lists_as_people_paste_them(text: str, separator: str) -> None:
    found = preview(text, Wanted())
    assert ([], WORDS, separator, 2) == (found.errors, found.format, found.separator, found.words)
    assert [("apple", ["pear"]), ("pear", ["apple"])] == [(q.answer, q.wrong) for _, q in found.questions]


def test_each_type_is_made_of_its_columns() -> None:
    text = (
        "word,definition,example,pos,wrong\napple,a round fruit,I ate an apple.,noun,plum | fig\n"
        "run,to go fast,Dogs run.,verb,\nsit,to rest,Sit down!,verb,"
    )
    by_type = {kind: [q for _, q in preview(text, Wanted(types=(kind,))).questions] for kind in TYPES}
    assert all(3 == len(questions) for questions in by_type.values())
    apple = {kind: questions[0] for kind, questions in by_type.items()}
    assert (
        "I ate a(n) ___." == apple[GAP_IN_SENTENCE].prompt and ["plum", "fig"] == apple[GAP_IN_SENTENCE].wrong
    )
    assert ("apple", "a round fruit") == (apple[WORD_TO_DEFINITION].prompt, apple[LISTENING].answer)
    assert [] == apple[TYPED_SPELLING].wrong
    assert "sit" == by_type["definition_to_word"][1].wrong[0], "of the same part of speech first"


def test_errors_are_told_by_line_and_all_at_once() -> None:
    text = (
        "word,definition,example\napple,a round fruit,I eat apples.\n,nothing,\npear\nplum,a plum,\napple,A  round fruit,\n"
        'fig,"not closed,\nkiwi,green,\n' + "x" * 81 + ",long,\n"
    )
    found = preview(text, Wanted())
    assert [
        (3, "word_missing"), (4, "one_column"), (5, "answer_in_prompt"), (6, "repeated"), (7, "quotes"), (9, "too_long"),
    ] == errors_of(found)  # fmt: skip
    gaps = preview(
        "apple,a fruit,I eat apples.\npear,a fruit too,A pear and a pear.\nfig,x,A fig!",
        Wanted(types=(GAP_IN_SENTENCE,)),
    )
    assert [(1, "gap"), (2, "gap")] == errors_of(gaps)
    alone = preview("apple,a round fruit", Wanted())
    assert [(1, "no_choices")] == errors_of(alone)


@pytest.mark.parametrize("text", ["", "  \n\r\n\t\n", "\ufeff", "word,definition\n"])
def test_nothing_to_import_is_an_error(text: str) -> None:
    with pytest.raises(BadInput, match="nothing_to_import"):
        preview(text, Wanted())


def test_a_huge_paste_is_bounded() -> None:
    with pytest.raises(BadInput, match="body_too_large"):
        preview("a,b\n" * 6_000, Wanted())
    many = preview("\n".join(f"word{n},meaning {n}" for n in range(4_900)), Wanted())
    assert (201, "too_many") in errors_of(many)
    assert 100 == len(preview("\n".join("x" * 100 for _ in range(4_000)), Wanted()).errors)
    preview("a,b\n" + '"' * 200_000, Wanted())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("é,ü".encode(), "é,ü"), (b"\xef\xbb\xbf\xc3\xa9", "é"), ("é\n".encode("utf-16"), "é\n"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "é"), (b"", ""),
    ],
)  # fmt: skip
def test_encodings_that_can_be_read(data: bytes, expected: str) -> None:
    assert expected == sheets.text_of(data)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("eins\r\nzwei\nfür".encode("latin-1"), 3), (b"a\xff\xfe", 1), ("a\nb".encode("utf-16-le"), 1),
        (b"\xff\xfea\x00\x00\xd8", 1), (b"ok\n\x00", 2), (b"\x89PNG\r\n\x1a\n", 1), (gzip.compress(b"word,definition"), 1),
    ],
)  # fmt: skip
def test_encodings_that_cannot_are_told_with_the_line(data: bytes, line: int) -> None:
    with pytest.raises(BadInput, match=f"bad_encoding: line {line}"):
        sheets.text_of(data)


ANKI_NOTES = (
    "#separator:tab\n#html:true\n#guid column:1\n#notetype column:2\n#deck column:3\n#tags column:6\n#tags:fruit\n"
    'g1\tBasic\tD\tapple\t"a <b>round</b> &amp; red<br>fruit[sound:a.mp3]"\tA1 food::fruit\n'
    "# a comment\n"
    "g2\tBasic\tD\tpear\ta green fruit\t\n"
    "g3\tCloze\tD\tI eat a {{c1::plum::a blue fruit}} a {{c2::day}}.\t\t\n"
)


def test_ankis_notes() -> None:
    found = preview(ANKI_NOTES, Wanted())
    assert ([], ANKI, 3) == (found.errors, found.format, found.words)
    apple, pear, plum = [question for _, question in found.questions]
    assert ("apple", "a round & red fruit", ["fruit", "A1", "food::fruit"]) == (
        apple.answer,
        apple.prompt,
        apple.tags,
    )
    assert ("pear", ["fruit"]) == (pear.answer, pear.tags)
    assert ("plum", "a blue fruit") == (plum.answer, plum.prompt)
    assert [8, 10, 11] == [line for line, _ in found.questions], "comments count as lines"
    gap = preview(
        "#separator:tab\n{{c1::plum}}s are not asked, a {{c1::plum}} is.\tblue",
        Wanted(types=(GAP_IN_SENTENCE,)),
    )
    assert [(2, "no_choices")] == errors_of(gap)


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("Tab", "\t"),
        ("tab", "\t"),
        ("\\t", "\t"),
        ("Comma", ","),
        ("Semicolon", ";"),
        ("Pipe", "|"),
        ("Colon", ":"),
        (";", ";"),
        ("|", "|"),
    ],
)
def test_ankis_separators(header: str, separator: str) -> None:
    text = f"#separator:{header}\n#html:false\na <b>{separator}1 < 2\nb{separator}2 > 1\n"
    found = preview(text, Wanted())
    assert ([], ["1 < 2", "2 > 1"]) == (found.errors, [question.prompt for _, question in found.questions])


def test_ankis_columns_may_be_the_other_way_round() -> None:
    found = preview("#separator:;\na round fruit;apple\na green fruit;pear", Wanted(swapped=True))
    assert ["apple", "pear"] == [question.answer for _, question in found.questions]


@pytest.mark.parametrize(
    "html",
    [
        "<script>x</script>apple",
        "<style>p{}</style>ap<b>ple</b>",
        "&#97;pple",
        "<div>apple</div>",
        "<!-- no -->apple",
        "apple<img src=x onerror=y>",
    ],
)
def test_markup_is_read_as_text(html: str) -> None:
    assert "apple" == anki.plain(html, True)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1, max_size=30)
CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=8))
def test_what_is_written_as_csv_reads_back(rows: list[list[str]]) -> None:
    """Cells with line ends of their own, quotes, formulas; but not with so many lines that a mark counts as never closed."""
    rows = [
        row
        for row in rows
        if any(cell.strip() for cell in row) and "".join(row).count("\n") < sheets.MOST_LINES_A_RECORD
    ]
    text = sheets.csv_of(["a", "b"], rows)
    found = [one for one in sheets.rows_of(sheets.lines_of(text), ",") if isinstance(one, Row)]
    expected = [["a", "b"], *rows]
    assert expected == [[sheets.unguarded(cell) for cell in one.cells] for one in found]
    for record in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in record), (
            "a spreadsheet would run it"
        )


@given(CELLS)
def test_the_guard_comes_off_again(text: str) -> None:
    assert text == sheets.unguarded(sheets.guarded(text))
    assert not sheets.guarded(text).startswith(("=", "+", "-", "@"))


@given(st.lists(TEXT.map(str.strip).filter(bool), max_size=5))
def test_lists_in_a_cell_read_back(texts: list[str]) -> None:
    assert texts == sheets.list_of(sheets.list_cell(texts))


@st.composite
def questions(draw: st.DrawFn) -> QuestionDraft:
    """Any question that could be published, of any type."""
    kind = draw(st.sampled_from(list(QUESTION_TYPES)))
    texts = draw(st.lists(TEXT, min_size=3, max_size=3))
    values: dict[str, Any] = {**GOOD[kind], "word": texts[0], "part": texts[1][:20], "tags": texts[1:]}
    values["wrong"] = [f"w {text}" for text in texts] if "wrong" in values else []
    values["also"] = texts if kind == TYPED_SPELLING else []
    if kind != GAP_IN_SENTENCE and values.get("prompt"):
        values["prompt"] = f"={texts[2]}"
    values["time_limit_s"] = draw(st.integers(5, 120))
    try:
        return QuestionDraft.model_validate({"type": kind, **values})
    except ValidationError:
        raise AssertionError(values) from None


@given(st.lists(questions(), min_size=1, max_size=6))
def test_an_exported_quiz_imports_as_it_was(drafts: list[QuestionDraft]) -> None:
    draft = QuizDraft(title="x", questions=drafts)
    text = questions_csv(draft)
    found = preview(text, Wanted())
    assert QUESTIONS == found.format
    assert drafts == [question for _, question in found.questions]
    again = preview(sheets.text_of(text.encode()), Wanted())
    assert text == questions_csv(
        QuizDraft(title="x", questions=[question for _, question in again.questions])
    )


@given(st.text(max_size=300), st.sampled_from(["", *("words", "questions", "anki")]), st.sampled_from(TYPES))
def test_whatever_is_pasted_is_read_or_refused(text: str, form: str, kind: str) -> None:
    """No text is a crash, and every error names a line that there is."""
    try:
        found = preview(text, Wanted(format=form, types=(kind,)))
    except BadInput as error:
        assert error.code in ("nothing_to_import", "body_too_large")
        return
    lines = len(sheets.lines_of(text))
    assert all(1 <= error.line <= lines for error in found.errors)
    assert all(1 <= line <= lines for line, _ in found.questions)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_are_read_or_refused(data: bytes) -> None:
    try:
        sheets.text_of(data).encode()
    except BadInput as error:
        assert "bad_encoding" == error.code


def test_a_record_in_error_does_not_take_the_next_ones_with_it() -> None:
    lines = ['a,"b', "c,d", 'e,"f" g', "h,i"]
    found = list(sheets.rows_of(lines, ","))
    assert [LineError, Row, LineError, Row] == [type(one) for one in found]
    assert [1, 2, 3, 4] == [one.line for one in found]


def test_a_gap_needs_the_word_itself() -> None:
    assert "I ate a(n) ___." == with_gap("apple", "I ate an apple.")
    assert "___ grow." == with_gap("Apples", "apples grow.")
    for sentence in ("I eat apples.", "an apple, an apple", ""):
        assert with_gap("apple", sentence) is None
    assert with_gap("", "x") is None


@pytest.mark.needs_shared
def test_a_real_vocabulary_can_be_imported() -> None:
    """Nine thousand words with definitions as a dictionary writes them: in parts of a quiz' size, by each type."""
    with gzip.open(SHARED / "vocabulary" / "vocabulary.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 9_000
    asked, told = 0, 0
    for start in range(0, len(rows), 200):
        out = io.StringIO()
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows[start : start + 200])
        for kind in TYPES:
            found = preview(out.getvalue(), Wanted(types=(kind,)))
            assert WORDS == found.format and "," == found.separator
            codes = {error.code for error in found.errors}
            assert codes <= {"answer_in_prompt", "too_long", "gap", "repeated", "choices_repeated"}, codes
            if kind == "definition_to_word":
                asked += len(found.questions)
                told += sum(error.code == "answer_in_prompt" for error in found.errors)
    assert asked > 9_000 and 100 < told < 700, "560 of its definitions show their word or a form of it"
