"""CSV: what others typed never runs in a spreadsheet, and every value comes back."""

from __future__ import annotations

import csv
import io

import pytest

from serving.csv_files import csv_text

pytestmark = pytest.mark.unit


def test_no_cell_is_a_formula() -> None:
    typed = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "it's", 'say "hi"', "a,b", "two\nlines", ""]
    text = csv_text(
        ["n", "typed", "right"], [{"n": -3, "typed": one, "right": None} for one in typed], head=True
    )
    assert text.startswith("\ufeff")
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert ["n", "typed", "right"] == rows[0]
    # Numbers of ours stay numbers, below zero too.
    assert {"-3"} == {row[0] for row in rows[1:]} and {""} == {row[2] for row in rows[1:]}
    for one, row in zip(typed, rows[1:], strict=True):
        assert (f"'{one}" if one[:1] in ("=", "+", "-", "@", "\t", "\r") and one else one) == row[1]
    assert "n\r\n" == csv_text(["n"], [], head=True).removeprefix("\ufeff")
    assert "yes\r\nno\r\n" == csv_text(["n"], [{"n": True}, {"n": False}])
