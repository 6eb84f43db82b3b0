"""Kept pages: bounded by their rows, the ones used last stay."""

from __future__ import annotations

import pytest

from contracts.replies import BoardPage, Entry, RangePage
from serving.leaderboards.kept_pages import KeptPages

pytestmark = pytest.mark.unit


def page(rows: int) -> RangePage:
    return RangePage(BoardPage(tuple(Entry(n, f"u{n}", 1, None) for n in range(rows)), rows))


def test_pages_are_bounded_by_their_rows() -> None:
    pages = KeptPages(rows=30)
    pages.put("a", page(9))
    pages.put("b", page(9))
    assert page(9) == pages.get("a")
    pages.put("c", page(19))
    assert (None, page(9), page(19)) == (pages.get("b"), pages.get("a"), pages.get("c"))
    pages.put("a", page(4))
    assert page(4) == pages.get("a") and 2 == len(pages)
    pages.put("d", page(99))  # larger than all the room
    assert 0 == len(pages)
