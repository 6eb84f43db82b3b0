"""Classes: each instant of a stay is counted once, from one source, whatever joining and leaving cut."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import classes, ranges
from contracts.classes import Clip, Stay
from contracts.errors import BadInput
from contracts.periods import FOREVER_US, Span, first_day, midnight_us, period_start, span

DAY_US = 86_400_000_000
START = midnight_us(date(2024, 1, 20), "UTC")
# Midnights and the instants beside them are where days and stays meet.
instants = st.builds(
    lambda day, within: START + day * DAY_US + within,
    st.integers(0, 100),
    st.one_of(st.sampled_from([0, 1, DAY_US - 1]), st.integers(0, DAY_US - 1)),
)
stays = st.builds(
    lambda at, length: Stay("u", 1, at, FOREVER_US if length == 0 else at + length),
    instants,
    st.one_of(st.just(0), st.sampled_from([1, DAY_US, DAY_US - 1]), st.integers(1, 90 * DAY_US)),
)
asked = st.builds(lambda low, length: Span(low, low + length), instants, st.integers(1, 90 * DAY_US))


def counted(plan: classes.MemberPlan, clip: Clip, instant: int) -> int:
    """How often the queries' rules count an answer of a member: what lake/members.py says in SQL, one by one."""
    day = period_start("daily", instant, "UTC")
    months = [part for part in plan.parts if part.month and part.span.holds(instant)]
    by_month = sum(clip.holds_month(part.month) for part in months if part.month)
    times = by_month
    for part in plan.parts:
        if part.span.holds(instant) and not part.month:
            if part.source == ranges.ANSWERS:
                times += 1
            else:
                times += clip.holds(day) and not by_month
    return times + sum(part.span.holds(instant) and not clip.holds(day) for part in plan.cut)


@pytest.mark.property
@given(
    st.lists(stays, min_size=1, max_size=4),
    asked,
    st.sets(st.integers(0, 110)),
    st.sets(st.integers(1, 5)),
    st.sets(st.integers(0, 110)),
    st.lists(instants, max_size=8),
)
def test_every_instant_of_a_stay_counts_once(
    given_stays: list[Stay], whole: Span, days: set[int], months: set[int], kept: set[int], more: list[int]
) -> None:
    first = date(2024, 1, 20)
    whole_months = {date(2024, month, 1) for month in months}
    # A published month has its days published.
    settled_days = {first + timedelta(days=n) for n in days} | {
        day
        for day in (first + timedelta(days=n) for n in range(-20, 140))
        if first_day("monthly", day) in whole_months
    }
    held = {first + timedelta(days=n) for n in kept}
    public = ranges.Settled(frozenset(settled_days), frozenset(whole_months))
    parts = ranges.plan(whole, "UTC", public, held.__contains__)
    by_day = ranges.plan(whole, "UTC", ranges.Settled(frozenset(settled_days)), held.__contains__)
    members = classes.clips(given_stays, whole)
    plan = classes.plan_members(parts, members, by_day)
    for clip in members:
        bounds = {clip.from_us, clip.to_us - 1, *(edge.start_us for edge in classes.edges(clip))}
        bounds |= {at for one in classes.edges(clip) for at in (one.end_us, one.end_us - 1)}
        bounds |= {part.span.start_us for part in parts} | set(more)
        for instant in bounds:
            if clip.from_us <= instant < clip.to_us:
                assert 1 == counted(plan, clip, instant), (clip, instant)


@pytest.mark.property
@given(stays, asked)
def test_a_clip_is_its_whole_days_and_its_edges(stay: Stay, whole: Span) -> None:
    for clip in classes.clips([stay], whole):
        pieces = [
            *classes.edges(clip),
            *(span(*board, "UTC") for board in classes.boards_within(clip.first_day, clip.end_day)),
        ]
        pieces.sort(key=lambda one: one.start_us)
        assert (clip.from_us, clip.to_us) == (pieces[0].start_us, pieces[-1].end_us)
        assert all(a.end_us == b.start_us for a, b in zip(pieces, pieces[1:], strict=False))
        assert len(classes.edges(clip)) <= 2
        for edge in classes.edges(clip):
            days = {period_start("daily", at, "UTC") for at in (edge.start_us, edge.end_us - 1)}
            assert 1 == len(days)
            assert span("daily", days.pop(), "UTC") != edge
        assert (stay.joined_us <= whole.start_us) == (clip.from_us == whole.start_us)


@pytest.mark.unit
def test_who_was_a_member_all_month_counts_from_the_month() -> None:
    months = [date(2024, 2, 1), date(2024, 3, 1)]
    whole = Span(span("monthly", months[0]).start_us, span("monthly", months[1]).end_us)
    days = frozenset(date(2024, 2, 1) + timedelta(days=n) for n in range(60))
    public = ranges.Settled(days, frozenset(months))
    parts = ranges.plan(whole, "UTC", public, lambda _: False)
    by_day = ranges.plan(whole, "UTC", ranges.Settled(days), lambda _: False)
    noon = midnight_us(date(2024, 3, 5), "UTC") + DAY_US // 2
    early, late = Stay("a", 1, 0, FOREVER_US), Stay("b", 2, noon, FOREVER_US)
    alone = classes.plan_members(parts, classes.clips([early], whole), by_day)
    assert (parts, []) == (alone.parts, alone.cut)
    both = classes.plan_members(parts, classes.clips([early, late], whole), by_day)
    assert months == [part.month for part in both.parts if part.month]
    # February is nobody's who joined in March; March comes by its days too, and one of them is cut.
    assert {3} == {part.day.month for part in both.parts if part.day}
    assert [date(2024, 3, 5)] == [part.day for part in both.cut]


@pytest.mark.unit
def test_codes_are_read_as_people_write_them() -> None:
    assert "K7TQ2MWB" == classes.checked_code(" k7tq-2mwb ")
    assert "K7TQ2MWB" == classes.checked_code("K7TQ 2MWB")
    for wrong in ("", "K7TQ2MW", "K7TQ2MWBB", "K7TQ2MWA", "K7TQ2MW0", "K7TQ2MW'"):
        with pytest.raises(BadInput, match="unknown_join_code"):
            classes.checked_code(wrong)
    assert len(set(classes.CODE_LETTERS)) ** classes.CODE_LENGTH > 10**11
