"""Quantiles against sorted lists: exact while small, within the interval at the stated rate, also after many merges."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from sketches.quantiles import CONFIDENCE, MAX_VALUE, Quantiles, merged

VALUES = st.lists(st.integers(0, 10**6), max_size=40)
RANKS = (0.05, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999)


def built(values: list[int], k: int = 12) -> Quantiles:
    sketch = Quantiles.from_size(k)
    sketch.update_many(values)
    return sketch


def true_quantile(ordered: list[int], rank: float) -> int:
    """The smallest value that a share `rank` is at most."""
    return ordered[max(0, math.ceil(rank * len(ordered)) - 1)]


@pytest.mark.property
@settings(max_examples=80, deadline=None)
@given(VALUES, VALUES, st.integers(0, 20))
def test_few_values_are_exact_merged_or_not(a: list[int], b: list[int], twentieths: int) -> None:
    rank = twentieths / 20
    one = built(a)
    one.merge(built(b))
    for sketch in (built(a + b), one, merged([built(a), built(b)]), Quantiles.from_bytes(one.to_bytes())):
        assert sketch.count == len(a + b)
        found = sketch.quantile(rank)
        if not a + b:
            assert found is None and sketch.rank(5) is None
            continue
        assert found is not None
        truth = true_quantile(sorted(a + b), rank)
        # 72 values and more than one level: then the interval holds it, below that it is the value itself.
        assert found.lower <= truth <= found.upper
        if len(a + b) < 72:
            assert found.value == truth
        share = sketch.rank(truth)
        assert share is not None
        assert share.lower <= sum(value <= truth for value in a + b) / len(a + b) <= share.upper


@pytest.mark.unit
@pytest.mark.parametrize("parts, size", [(1, 10_000), (60, 200), (150, 100)])
def test_share_within_the_interval_is_at_least_the_stated_rate(parts: int, size: int) -> None:
    random = np.random.default_rng(parts)
    trials = 150
    inside = dict.fromkeys(RANKS, 0)
    for _ in range(trials):
        values = random.lognormal(8, 1, parts * size).astype(int).tolist()
        sketch = merged([built(values[at::parts]) for at in range(parts)])
        assert sketch.count == len(values)
        ordered = sorted(values)
        for rank in RANKS:
            found = sketch.quantile(rank)
            assert found is not None
            inside[rank] += found.lower <= true_quantile(ordered, rank) <= found.upper
    assert all(count / trials >= CONFIDENCE for count in inside.values()), inside


@pytest.mark.unit
def test_errors_of_many_merges_do_not_add_up_on_one_side() -> None:
    """Without the written and read coins the mean error at p99 is 2 to 4 deviations."""
    random = Random(3)
    errors = []
    for _ in range(20):
        values = list(range(200 * 100))
        random.shuffle(values)
        sketch = Quantiles.from_size(24)
        for at in range(200):
            sketch.merge(built(values[at::200], 24))
        found = sketch._sketch.get_rank(int(0.99 * len(values)) - 1, True)
        deviation = sketch._sketch.get_rank_upper_bound(0.99, 1) - 0.99
        errors.append((found - 0.99) / deviation)
    assert abs(sum(errors) / len(errors)) < 0.8


@pytest.mark.unit
def test_great_values_count_as_the_greatest_and_negative_ones_are_refused() -> None:
    sketch = built([1, 2, 2**40])
    top = sketch.quantile(1.0)
    assert top is not None and (top.value, top.upper) == (MAX_VALUE, MAX_VALUE)
    with pytest.raises(BadInput) as raised:
        sketch.update_many([5, -1])
    assert raised.value.code == "invalid_field"
    assert sketch.count == 3
    below = sketch.rank(-7)
    assert below is not None and below.rank == 0.0


@pytest.mark.unit
def test_wrong_input_is_refused() -> None:
    sketch = built([1])
    with pytest.raises(BadInput) as raised:
        sketch.merge(built([1], 24))
    assert raised.value.code == "bad_sketch"
    with pytest.raises(BadInput) as raised:
        merged([])
    assert raised.value.code == "bad_sketch"
    for k in (2, 13, 2000):
        with pytest.raises(BadInput) as raised:
            Quantiles.from_size(k)
        assert raised.value.code == "invalid_field"
    for rank in (-0.1, 1.1):
        with pytest.raises(BadInput):
            sketch.quantile(rank)
    sketch.merge(sketch)
    assert sketch.count == 2
