"""A page from two sides: which archived months it needs, and answers that are on both sides."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.periods import period_start, span
from serving.history.asked import merged, months_that_matter

pytestmark = [pytest.mark.unit, pytest.mark.property]
MONTHS = [date(2024, number, 1) for number in range(1, 7)]
LOW, HIGH = span("monthly", MONTHS[0], "UTC").start_us, span("monthly", MONTHS[-1], "UTC").end_us - 1
IDS = "0123456789abcdef"
ROWS = st.lists(
    st.tuples(st.integers(LOW, HIGH), st.sampled_from(IDS)), unique_by=lambda row: row[1], max_size=14
)


def as_rows(found: list[tuple[int, str]]) -> list[dict[str, Any]]:
    return [{"occurred_at_us": at, "event_id": ident} for at, ident in found]


@given(ROWS, st.sets(st.sampled_from(MONTHS)), st.sets(st.sampled_from(IDS)), st.integers(1, 5))
def test_pages_over_the_boundary_are_the_whole_once(
    everything: list[tuple[int, str]], archived: set[date], late: set[str], limit: int
) -> None:
    """late: answers of an archived month that history has too, or has alone."""
    history = [r for r in everything if period_start("monthly", r[0]) not in archived or r[1] in late]
    lake = [
        r for r in everything if period_start("monthly", r[0]) in archived and r[1] not in sorted(late)[::2]
    ]
    found: list[tuple[int, str]] = []
    before: tuple[int, str] | None = None
    for _ in range(len(everything) + 1):

        def side(rows: list[tuple[int, str]], after: tuple[int, str] | None) -> list[dict[str, Any]]:
            return as_rows(sorted((r for r in rows if after is None or r < after), reverse=True)[:limit])

        ours = side(history, before)
        reached = months_that_matter(sorted(archived), ours, before, limit)
        theirs = side([r for r in lake if period_start("monthly", r[0]) in reached], before)
        page = merged(ours, theirs, limit)
        found += [(row["occurred_at_us"], row["event_id"]) for row in page]
        if len(page) < limit:
            break
        before = found[-1]
    assert sorted(everything, reverse=True) == found
