"""Ranges: every instant lies in exactly one part, days are whole, each day has one source."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ranges
from contracts.errors import BadInput
from contracts.periods import Span, midnight_us, period_start, span

# Half-hour zones, a change of clocks at midnight (St John's until 2011), a day that never was (Samoa, 2011-12-30).
ZONES = ("UTC", "Europe/Paris", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia")
DAY_US = 86_400_000_000
START = midnight_us(date(2011, 9, 1), "UTC")
asked = st.builds(
    lambda at, length: Span(START + at, START + at + length),
    st.integers(0, 400 * DAY_US),
    st.integers(1, 100 * DAY_US),
)


@pytest.mark.property
@given(
    asked,
    st.sampled_from(ZONES),
    st.sets(st.integers(0, 500)),
    st.sets(st.integers(0, 17)),
    st.sets(st.integers(0, 500)),
)
def test_parts_cover_a_range_once(
    whole: Span, zone: str, settled: set[int], settled_months: set[int], kept: set[int]
) -> None:
    first = period_start("daily", whole.start_us, zone)
    settled_days = {first + timedelta(days=n) for n in settled}
    months = {date(2011 + (8 + n) // 12, (8 + n) % 12 + 1, 1) for n in settled_months}
    kept_days = {first + timedelta(days=n) for n in kept}
    public = ranges.Settled(frozenset(settled_days), frozenset(months))
    parts = ranges.plan(whole, zone, public, kept_days.__contains__)
    assert (whole.start_us, whole.end_us) == (parts[0].span.start_us, parts[-1].span.end_us)
    assert all(a.span.end_us == b.span.start_us for a, b in zip(parts, parts[1:], strict=False))
    assert all(part.span.start_us < part.span.end_us for part in parts)
    # The slow model: each instant's day, asked one by one, has the one source that it must have.
    for part in parts:
        if part.month is not None:
            assert (ranges.USER_MONTHS, span("monthly", part.month, zone)) == (part.source, part.span)
            assert part.month in months and part.day is None
        elif part.day is None:
            assert part.source == ranges.ANSWERS
        else:
            assert part.span == span("daily", part.day, zone)
            month = part.day.replace(day=1)
            own = span("monthly", month, zone)
            assert month not in months or own.start_us < whole.start_us or whole.end_us < own.end_us
            wanted = ranges.REDIS if part.day in kept_days else ranges.ANSWERS
            assert part.source == (ranges.USER_DAYS if part.day in settled_days else wanted)
    joined = [
        one
        for source in (ranges.USER_MONTHS, ranges.USER_DAYS, ranges.REDIS, ranges.ANSWERS)
        for one in ranges.spans_of(parts, source)
    ]
    assert whole.end_us - whole.start_us == sum(one.end_us - one.start_us for one in joined)


@pytest.mark.property
@given(
    st.dates(date(1971, 1, 1), date(2030, 1, 1)),
    st.sampled_from(("daily", "weekly", "monthly")),
    st.sampled_from(ZONES),
)
def test_a_range_that_is_a_period_is_known_as_it(day: date, period: str, zone: str) -> None:
    start = period_start(period, midnight_us(day, zone), zone)
    own = span(period, start, zone)
    if own.start_us < own.end_us:
        assert (period, start) == ranges.equal_period(own, zone)
        assert ranges.equal_period(Span(own.start_us, own.end_us + 1), zone) is None


@pytest.mark.unit
def test_bounds() -> None:
    assert ranges.parse_bound("2024-03-31", "Europe/Paris") == midnight_us(date(2024, 3, 31), "Europe/Paris")
    assert ranges.parse_bound("1970-01-01T00:00:01", "Asia/Kolkata") == 1_000_000
    assert ranges.parse_bound("1970-01-01T05:30:01+05:30", "UTC") == 1_000_000
    for wrong in ("soon", "2024-02-30", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "9999-01-01"):
        with pytest.raises(BadInput, match="wrong_start"):
            ranges.parse_bound(wrong, "UTC")
    for low, high in ((5, 5), (6, 5), (0, (ranges.DAYS_MAX + 1) * DAY_US)):
        with pytest.raises(BadInput, match="wrong_start"):
            ranges.checked(low, high)
