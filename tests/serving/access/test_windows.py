"""Counts in fixed windows against a list of everything that was counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.access.windows import Windows

pytestmark = pytest.mark.property


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=60))
def test_they_count_what_a_list_counts(hits: list[tuple[str, float]]) -> None:
    windows, now = Windows(3, 4.0), 100.0
    begun: dict[str, float] = {}
    counted: list[tuple[str, float]] = []
    for who, pause in hits:
        now += pause
        if who not in begun or now >= begun[who] + 4.0:
            begun[who] = now
        counted.append((who, now))
        in_window = sum(one == who and at >= begun[who] for one, at in counted)
        taken, remaining, left_s = windows.hit(who, now)
        assert (in_window <= 3, max(0, 3 - in_window)) == (taken, remaining)
        assert abs(begun[who] + 4.0 - now - left_s) < 1e-9
    assert len(windows._counts) <= 3
