"""Texts with columns, as people paste and save them: bytes to text, text to rows with line numbers, rows to CSV. Pure.

A record that cannot be read is an error of its line, and reading goes on behind it. What is written reads back as it was,
to the byte, and no spreadsheet runs it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from contracts.errors import BadInput

# Lines that are read of one text; a quiz takes 200 questions, a list of 2,000 words is a book's.
MOST_LINES = 5_000
# A field in quotation marks may go over lines; a mark that is never closed must not take the rest of the text with it.
MOST_LINES_A_RECORD = 20
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_NEWLINE = re.compile(r"\r\n|\n|\r")
# In the order in which they win where several fit all lines. Those with blanks are of lists that nobody made as a table.
SEPARATORS = ("\t", ";", " – ", " — ", " - ", " = ", "|", ",")
_SAMPLE_LINES = 50
# A spreadsheet takes a cell for a formula that begins so; and what we have put before one to keep it from that.
_RISKY = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True, slots=True)
class Row:
    """One record. line: where it begins, from 1."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with one line, for the person who wrote it. code: stable."""

    line: int
    code: str
    detail: str


def text_of(data: bytes) -> str:
    """The text in some bytes: UTF-8, with a byte order mark or without, or UTF-16 with one.

    Raises BadInput(bad_encoding) that names the line of the first byte that does not fit.
    """
    encoding = "utf-8"
    for mark, name in _BOMS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(_NEWLINE.findall(data[: error.start].decode(encoding, "replace"))) + 1
        raise _bad_encoding(
            f"line {line}: byte {data[error.start]:#04x} is not {encoding.upper()}"
        ) from error
    if "\0" in text:
        raise _bad_encoding(f"line {text[: text.index(chr(0))].count(chr(10)) + 1} has a zero byte")
    return text


def _bad_encoding(detail: str) -> BadInput:
    return BadInput("bad_encoding", detail, next_step="save it as UTF-8, or paste the text itself")


def lines_of(text: str) -> list[str]:
    """The lines of a text, however they end. Raises BadInput(body_too_large, 413)."""
    lines = _NEWLINE.split(text.removeprefix("\ufeff"))
    if len(lines) > MOST_LINES + 1:
        raise BadInput("body_too_large", f"{len(lines)} lines; at most {MOST_LINES}", status=413)
    return lines


def separator_of(lines: Iterable[str]) -> str:
    """What most lines have between their columns; a tab where none has anything of the kind."""
    sample = [line for line in lines if line.strip()][:_SAMPLE_LINES]
    best = max(SEPARATORS, key=lambda one: (sum(one in line for line in sample), -SEPARATORS.index(one)))
    return best if any(best in line for line in sample) else "\t"


def rows_of(lines: Sequence[str], separator: str, first_line: int = 1) -> Iterator[Row | LineError]:
    """Each record with its line, blank ones left out. RFC 4180, with any separator; one with blanks knows no quotation marks."""
    at = 0
    while at < len(lines):
        line = first_line + at
        if not lines[at].strip():
            at += 1
            continue
        if len(separator) > 1:
            yield Row(line, tuple(cell.strip() for cell in lines[at].split(separator, 2)))
            at += 1
            continue
        cells, taken = _record(lines, at, separator)
        at += taken
        if isinstance(cells, str):
            yield LineError(line, "quotes", cells)
        else:
            yield Row(line, tuple(cells))


def _record(lines: Sequence[str], at: int, separator: str) -> tuple[list[str] | str, int]:
    """(cells, or what is wrong with the quotation marks; lines taken)."""
    for count in range(1, MOST_LINES_A_RECORD + 1):
        if at + count > len(lines):
            break
        text = "\n".join(lines[at : at + count])
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)), count
        except csv.Error as error:
            if "unexpected end" not in str(error):
                return f"a quotation mark within a field is written twice ({error})", 1
    return "a quotation mark is opened and not closed", 1


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; `unguarded` takes the mark away again."""
    return f"'{text}" if _RISKY.match(text) else text


def unguarded(text: str) -> str:
    """`guarded` backwards; what it never wrote stays as it is."""
    return text[1:] if _GUARDED.match(text) else text


def list_cell(texts: Iterable[str]) -> str:
    """Several texts in one cell: `a | b`; a bar in a text is written \\|."""
    return " | ".join(text.replace("\\", "\\\\").replace("|", "\\|") for text in texts)


def list_of(cell: str) -> list[str]:
    """`list_cell` backwards; empty texts are left out."""
    found = re.findall(r"(?:[^|\\]|\\.|\\$)+", cell)
    texts = [re.sub(r"\\(.)", r"\1", text.strip(" ")) for text in found]
    return [text for text in texts if text]


def csv_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """CSV (RFC 4180) with a byte order mark, by which spreadsheets read it as UTF-8; every cell guarded."""
    out = io.StringIO()
    out.write("\ufeff")
    writer = csv.writer(out)
    writer.writerow(header)
    for row in rows:
        writer.writerow([guarded(cell) for cell in row])
    return out.getvalue()
