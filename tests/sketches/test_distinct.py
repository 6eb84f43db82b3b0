"""Distinct counts against sets: within the bound at the stated rate, the same however it is merged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from sketches.distinct import CONFIDENCE, Distinct, merged

SETS = st.sets(st.integers(0, 400), max_size=200)


def built(keys: object, lg_size: int = 12) -> Distinct:
    sketch = Distinct.from_size(lg_size)
    for key in keys:  # type: ignore[attr-defined]
        sketch.update("user", str(key))
    return sketch


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(SETS, SETS, SETS)
def test_union_is_the_same_in_any_order(a: set[int], b: set[int], c: set[int]) -> None:
    left = built(a)
    left.merge(built(b))
    left.merge(built(c))
    tail = built(b)
    tail.merge(built(c))
    right = built(a)
    right.merge(tail)
    at_once = merged([built(a), built(b), built(c), built(a)])
    assert left.estimate() == right.estimate() == at_once.estimate()
    truth, found = len(a | b | c), left.estimate()
    # At a tenth of the rows a distinct sketch is nearly exact: wrong by 2 % of so few would be a fault.
    assert abs(found.value - truth) <= 2 + truth * 0.02
    assert found.lower <= found.value <= found.upper


@pytest.mark.property
@settings(max_examples=40, deadline=None)
@given(SETS)
def test_repeats_change_nothing_and_bytes_return(keys: set[int]) -> None:
    once, twice = built(keys), built([*keys, *keys])
    assert once.to_bytes() == twice.to_bytes()
    assert Distinct.from_bytes(once.to_bytes()).estimate() == once.estimate()


@pytest.mark.unit
def test_share_within_bound_is_at_least_the_stated_rate() -> None:
    inside = 0
    trials = 1000
    for trial in range(trials):
        # Two overlapping parts of 300 users that no other trial has.
        parts = [built(range(trial * 10_000 + at, trial * 10_000 + at + 300), 6) for at in (0, 200)]
        found = merged(parts).estimate()
        inside += found.lower <= 500 <= found.upper
    assert inside / trials >= CONFIDENCE


@pytest.mark.unit
def test_wrong_input_is_refused() -> None:
    sketch = built("ab")
    with pytest.raises(BadInput) as raised:
        sketch.merge(Distinct.from_size(5))
    assert raised.value.code == "bad_sketch"
    with pytest.raises(BadInput) as raised:
        merged([])
    assert raised.value.code == "bad_sketch"
    for lg_size in (3, 21):
        with pytest.raises(BadInput) as raised:
            Distinct.from_size(lg_size)
        assert raised.value.code == "invalid_field"
    assert sketch.estimate().value == 2
    sketch.merge(sketch)
    assert sketch.estimate().value == 2
