"""Frequent items against plain counts: bounds that always hold, nobody heavy missing, merged or not."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from sketches.frequent_items import MAX_TOTAL, FrequentItems

KEYS = st.text(min_size=1, max_size=3)
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 1000)), max_size=120)


def built(rows: list[tuple[str, int]], lg_size: int = 3) -> FrequentItems:
    sketch = FrequentItems.from_size(lg_size)
    for key, weight in rows:
        sketch.update("word", key, weight)
    return sketch


def counted(rows: list[tuple[str, int]]) -> Counter[str]:
    truth: Counter[str] = Counter()
    for key, weight in rows:
        truth[key] += weight
    return truth


def holds(sketch: FrequentItems, truth: Counter[str]) -> None:
    """Every bound of every key, also of one that never came; and every key heavier than ε of the total is listed."""
    assert sketch.total == sum(truth.values())
    for key in [*truth, "never"]:
        found = sketch.estimate("word", key)
        assert found.lower <= truth[key] <= found.upper
        assert found.bound <= sketch.epsilon * sketch.total
        assert found.confidence == 1.0
    heavy = {key for key, count in truth.items() if count > sketch.epsilon * sketch.total}
    assert heavy <= {one.key for one in sketch.heaviest("word", 10**6)}


@pytest.mark.property
@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_bounds_hold_and_bytes_return(rows: list[tuple[str, int]]) -> None:
    sketch = built(rows)
    holds(sketch, counted(rows))
    again = FrequentItems.from_bytes(sketch.to_bytes())
    holds(again, counted(rows))
    assert again.heaviest("word", 99) == sketch.heaviest("word", 99)


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, ROWS)
def test_bounds_hold_in_any_order_of_merging(
    a: list[tuple[str, int]], b: list[tuple[str, int]], c: list[tuple[str, int]]
) -> None:
    truth = counted(a + b + c)
    left = built(a)
    left.merge(built(b))
    left.merge(built(c))
    holds(left, truth)
    right, tail = built(a), built(b)
    tail.merge(built(c))
    right.merge(tail)
    holds(right, truth)


@pytest.mark.property
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(KEYS, st.integers(1, 9), max_size=6))
def test_a_map_that_is_not_full_is_exact(counts: dict[str, int]) -> None:
    sketch = built(list(counts.items()))
    found = {one.key: one.estimate.value for one in sketch.heaviest("word", 99)}
    assert found == counts
    assert all(one.estimate.bound == 0 for one in sketch.heaviest("word", 99))


@pytest.mark.unit
def test_the_heaviest_of_a_skewed_stream_are_found() -> None:
    random = Random(5)
    keys = [f"w{int(random.paretovariate(0.8)) % 20_000}" for _ in range(100_000)]
    sketch = FrequentItems.from_size(8)
    for key in keys:
        sketch.update("word", key)
    truth = Counter(keys)
    expected = [key for key, _ in sorted(truth.items(), key=lambda item: (-item[1], item[0]))[:10]]
    assert expected == [one.key for one in sketch.heaviest("word", 10)]
    holds(sketch, truth)
    assert any(one.estimate.bound for one in sketch.heaviest("word", 10)), "too easy: the map was never full"


@pytest.mark.unit
def test_kinds_are_apart_and_ties_go_by_key() -> None:
    sketch = FrequentItems.from_size(6)
    for kind, key in (("word", "b"), ("word", "a"), ("quiz", "a"), ("words", "a"), ("word", "123")):
        sketch.update(kind, key, 2)
    assert [one.key for one in sketch.heaviest("word", 9)] == ["123", "a", "b"]
    assert [one.key for one in sketch.heaviest("word", 1)] == ["123"]
    assert sketch.estimate("quiz", "b").value == 0


@pytest.mark.unit
def test_wrong_input_is_refused_and_changes_nothing() -> None:
    sketch = built([("a", 3)])
    for weight in (-1, MAX_TOTAL):
        with pytest.raises(BadInput) as raised:
            sketch.update("word", "a", weight)
        assert raised.value.code == "invalid_field"
    with pytest.raises(BadInput) as raised:
        sketch.merge(FrequentItems.from_size(4))
    assert raised.value.code == "bad_sketch"
    for lg_size in (2, 21):
        with pytest.raises(BadInput):
            FrequentItems.from_size(lg_size)
    assert sketch.total == 3
    sketch.merge(sketch)
    assert sketch.estimate("word", "a").value == 6
