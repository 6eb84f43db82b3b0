"""Ranges as whole windows, and their counters as a table, each against the obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.sketched import DAY_US, HOUR_US, LEVEL_US, MINUTE_US
from serving.insights.counters import Counters
from serving.insights.cover import MOST_DAYS, cover, whole_minutes

START = 20_000 * DAY_US


@pytest.mark.property
@settings(deadline=None)
@given(st.integers(0, 5 * 1440), st.integers(1, 5 * 1440))
def test_windows_make_up_the_range_once_and_are_as_long_as_they_can_be(first: int, length: int) -> None:
    start, end = START + first * MINUTE_US, START + (first + length) * MINUTE_US
    found = cover(start, end)
    minutes = [at for level, begin in found for at in range(begin, begin + LEVEL_US[level], MINUTE_US)]
    assert sorted(minutes) == list(range(start, end, MINUTE_US))
    assert all(begin % LEVEL_US[level] == 0 for level, begin in found)
    for level, above in (("minute", HOUR_US), ("hour", DAY_US)):
        counts: dict[int, int] = {}
        for begin in (begin for one, begin in found if one == level):
            counts[begin // above] = counts.get(begin // above, 0) + 1
        assert all(count < above // LEVEL_US[level] for count in counts.values())


@pytest.mark.property
@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_whole_minutes_lie_inside(from_us: int, to_us: int) -> None:
    try:
        start, end = whole_minutes(from_us, to_us)
    except BadInput as error:
        assert error.code == "invalid_field"
        assert to_us // MINUTE_US * MINUTE_US - from_us < MINUTE_US
        return
    assert from_us <= start < from_us + MINUTE_US and to_us - MINUTE_US < end <= to_us


@pytest.mark.unit
def test_a_range_has_a_bound() -> None:
    with pytest.raises(BadInput) as raised:
        whole_minutes(0, (MOST_DAYS + 1) * DAY_US)
    assert raised.value.code == "range_too_large"


@pytest.mark.property
@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.one_of(st.none(), st.lists(st.integers(0, 2**40), min_size=4, max_size=4))
        ),
        max_size=40,
    )
)
def test_counters_are_a_dict_of_rows(changes: list[tuple[int, list[int] | None]]) -> None:
    table, model = Counters(4), dict[int, list[int]]()
    for start, row in changes:
        if row is None:
            table.drop(start)
            model.pop(start, None)
        else:
            table.put(start, np.array(row, float))
            model[start] = row
        starts = sorted(model)
        assert [sum(model[one][at] for one in starts) for at in (3, 0)] == table.sums(starts, (3, 0))


@pytest.mark.unit
def test_many_windows_fit() -> None:
    table = Counters(3)
    for start in range(500):
        table.put(start, np.array([start, 1, 0], float))
    assert table.sums(range(500), (0, 1, 2)) == [sum(range(500)), 500, 0]
    assert table.nbytes == 512 * 3 * 4
