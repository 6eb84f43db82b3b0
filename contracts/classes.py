"""A class' members over time, and what of a board is theirs: only answers given while they were members. Pure decisions.

A stay is one membership, [joined, left) in UTC µs; a user's stays in one class never overlap. A class' board of a span is
its parent board's (global, whose days are UTC's) filtered by stays, never stored: a stay's whole months and days come from
wherever the parent's do, and the days that joining or leaving cuts are counted answer by answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from contracts.boards import Scope
from contracts.errors import BadInput
from contracts.periods import EPOCH_DAY, Span, first_day, next_start, period_start, span
from contracts.ranges import ANSWERS, USER_DAYS, Part

ZONE = "UTC"
DAY_US = 86_400_000_000
PARENT = Scope("global")
# Letters and digits that nobody takes for another; no vowels, so that no words come out.
CODE_LETTERS = "23456789BCDFGHJKLMNPQRSTVWXZ"
# 28^8 codes: with 100,000 open classes a guess hits one in 3.8 million, and joins are limited by address.
CODE_LENGTH = 8
# Members at once: each page asks Redis for every one of them.
MEMBERS_MAX = 5_000
# Classes that one user leads.
CLASSES_MAX = 200
# Times that one user may join one class: each stay is a row that every board of the class reads.
STAYS_MAX = 50


@dataclass(frozen=True, slots=True)
class Stay:
    """One membership of one user; left_us is contracts.periods.FOREVER_US while it lasts."""

    user_id: str
    user_no: int
    joined_us: int
    left_us: int


@dataclass(frozen=True, slots=True)
class Roster:
    """A class as its boards need it. version rises with each change of it, so that it names these very stays."""

    class_id: str
    owner_id: str
    version: int
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """What of a stay lies in a range: [from_us, to_us), and the whole days in it, [first_day, end_day); none if equal."""

    user_id: str
    user_no: int
    from_us: int
    to_us: int
    first_day: date
    end_day: date

    def holds(self, day: date) -> bool:
        return self.first_day <= day < self.end_day

    def holds_month(self, month: date) -> bool:
        return self.first_day <= month and next_start("monthly", month) <= self.end_day

    def meets(self, part: Span) -> bool:
        return self.from_us < part.end_us and part.start_us < self.to_us


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """The parts of a class' range. cut: days whose answers are counted one by one, for those whose stay cuts the day."""

    parts: list[Part]
    cut: list[Part]


def checked_code(text: str) -> str:
    """A join code as it is kept: capitals, without blanks and dashes. Raises BadInput(unknown_join_code, 404)."""
    code = "".join(text.split()).replace("-", "").upper()
    if len(code) != CODE_LENGTH or any(letter not in CODE_LETTERS for letter in code):
        raise BadInput("unknown_join_code", f"no open class has the code {text[:20]!r}", status=404)
    return code


def clips(stays: Iterable[Stay], asked: Span) -> list[Clip]:
    """The stays that meet a range, cut to it. The range must end before the last day that a date holds."""
    found = []
    for stay in stays:
        low, high = max(stay.joined_us, asked.start_us), min(stay.left_us, asked.end_us)
        if low < high:
            found.append(Clip(stay.user_id, stay.user_no, low, high, *_whole_days(low, high)))
    return found


def _whole_days(low_us: int, high_us: int) -> tuple[date, date]:
    """The first whole day in [low, high) and the day after the last one; equal if there is none."""
    first = -(-low_us // DAY_US)
    return _day(first), _day(max(first, high_us // DAY_US))


@lru_cache(maxsize=4096)
def _day(number: int) -> date:
    """The UTC day of a number: they have no clock changes, and a board reads the days of thousands of stays."""
    return EPOCH_DAY + timedelta(days=number)


@lru_cache(maxsize=4096)
def boards_within(first: date, end: date) -> tuple[tuple[str, date], ...]:
    """Months, and the days left over, that make up the days [first, end): (period, start) of each, in order."""
    found: list[tuple[str, date]] = []
    day = first
    while day < end:
        whole = day == first_day("monthly", day) and next_start("monthly", day) <= end
        found.append(("monthly" if whole else "daily", day))
        day = next_start("monthly" if whole else "daily", day)
    return tuple(found)


def edges(clip: Clip) -> list[Span]:
    """What of a clip is in none of its whole days: at most two spans, each within one day."""
    first, end = span("daily", clip.first_day, ZONE).start_us, span("daily", clip.end_day, ZONE).start_us
    found = (Span(clip.from_us, min(first, clip.to_us)), Span(max(end, clip.from_us), clip.to_us))
    return [one for one in found if one.start_us < one.end_us]


def plan_members(parts: Sequence[Part], members: Sequence[Clip], days_of: Sequence[Part]) -> MemberPlan:
    """A parent's parts (contracts.ranges.plan) as a class needs them.

    A published month that a stay cuts is joined by its days, `days_of` (the same range planned without months): those who
    were members all month still come from the month. A day that a stay cuts is joined by its answers, likewise.
    """
    cut_days = {period_start("daily", edge.start_us, ZONE) for clip in members for edge in edges(clip)}
    found: list[Part] = []
    for part in parts:
        if part.month is None or all(
            clip.holds_month(part.month) for clip in members if clip.meets(part.span)
        ):
            found.append(part)
            continue
        own = [day for day in days_of if day.day and first_day("monthly", day.day) == part.month]
        # A published month has its days published; were one not, nobody would be taken from the month.
        found += [part, *own] if all(day.source == USER_DAYS for day in own) else own
    cut = [Part(ANSWERS, p.span, p.day) for p in found if p.day in cut_days and p.source != ANSWERS]
    found.sort(key=lambda part: (part.span.start_us, part.span.end_us))
    return MemberPlan(found, sorted(cut, key=lambda part: part.span.start_us))
