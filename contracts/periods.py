"""Days, weeks, months as half-open spans of UTC µs, in a board's zone (CONTRACTS B2, B3).

The only place that computes a boundary: engines get integers. Weeks are ISO weeks (Monday first). All-time starts at
1970-01-01T00:00Z. A local midnight that does not exist (a clock change at 00:00) is the first instant of that day.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contracts.errors import BadInput

PERIODS = ("daily", "weekly", "monthly", "all_time")
ENDING_PERIODS = ("daily", "weekly", "monthly")
EPOCH_DAY = date(1970, 1, 1)
# The last day that may be asked for: a year below what a date holds, so that no period or zone runs over its end.
LAST_DAY = date(9998, 12, 31)
# The end of all time: above any instant that a record can hold, below 2^63.
FOREVER_US = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """[start_us, end_us), UTC µs."""

    start_us: int
    end_us: int

    def holds(self, instant_us: int) -> bool:
        return self.start_us <= instant_us < self.end_us


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises BadInput(unknown_zone)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput("unknown_zone", f"{name[:80]!r} is not an IANA zone such as Europe/Paris") from error


def instant_us(moment: datetime) -> int:
    """UTC µs of an aware datetime, exact (no float)."""
    return (moment - _EPOCH) // _MICROSECOND


def from_instant_us(instant: int, zone: str = "UTC") -> datetime:
    """The aware local datetime of an instant."""
    return (_EPOCH + timedelta(microseconds=instant)).astimezone(zone_of(zone))


def iso_ms(instant: int) -> str:
    """An instant as replies show it: ISO 8601, UTC, ms, `Z`."""
    day, ms = divmod(instant // 1000, 86_400_000)
    seconds, ms = divmod(ms, 1000)
    minutes, second = divmod(seconds, 60)
    # By hand: strftime and the zone's arithmetic were a third of a board's reply.
    return f"{_iso_day(day)}T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{ms:03d}Z"


@lru_cache(maxsize=4096)
def _iso_day(number: int) -> str:
    return (EPOCH_DAY + timedelta(days=number)).isoformat()


@lru_cache(maxsize=65536)
def midnight_us(day: date, zone: str) -> int:
    """The first instant of a local day, UTC µs. Takes the earlier of two (fold 0); a missing midnight is the gap's end."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone_of(zone))
    found = instant_us(local)
    if from_instant_us(found, zone).date() == day:
        return found
    # The midnight was skipped: fold 0 reads it with the offset before the gap, which lands before the day begins or
    # after; walk to the first whole minute that belongs to the day.
    minute = 60_000_000
    while from_instant_us(found, zone).date() < day:
        found += minute
    return found


def first_day(period: str, day: date) -> date:
    """The first day of the period that holds `day`."""
    match period:
        case "daily":
            return day
        case "weekly":
            return day - timedelta(days=day.weekday())
        case "monthly":
            return day.replace(day=1)
        case "all_time":
            return EPOCH_DAY
    raise BadInput("unknown_period", f"{period!r} is not one of {', '.join(PERIODS)}")


def next_start(period: str, start: date) -> date:
    """The first day after the period that starts on `start`."""
    match period:
        case "daily":
            return start + timedelta(days=1)
        case "weekly":
            return start + timedelta(days=7)
        case "monthly":
            return start + timedelta(days=calendar.monthrange(start.year, start.month)[1])
    raise BadInput("unknown_period", f"{period!r} has no end")


def period_start(period: str, instant: int, zone: str = "UTC") -> date:
    """First local day of the period that holds an instant: the one whose `span` holds it.

    The clock's own date is only the first guess: where clocks went back over midnight (St John's at 00:01) a date
    comes twice, and the spans, which never overlap, decide.
    """
    day = from_instant_us(instant, zone).date()
    if instant >= midnight_us(day + timedelta(days=1), zone):
        day += timedelta(days=1)
    elif instant < midnight_us(day, zone):
        day -= timedelta(days=1)
    return first_day(period, day)


@lru_cache(maxsize=65536)
def span(period: str, start: date, zone: str = "UTC") -> Span:
    """[start, end) of a period in UTC µs. Raises BadInput(wrong_start) if `start` is not its first day."""
    if start != first_day(period, start):
        raise BadInput(
            "wrong_start",
            f"{start} is not the first day of a {period} period",
            next_step=f"use {first_day(period, start)}",
        )
    if period == "all_time":
        return Span(0, FOREVER_US)
    return Span(midnight_us(start, zone), midnight_us(next_start(period, start), zone))


def parse_day(text: str) -> date:
    """`YYYY-MM-DD` as a date. Raises BadInput(wrong_start), also for a day that no board can have."""
    try:
        if len(text) != 10:
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError as error:
        raise BadInput("wrong_start", f"{text[:40]!r} is not a day; write YYYY-MM-DD") from error
    return checked_day(day)


def checked_day(day: date) -> date:
    """The day unchanged. Raises BadInput(wrong_start) outside 1970 … 9998."""
    # A week that begins before 1970 may hold answers of 1970.
    if not EPOCH_DAY - timedelta(days=7) <= day <= LAST_DAY:
        raise BadInput("wrong_start", f"{day} is outside {EPOCH_DAY} … {LAST_DAY}")
    return day


def parse_start(period: str, text: str, now_us: int, zone: str = "UTC") -> date:
    """START of a command or a route: `current`, or the period's first day; all_time takes only `current` or its epoch.

    Raises BadInput: unknown_period, wrong_start (with the day to use in next_step).
    """
    if period not in PERIODS:
        raise BadInput("unknown_period", f"{period[:40]!r} is not one of {', '.join(PERIODS)}")
    if text == "current":
        return period_start(period, now_us, zone)
    day = parse_day(text)
    span(period, day, zone)
    return day


def days(first: date, last: date) -> Iterator[date]:
    """Each day from `first` to `last`, both inclusive."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


def widen(first: date, last: date) -> tuple[date, date]:
    """The days of all weeks and months that the inclusive days touch."""
    starts = (first_day("weekly", first), first_day("monthly", first))
    ends = (
        next_start("weekly", first_day("weekly", last)),
        next_start("monthly", first_day("monthly", last)),
    )
    return min(starts), max(ends) - timedelta(days=1)


def periods_touched(first: date, last: date) -> list[tuple[str, date]]:
    """(period, start) of every day, week and month that the inclusive days touch, each once, in order of start."""
    found = {(period, first_day(period, day)) for day in days(first, last) for period in ENDING_PERIODS}
    return sorted(found, key=lambda item: (ENDING_PERIODS.index(item[0]), item[1]))
