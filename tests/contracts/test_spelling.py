"""Typed answers: what counts as the same spelling, and that nothing else does."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.spelling import as_typed, is_right, spelled

pytestmark = pytest.mark.property


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("apple", "apple"), ("  Apple\n", "apple"), ("ice   cream", "ice cream"), ("ICE\u00a0CREAM", "ice cream"),
        ("o\u2019clock", "o'clock"), ("re\u0301sume\u0301", "résumé"), ("STRASSE", "Straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("apple\u0000", "apple"), ("İstanbul", "i\u0307stanbul"),
    ],
)  # fmt: skip
def test_the_same_word_typed_in_another_way_is_right(typed: str, right: str) -> None:
    assert is_right(typed, [right])


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("aple", "apple"),
        ("resume", "résumé"),
        ("icecream", "ice cream"),
        ("", ""),
        (" ", "x"),
        ("a p p l e", "apple"),
    ],
)
def test_another_word_is_wrong(typed: str, right: str) -> None:
    assert not is_right(typed, [right])


def test_further_spellings_are_right_too() -> None:
    assert is_right("Color", ["colour", "color"]) and not is_right("colur", ["colour", "color"])


@given(st.text(max_size=80))
def test_spelling_does_not_depend_on_form_case_or_blanks(text: str) -> None:
    """Any text is spelled like its other Unicode forms, and comparing twice changes nothing."""
    assert spelled(text) == spelled(spelled(text))
    assert spelled(text) == spelled(unicodedata.normalize("NFD", text)) == spelled(f" {text}\t")
    kept = as_typed(text)
    assert as_typed(kept) == kept
    kept.encode()
    if spelled(text):
        assert is_right(text, [text])


def test_lone_surrogates_and_controls_are_not_kept() -> None:
    assert "apple" == as_typed("\ud800app\x07le\udfff")
