"""A question's word as a tag: the same bytes for the same word, however it was typed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.names import MOST_WORD_BYTES, WORD_TAG, word_of, word_tag

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("word", "tag"),
    [
        ("Serendipity", "word:serendipity"),
        ("  ice \t cream\n", "word:ice-cream"),
        ("Élan", "word:élan"),
        ("E\u0301lan", "word:élan"),
        ("日本語", "word:日本語"),
        ("a\x1fb\x00c", "word:a-bc"),
        ("x" * 70, "word:" + "x" * 64),
        ("a" + "é" * 40, "word:a" + "é" * 31),
        (" \x00", "word:"),
    ],
)
def test_slugs(word: str, tag: str) -> None:
    assert tag == word_tag(word)


def test_the_first_word_of_the_tags() -> None:
    assert word_of(()) is None
    assert word_of(("verbs", "word:", "words:x", "word:run", "word:go")) == "run"


@pytest.mark.property
@given(st.text())
def test_any_text_has_one_tag(word: str) -> None:
    tag = word_tag(word)
    slug = tag.removeprefix(WORD_TAG)
    assert len(slug.encode()) <= MOST_WORD_BYTES and not any(c.isspace() for c in slug)
    assert unicodedata.is_normalized("NFC", slug)
    assert (slug or None) == word_of((tag,))
    assert tag == word_tag(slug)
