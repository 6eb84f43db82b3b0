"""A free range of time as whole days and edges, and where each is taken from (CONTRACTS B3, D5). Pure decisions.

A range is half-open, [from, to), in UTC µs. Its days are those of the scope's zone; an edge is what is left of a day that
the range cuts. No day is split between sources, so no answer is taken twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from contracts.errors import BadInput
from contracts.periods import (
    ENDING_PERIODS,
    LAST_DAY,
    Span,
    first_day,
    instant_us,
    midnight_us,
    parse_day,
    period_start,
    span,
)

USER_MONTHS, USER_DAYS, REDIS, ANSWERS = "user_months", "user_days", "redis", "answers"
# Postgres' answers, one by one: what a class' live board takes of days that joining or leaving cuts.
HISTORY = "history"
SETTLED_SOURCES = frozenset((USER_MONTHS, USER_DAYS))
# Ten years of days: each day that Redis holds is one read, and more has no board that anyone would read.
DAYS_MAX = 3_660


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a range and its source: a whole month (its first day), a whole day, or an edge (neither).

    zone: whose days those are, where a board is made of several zones' days; else "".
    """

    source: str
    span: Span
    day: date | None = None
    month: date | None = None
    zone: str = ""


def parse_bound(text: str, zone: str) -> int:
    """An instant (ISO 8601; without offset: UTC) or a date (its midnight in the given zone), as UTC µs.

    Raises BadInput(wrong_start).
    """
    if len(text) == 10:
        return midnight_us(parse_day(text), zone)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput("wrong_start", f"{text[:40]!r} is neither an instant nor a day, YYYY-MM-DD") from error
    if not 1969 < found.year < LAST_DAY.year:
        raise BadInput("wrong_start", f"{text[:40]!r} is outside 1970 … {LAST_DAY.year - 1}")
    return instant_us(found if found.tzinfo else found.replace(tzinfo=UTC))


def checked(from_us: int, to_us: int) -> Span:
    """The range. Raises BadInput(wrong_start) for an empty one, or one of too many days."""
    if from_us >= to_us:
        raise BadInput("wrong_start", "`from` must be before `to`")
    if to_us - from_us > DAYS_MAX * 86_400_000_000:
        raise BadInput(
            "wrong_start", f"a range may have {DAYS_MAX} days", next_step="ask for less, or all_time"
        )
    return Span(from_us, to_us)


def split(asked: Span, zone: str) -> tuple[list[date], list[Span]]:
    """The whole days in a range, in order, and its edges (at most two, or one where it lies within a day)."""
    first, last = period_start("daily", asked.start_us, zone), period_start("daily", asked.end_us - 1, zone)
    days: list[date] = []
    edges: list[Span] = []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        own = span("daily", day, zone)
        if own.start_us >= own.end_us:
            continue  # a day that its zone skipped
        if asked.start_us <= own.start_us and own.end_us <= asked.end_us:
            days.append(day)
        else:
            edges.append(Span(max(asked.start_us, own.start_us), min(asked.end_us, own.end_us)))
    return days, edges


def equal_period(asked: Span, zone: str) -> tuple[str, date] | None:
    """The day, week or month that a range is, to the instant; None if it is none."""
    day = period_start("daily", asked.start_us, zone)
    for period in ENDING_PERIODS:
        if day == first_day(period, day) and span(period, day, zone) == asked:
            return period, day
    return None


@dataclass(frozen=True, slots=True)
class Settled:
    """Days and months (first days) of a zone that settlements have published; none of a scope without boards."""

    days: frozenset[date] = frozenset()
    months: frozenset[date] = frozenset()


def plan(asked: Span, zone: str, settled: Settled, redis_keeps: Callable[[date], bool]) -> list[Part]:
    """The parts of a range, in order of time, each with its one source.

    A settled month that the range holds whole comes from user-months, any other whole settled day from user-days.
    redis_keeps: whether Redis holds a day whole; never for scopes that have no boards of their own (tag), nor
    for the past as a settlement published it.
    """
    days, edges = split(asked, zone)
    parts = [Part(ANSWERS, edge) for edge in edges]
    months: set[date] = set()
    for day in days:
        month = first_day("monthly", day)
        if month in settled.months and _inside(span("monthly", month, zone), asked):
            months.add(month)
        elif day in settled.days:
            parts.append(Part(USER_DAYS, span("daily", day, zone), day))
        else:
            parts.append(Part(REDIS if redis_keeps(day) else ANSWERS, span("daily", day, zone), day))
    parts += [Part(USER_MONTHS, span("monthly", month, zone), month=month) for month in months]
    return sorted(parts, key=lambda part: part.span.start_us)


def _inside(own: Span, whole: Span) -> bool:
    return whole.start_us <= own.start_us and own.end_us <= whole.end_us


def spans_of(parts: list[Part], source: str) -> list[Span]:
    """The spans of one source, neighbours joined."""
    found: list[Span] = []
    for part in parts:
        if part.source != source:
            continue
        if found and found[-1].end_us == part.span.start_us:
            found[-1] = Span(found[-1].start_us, part.span.end_us)
        else:
            found.append(part.span)
    return found
