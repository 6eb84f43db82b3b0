"""Periods: every instant lies in exactly one day, week and month of a zone, through clock changes and leap days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import periods
from contracts.errors import BadInput

HOUR = 3_600_000_000
ZONES = [
    "UTC",
    "Europe/Paris",
    "Asia/Kolkata",
    "America/St_Johns",
    "Africa/Cairo",
    "Pacific/Apia",
    "Australia/Lord_Howe",
]
instants = st.integers(
    periods.midnight_us(date(1971, 1, 2), "UTC"), periods.midnight_us(date(2037, 12, 30), "UTC")
)


@pytest.mark.property
@given(instants, st.sampled_from(ZONES), st.sampled_from(periods.ENDING_PERIODS))
def test_an_instant_lies_in_exactly_one_period(instant: int, zone: str, period: str) -> None:
    start = periods.period_start(period, instant, zone)
    assert periods.span(period, start, zone).holds(instant)
    following = periods.next_start(period, start)
    assert periods.span(period, start, zone).end_us == periods.span(period, following, zone).start_us


@pytest.mark.property
@given(st.dates(date(1990, 1, 1), date(2035, 1, 1)), st.integers(0, 70), st.sampled_from(ZONES))
def test_a_month_is_the_sum_of_its_days(first: date, length: int, zone: str) -> None:
    month = periods.first_day("monthly", first + timedelta(days=length))
    span = periods.span("monthly", month, zone)
    last = periods.next_start("monthly", month) - timedelta(days=1)
    parts = [periods.span("daily", day, zone) for day in periods.days(month, last)]
    assert sum(part.end_us - part.start_us for part in parts) == span.end_us - span.start_us
    assert parts[0].start_us == span.start_us and parts[-1].end_us == span.end_us


@pytest.mark.unit
@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2024, 3, 31), "Europe/Paris", 23),
        (date(2024, 10, 27), "Europe/Paris", 25),
        (date(2024, 4, 26), "Africa/Cairo", 23),
        (date(2024, 2, 29), "UTC", 24),
        (date(2011, 12, 30), "Pacific/Apia", 0),
        (date(2024, 4, 7), "Australia/Lord_Howe", 24.5),
    ],
)
def test_the_length_of_a_day_follows_its_clock(day: date, zone: str, hours: float) -> None:
    span = periods.span("daily", day, zone)
    assert span.end_us - span.start_us == int(hours * HOUR)


@pytest.mark.unit
def test_clocks_that_go_back_over_midnight_do_not_split_a_day() -> None:
    midnight = periods.midnight_us(date(2010, 11, 7), "America/St_Johns")
    repeated = midnight + 10 * 60_000_000
    assert periods.from_instant_us(repeated, "America/St_Johns").date() == date(2010, 11, 6)
    assert periods.period_start("daily", repeated, "America/St_Johns") == date(2010, 11, 7)


@pytest.mark.unit
def test_iso_week_53_spans_two_years() -> None:
    assert periods.first_day("weekly", date(2021, 1, 3)) == date(2020, 12, 28)
    assert date(2020, 12, 28).isocalendar().week == 53
    assert periods.next_start("weekly", date(2020, 12, 28)) == date(2021, 1, 4)


@pytest.mark.unit
def test_widen_takes_whole_weeks_and_months() -> None:
    assert periods.widen(date(2021, 1, 2), date(2021, 1, 3)) == (date(2020, 12, 28), date(2021, 1, 31))
    assert periods.widen(date(2024, 2, 29), date(2024, 2, 29)) == (date(2024, 2, 1), date(2024, 3, 3))


@pytest.mark.unit
def test_periods_touched_names_each_once() -> None:
    assert periods.periods_touched(date(2021, 1, 31), date(2021, 2, 1)) == [
        ("daily", date(2021, 1, 31)),
        ("daily", date(2021, 2, 1)),
        ("weekly", date(2021, 1, 25)),
        ("weekly", date(2021, 2, 1)),
        ("monthly", date(2021, 1, 1)),
        ("monthly", date(2021, 2, 1)),
    ]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("period", "text", "code"),
    [
        ("daily", "2024-02-30", "wrong_start"),
        ("daily", "20240230", "wrong_start"),
        ("weekly", "2024-02-27", "wrong_start"),
        ("monthly", "2024-02-02", "wrong_start"),
        ("all_time", "2024-01-01", "wrong_start"),
        ("hourly", "current", "unknown_period"),
    ],
)
def test_a_wrong_start_is_refused(period: str, text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        periods.parse_start(period, text, 0)
    assert caught.value.code == code


@pytest.mark.unit
def test_current_is_the_period_of_now() -> None:
    now = periods.midnight_us(date(2024, 2, 29), "UTC") + HOUR
    assert periods.parse_start("weekly", "current", now) == date(2024, 2, 26)
    assert periods.parse_start("daily", "current", now, "America/New_York") == date(2024, 2, 28)
    assert periods.parse_start("all_time", "current", now) == date(1970, 1, 1)


@pytest.mark.unit
def test_unknown_zone_is_bad_input() -> None:
    with pytest.raises(BadInput, match="unknown_zone"):
        periods.zone_of("Mars/Olympus")


@pytest.mark.unit
def test_iso_ms_is_exact() -> None:
    assert periods.iso_ms(1_506_015_043_018_999) == "2017-09-21T17:30:43.018Z"


@pytest.mark.property
@given(instant=st.integers(0, periods.instant_us(datetime(9999, 12, 31, tzinfo=UTC))))
def test_iso_ms_is_what_the_library_writes(instant: int) -> None:
    library = periods.from_instant_us(instant).isoformat(timespec="milliseconds")
    assert library.replace("+00:00", "Z") == periods.iso_ms(instant)
