"""Count-Min: never too low, too high within the bound at the stated rate, merged equals whole to the byte."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from sketches.count_min import CountMin
from sketches.encoding import KIND_COUNT_MIN, Envelope, unwrap, wrap

KEYS = st.text(min_size=1, max_size=12) | st.integers(0, 10**9).map(str)
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 1000)), max_size=60)


def built(rows: list[tuple[str, int]], epsilon: float = 0.01, delta: float = 0.05) -> CountMin:
    sketch = CountMin.from_error(epsilon, delta)
    for key, weight in rows:
        sketch.update("question", key, weight)
    return sketch


@pytest.mark.unit
def test_keys_of_digits_are_found_again() -> None:
    sketch = CountMin.from_error(0.001, 0.01)
    sketch.update("question", "123", 5)
    assert sketch.estimate("question", "123").value == 5
    assert sketch.estimate("quiz", "123").value == 0
    assert sketch.total == 5


@pytest.mark.unit
def test_default_size_and_parameters() -> None:
    sketch = CountMin.from_error()
    assert len(sketch.to_bytes()) < 100, "an empty window is a header"
    estimate = sketch.estimate("question", "absent")
    assert (estimate.value, estimate.lower, estimate.upper, estimate.bound) == (0, 0, 0, 0)
    assert estimate.confidence == pytest.approx(0.99)
    sketch.update("question", "a")
    assert 108_784 < len(sketch.to_bytes()) < 108_784 + 100


@pytest.mark.unit
def test_share_within_bound_is_at_least_the_stated_rate() -> None:
    random = Random(7)
    truth: Counter[str] = Counter()
    sketch = CountMin.from_error(0.01, 0.05)
    for _ in range(40_000):
        key = f"q{int(random.paretovariate(0.6)) % 5000}"
        truth[key] += 1
        sketch.update("question", key)
    estimates = {key: sketch.estimate("question", key) for key in truth}
    assert all(estimates[key].value >= count for key, count in truth.items())
    within = sum(estimates[key].lower <= count for key, count in truth.items())
    assert within / len(truth) >= 0.95
    assert any(estimates[key].value > count for key, count in truth.items()), "too easy: nothing collided"


@pytest.mark.unit
@pytest.mark.parametrize(
    "epsilon,delta", [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0), (1e-9, 0.01), (-1.0, 0.5)]
)
def test_error_outside_its_range_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(BadInput) as raised:
        CountMin.from_error(epsilon, delta)
    assert raised.value.code == "invalid_field"


@pytest.mark.unit
def test_negative_weight_and_overflow_are_refused() -> None:
    sketch = CountMin.from_error(0.1, 0.1)
    for weight in (-1, 2**53 + 1):
        with pytest.raises(BadInput) as raised:
            sketch.update("question", "a", weight)
        assert raised.value.code == "invalid_field"
    assert sketch.total == 0


@pytest.mark.unit
def test_other_parameters_are_not_merged() -> None:
    sketch = CountMin.from_error(0.01, 0.05)
    for other in (
        CountMin.from_error(0.02, 0.05),
        CountMin.from_error(0.01, 0.001),
        CountMin.from_error(0.01, 0.05, seed=1),
    ):
        with pytest.raises(BadInput) as raised:
            sketch.merge(other)
        assert raised.value.code == "bad_sketch"


@pytest.mark.unit
def test_merge_with_itself_doubles() -> None:
    sketch = built([("a", 3)])
    sketch.merge(sketch)
    assert sketch.estimate("question", "a").value == 6


@pytest.mark.unit
def test_header_that_disagrees_with_the_counters_is_refused() -> None:
    envelope = unwrap(built([("a", 3)]).to_bytes(), KIND_COUNT_MIN)
    other = unwrap(CountMin.from_error(0.5, 0.5).to_bytes(), KIND_COUNT_MIN)
    forged = [
        Envelope(KIND_COUNT_MIN, other.parameters, envelope.payload),
        Envelope(KIND_COUNT_MIN, envelope.parameters[:-1], envelope.payload),
        Envelope(KIND_COUNT_MIN, envelope.parameters, envelope.payload[:9]),
        Envelope(KIND_COUNT_MIN, envelope.parameters, b""),
        Envelope(KIND_COUNT_MIN + 1, envelope.parameters, envelope.payload),
    ]
    for envelope in forged:
        with pytest.raises(BadInput) as raised:
            CountMin.from_bytes(wrap(envelope))
        assert raised.value.code == "bad_sketch"


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 60))
def test_merged_equals_whole_to_the_byte_in_any_order(rows: list[tuple[str, int]], cut: int) -> None:
    whole = built(rows).to_bytes()
    left, right = built(rows[:cut]), built(rows[cut:])
    right.merge(left)
    assert whole == right.to_bytes()
    assert whole == built(rows[::-1]).to_bytes()


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_estimate_is_never_below_the_truth_and_bytes_return(rows: list[tuple[str, int]]) -> None:
    truth: Counter[str] = Counter()
    for key, weight in rows:
        truth[key] += weight
    sketch = CountMin.from_bytes(built(rows).to_bytes())
    assert sketch.to_bytes() == built(rows).to_bytes()
    assert sketch.total == sum(truth.values())
    for key, count in truth.items():
        estimate = sketch.estimate("question", key)
        assert estimate.value >= count
        assert 0 <= estimate.lower <= estimate.value == estimate.upper


@pytest.mark.property
@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 50).map(str), st.integers(0, 9)), max_size=5), max_size=30))
def test_minutes_merged_level_by_level_equal_the_days_counters(minutes: list[list[tuple[str, int]]]) -> None:
    """Minutes → hours of ten of them → the day, and the day's rows counted at once (CONTRACTS E3, E4)."""
    hours = []
    for at in range(0, len(minutes), 10):
        hour = CountMin.from_error(0.01, 0.05)
        for minute in minutes[at : at + 10]:
            hour.merge(built(minute))
        hours.append(hour)
    day = CountMin.from_error(0.01, 0.05)
    for hour in reversed(hours):
        day.merge(hour)
    assert built([row for minute in minutes for row in minute]).to_bytes() == day.to_bytes()


@pytest.mark.property
@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS)
def test_sums_of_counters_at_a_keys_positions_are_the_merged_estimate(
    some: list[tuple[str, int]], more: list[tuple[str, int]]
) -> None:
    one, other = built(some), built(more)
    sums = one.counters() + other.counters()
    positions = {key: one.positions("question", key) for key, _ in [*some, *more, ("absent", 0)]}
    one.merge(other)
    for key, at in positions.items():
        assert len(at) == 3
        assert one.estimate("question", key).value == min(sums[list(at)])
