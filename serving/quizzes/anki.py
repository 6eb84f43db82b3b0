"""Anki's notes as text: file headers, columns that are no fields, markup and cloze deletions. Pure.

The format is the one of Anki's manual ("Text Files"): lines `#key:value` at the file's top, `#` begins a comment, fields in
quotation marks as in CSV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

_HEADER = re.compile(
    r"#\s*(separator|html|columns|tags|deck|notetype|(?:tags|deck|notetype|guid) column|if matches)\s*:(.*)",
    re.IGNORECASE | re.DOTALL,
)
_SEPARATORS = {
    "tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "colon": ":", "pipe": "|", "space": " ",
}  # fmt: skip
# Elements that stand on lines of their own.
_BLOCKS = {"br", "div", "p", "li", "ul", "ol", "tr", "td", "table", "hr", "h1", "h2", "h3"}
_HIDDEN = {"script", "style"}
_SOUND = re.compile(r"\[sound:[^\]]*\]")
_CLOZE = re.compile(r"\{\{c\d+::(.*?)(?:::(.*?))?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Headers:
    """What a file says of itself. lines: how many of them it has. others: columns, from 0, that are no fields."""

    lines: int = 0
    separator: str = ""
    html: bool = False
    columns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tags_column: int | None = None
    others: frozenset[int] = field(default=frozenset())


def is_anki(lines: Sequence[str]) -> bool:
    """Whether a text begins as Anki writes it."""
    return bool(lines) and _HEADER.fullmatch(lines[0]) is not None


def headers_of(lines: Sequence[str]) -> Headers:
    """The headers at the top; keys that say nothing of the content are passed over."""
    found: dict[str, str] = {}
    count = 0
    for line in lines:
        known = _HEADER.fullmatch(line)
        if known is None:
            break
        found[known[1].lower()] = known[2]
        count += 1
    separator = _separator(found.get("separator", ""))
    columns = (
        tuple(one.strip() for one in found.get("columns", "").split(separator or "\t"))
        if "columns" in found
        else ()
    )
    special = {
        key: int(found[key]) - 1 for key in found if key.endswith(" column") and found[key].strip().isdigit()
    }
    return Headers(
        lines=count,
        separator=separator,
        html=found.get("html", "").strip().lower() == "true",
        columns=columns,
        tags=tuple(found.get("tags", "").split()),
        tags_column=special.get("tags column"),
        others=frozenset(special.values()),
    )


def _separator(value: str) -> str:
    named = _SEPARATORS.get(value.strip().lower())
    return named or (value.strip() or value)[:1]


class _Text(HTMLParser):
    """What is seen of some markup."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN and self._hidden > 0
        if tag in _BLOCKS:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def plain(text: str, html: bool) -> str:
    """A field as it is read: without markup (if it has any) and without names of sound files."""
    if html:
        parser = _Text()
        parser.feed(text)
        parser.close()
        text = "".join(parser.parts)
    return " ".join(_SOUND.sub(" ", text).split())


def cloze_of(text: str) -> tuple[str, str, str] | None:
    """(word, sentence, hint) of a field with a cloze deletion, None for one without. The first is the one that is asked."""
    found = _CLOZE.search(text)
    if found is None:
        return None
    return found[1].strip(), _CLOZE.sub(lambda one: one[1], text), (found[2] or "").strip()
