"""Tables as CSV (RFC 4180) that spreadsheets read right: UTF-8 by a byte order mark, and nothing typed runs as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CSV = "text/csv"
# A spreadsheet takes a cell that begins with one of these for a formula; names and words are typed by others.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(fields: Sequence[str], rows: Iterable[Mapping[str, Any]], *, head: bool = False) -> str:
    """Rows as lines; head: with the byte order mark and the line of names before them."""
    out = io.StringIO()
    writer = csv.writer(out)
    if head:
        out.write("\ufeff")
        writer.writerow(fields)
    for row in rows:
        writer.writerow([cell(row[name]) for name in fields])
    return out.getvalue()


def cell(value: Any) -> Any:
    """A value as a cell: booleans in words, nothing as nothing, text that looks like a formula behind an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
