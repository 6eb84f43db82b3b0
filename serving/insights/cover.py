"""Which whole windows a range is made of: as many days as lie inside, then hours, then minutes. Pure."""

from __future__ import annotations

from contracts.errors import BadInput
from contracts.sketched import DAY_US, HOUR_US, MINUTE_US

# A century: far above what anyone has, and a bound on the windows of one question.
MOST_DAYS = 36_525

Window = tuple[str, int]


def whole_minutes(from_us: int, to_us: int) -> tuple[int, int]:
    """The whole minutes inside [from_us, to_us), as [start, end).

    Raises BadInput: invalid_field where there is none, range_too_large above MOST_DAYS.
    """
    start, end = -(-from_us // MINUTE_US) * MINUTE_US, to_us // MINUTE_US * MINUTE_US
    if start >= end:
        raise BadInput(
            "invalid_field", "`from` to `to` holds no whole minute", next_step="ask for a longer range"
        )
    if end - start > MOST_DAYS * DAY_US:
        raise BadInput("range_too_large", f"a range of more than {MOST_DAYS} days")
    return start, end


def cover(start_us: int, end_us: int) -> list[Window]:
    """(level, start) of the fewest windows that make up [start_us, end_us) of whole minutes, in order of level."""
    days = _inside(DAY_US, start_us, end_us)
    hours: list[Window] = []
    minutes: list[Window] = []
    for left, right in _edges(days, start_us, end_us):
        whole = _inside(HOUR_US, left, right)
        hours += [("hour", at) for at in range(*whole, HOUR_US)]
        for first, last in _edges(whole, left, right):
            minutes += [("minute", at) for at in range(first, last, MINUTE_US)]
    return [("day", at) for at in range(*days, DAY_US)] + hours + minutes


def _inside(length_us: int, start_us: int, end_us: int) -> tuple[int, int]:
    """From the first to behind the last whole window of that length; where there is none, empty at the start."""
    first, last = -(-start_us // length_us) * length_us, end_us // length_us * length_us
    return (first, last) if first < last else (start_us, start_us)


def _edges(inner: tuple[int, int], start_us: int, end_us: int) -> list[tuple[int, int]]:
    """What is left on both sides of `inner`."""
    return [(left, right) for left, right in ((start_us, inner[0]), (inner[1], end_us)) if left < right]
