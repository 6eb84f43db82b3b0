"""Order and packed score, held against an obvious comparison and against each other."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ranking
from contracts.errors import BadInput
from contracts.ranking import POINTS_MAX, TICK_MAX, Total

ids = st.text("ABab01_-", min_size=1, max_size=4)
some_points = st.one_of(st.integers(0, 3), st.integers(0, POINTS_MAX))
ticks = st.one_of(st.integers(0, 3), st.integers(0, TICK_MAX))


@pytest.mark.property
@given(some_points, ticks)
def test_unpack_returns_what_was_packed(points: int, tick: int) -> None:
    packed = ranking.pack(points, tick)
    assert ranking.unpack(packed) == ((points, tick) if points else (0, None))
    assert struct.unpack("d", struct.pack("d", packed))[0] == packed  # a Redis score is a float64


@pytest.mark.property
@given(st.tuples(some_points, ticks), st.tuples(some_points, ticks))
def test_packed_scores_compare_as_the_order_does(a: tuple[int, int], b: tuple[int, int]) -> None:
    def better(x: tuple[int, int], y: tuple[int, int]) -> bool:
        return x[0] > y[0] or (x[0] == y[0] and x[0] > 0 and x[1] < y[1])

    assert (ranking.pack(*a) > ranking.pack(*b)) == better(a, b)


@pytest.mark.property
@given(st.dictionaries(ids, st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12), st.randoms())
def test_rank_is_the_count_of_those_before(users: dict[str, tuple[int, int]], random: object) -> None:
    totals = [Total(u, p, t if p else None) for u, (p, t) in users.items()]
    random.shuffle(totals)  # type: ignore[attr-defined]

    def before(x: Total, y: Total) -> bool:
        if x.points != y.points:
            return x.points > y.points
        if x.reached_at_us != y.reached_at_us:
            return (x.reached_at_us or 0) < (y.reached_at_us or 0)
        return x.user_id.encode() > y.user_id.encode()

    for ranked in ranking.rank(totals):
        me = Total(ranked.user_id, ranked.points, ranked.reached_at_us)
        assert ranked.rank == 1 + sum(before(other, me) for other in totals if other.user_id != me.user_id)


@pytest.mark.unit
def test_a_user_twice_is_a_wrong_grouping() -> None:
    with pytest.raises(ValueError, match="twice"):
        ranking.rank([Total("a", 1, 0), Total("a", 2, 0)])


@pytest.mark.unit
@pytest.mark.parametrize(
    ("offset", "expected"), [(-1, 0), (0, 0), (TICK_MAX, TICK_MAX), (TICK_MAX + 1, TICK_MAX)]
)
def test_ticks_are_clamped_at_both_ends(offset: int, expected: int) -> None:
    assert ranking.ticks_of(10_000_000 + offset * 1_000_000, 10_000_000, 1_000_000) == expected


@pytest.mark.unit
def test_points_above_the_limit_are_refused() -> None:
    assert ranking.unpack(ranking.pack(POINTS_MAX, 0)) == (POINTS_MAX, 0)
    with pytest.raises(BadInput, match="points_overflow"):
        ranking.pack(POINTS_MAX + 1, 0)


@pytest.mark.unit
def test_the_tick_of_a_session_follows_its_longest_time() -> None:
    assert ranking.session_tick_ms(ranking.SHORT_SESSION_US) == 10
    assert ranking.session_tick_ms(ranking.SHORT_SESSION_US + 1) == 1_000
    assert ranking.session_tick_ms(1, imported=True) == 1_000
    assert ranking.SHORT_SESSION_US // 10_000 <= TICK_MAX
    assert ranking.SESSION_MAX_US // 1_000_000 <= TICK_MAX
