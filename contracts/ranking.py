"""The order of a board and the one number that carries it (CONTRACTS B4, B5).

Order: points down, `reached_at` up (floored to the tick), user_id down by bytes; so no two share a rank. The packed
score holds points and ticks in 53 bits, which a float64 (a Redis score) keeps exactly.
Twins: serving/boards/record_answers.lua, contracts/board.sql; vectors in tests/vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from contracts.errors import BadInput

TICK_BITS = 22
TICK_SPAN = 1 << TICK_BITS
TICK_MAX = TICK_SPAN - 1
POINTS_MAX = (1 << 31) - 1

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
PERIOD_TICK_US = {"daily": SECOND_US, "weekly": SECOND_US, "monthly": SECOND_US, "all_time": HOUR_US}
RANGE_TICK_US = SECOND_US
# A session that lasts at most this long fits 2^22 ticks of 10 ms; a longer one takes ticks of 1 s.
SHORT_SESSION_US = 11 * HOUR_US
SHORT_SESSION_TICK_MS = 10
LONG_SESSION_TICK_MS = 1_000
SESSION_MAX_US = 40 * 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Total:
    """One user's sum on one board. `reached_at_us` is None exactly when points are 0."""

    user_id: str
    points: int
    reached_at_us: int | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A total with its row number, 1 for the best."""

    rank: int
    user_id: str
    points: int
    reached_at_us: int | None


def session_tick_ms(longest_us: int, *, imported: bool = False) -> int:
    """Tick of a session's board in ms: 10 if it can last at most 11 h and is not imported, else 1,000."""
    if imported or longest_us > SHORT_SESSION_US:
        return LONG_SESSION_TICK_MS
    return SHORT_SESSION_TICK_MS


def ticks_of(occurred_at_us: int, anchor_us: int, tick_us: int) -> int:
    """Whole ticks from the anchor's tick to the instant's, clamped to 0 … 2^22 − 1."""
    return min(max(occurred_at_us // tick_us - anchor_us // tick_us, 0), TICK_MAX)


def reached_at_us(anchor_us: int, ticks: int, tick_us: int) -> int:
    """The instant a board shows for `ticks`: the start of that tick, UTC µs."""
    return (anchor_us // tick_us + ticks) * tick_us


def floor_reached(occurred_at_us: int, anchor_us: int, tick_us: int) -> int:
    """`occurred_at_us` as a board shows it: clamped and floored to the tick."""
    return reached_at_us(anchor_us, ticks_of(occurred_at_us, anchor_us, tick_us), tick_us)


def pack(points: int, ticks: int) -> int:
    """points · 2^22 + (2^22 − 1 − ticks), or 0 for 0 points. Raises BadInput(points_overflow) above 2^31 − 1."""
    if not 0 <= points <= POINTS_MAX:
        raise BadInput("points_overflow", f"{points} points; a board holds 0 to {POINTS_MAX}")
    if not 0 <= ticks <= TICK_MAX:
        raise ValueError(f"ticks {ticks} outside 0 … {TICK_MAX}: clamp with ticks_of first")
    return points * TICK_SPAN + (TICK_MAX - ticks) if points else 0


def unpack(packed: int) -> tuple[int, int | None]:
    """(points, ticks) of a packed score; ticks is None for a user with 0 points."""
    points, rest = divmod(packed, TICK_SPAN)
    return (points, TICK_MAX - rest) if points else (0, None)


def rank(totals: Iterable[Total]) -> list[Ranked]:
    """All totals in the board's order, numbered from 1.

    totals: one per user, any order, `reached_at_us` already floored to the tick. Raises ValueError if a user comes
    twice: the caller's grouping is wrong. Cost O(n log n).
    """
    # Two stable sorts: bytes descending first, then points down and instant up.
    ordered = sorted(totals, key=lambda t: t.user_id.encode(), reverse=True)
    if any(a.user_id == b.user_id for a, b in zip(ordered, ordered[1:], strict=False)):
        raise ValueError("a user occurs twice among the totals")
    ordered.sort(key=lambda t: (-t.points, t.reached_at_us if t.reached_at_us is not None else 0))
    return [Ranked(i, t.user_id, t.points, t.reached_at_us) for i, t in enumerate(ordered, 1)]
