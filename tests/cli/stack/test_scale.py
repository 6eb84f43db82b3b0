"""How many api processes: what a person says, what the policy makes of measured load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.stack.scale import (
    ADD_AFTER,
    HIGH_SOCKETS,
    MOST,
    REMOVE_AFTER,
    Policy,
    Scale,
    read_scale,
    write_scale,
)
from contracts.errors import BadInput


def after(scale: Scale, samples: Sequence[tuple[float, int]]) -> list[int]:
    """The counts after samples of (share of each process, sockets of all), each process having the same share."""
    policy, counts = Policy(), []
    for share, sockets in samples:
        scale = Scale(policy.decide(scale, [share] * scale.count, sockets), scale.least, scale.most)
        counts.append(scale.count)
    return counts


@pytest.mark.unit
def test_load_adds_soon_and_takes_away_late() -> None:
    auto = Scale(2, 1, 4)
    assert [2] * (ADD_AFTER - 1) + [3] == after(auto, [(0.9, 0)] * ADD_AFTER)
    assert 4 == after(auto, [(0.9, 0)] * 20)[-1]
    assert [2] * (REMOVE_AFTER - 1) + [1] == after(auto, [(0.1, 0)] * REMOVE_AFTER)
    assert 3 == after(auto, [(0.1, 2 * HIGH_SOCKETS + 2)] * ADD_AFTER)[-1]
    # Two that use 30 % each would be one at 60 %: it stays at two.
    assert {2} == set(after(auto, [(0.3, 0)] * 50))
    # One busy sample between idle ones begins the count anew.
    calm = [(0.1, 0)] * (REMOVE_AFTER - 1)
    assert 2 == after(auto, [*calm, (0.9, 0), *calm])[-1]


@pytest.mark.unit
def test_what_a_person_said_is_not_changed_by_load() -> None:
    assert {2} == set(after(Scale(2), [(1.0, 99_999)] * 50))


@pytest.mark.unit
def test_nothing_is_decided_while_one_starts_or_ends() -> None:
    policy, auto = Policy(), Scale(2, 1, 4)
    for _ in range(20):
        assert 2 == policy.decide(auto, [1.0], 0)
    assert 2 == policy.decide(auto, [1.0, 1.0], 0)


@pytest.mark.property
@given(
    st.integers(1, MOST).flatmap(
        lambda least: st.tuples(st.just(least), st.integers(least, MOST), st.integers(1, MOST))
    ),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 50_000)), max_size=60),
)
def test_it_stays_within_its_bounds_and_moves_by_one(
    bounds: tuple[int, int, int], samples: list[tuple[float, int]]
) -> None:
    least, most, count = bounds
    scale = Scale(count, least, most).within()
    counts = [scale.count, *after(scale, samples)]
    assert all(least <= one <= most for one in counts)
    assert all(abs(a - b) <= 1 for a, b in zip(counts, counts[1:], strict=False))


@pytest.mark.unit
def test_what_was_said_is_read_back_and_nonsense_is_refused(tmp_path: Path) -> None:
    assert Scale() == read_scale(tmp_path)
    write_scale(tmp_path, Scale(3, 2, 4))
    assert Scale(3, 2, 4) == read_scale(tmp_path)
    for wrong in ((0, 0, 0), (MOST + 1, 0, 0), (2, 3, 2), (2, 0, 4), (2, 1, MOST + 1)):
        with pytest.raises(BadInput):
            Scale(*wrong)
