"""The life of a period: live → provisional → settled; what a settlement covers (CONTRACTS D2–D4). Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from contracts.periods import ENDING_PERIODS, first_day, span

GRACE_US = 60_000_000
"""A day's barrier is sent this long after its end: a batch accepted before midnight has then been recorded."""
FIRST_REASON = "period_ended"
LATE_REASON = "late_answers"


@dataclass(frozen=True, slots=True)
class PeriodVersion:
    """One period as one settlement published it."""

    period: str
    start: date
    zone: str
    version: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was published: the span, why, from which snapshots (table → id), and the last seq of each shard."""

    id: str
    from_day: date
    to_day: date
    rule: str
    reason: str
    periods: tuple[PeriodVersion, ...]
    snapshots: Mapping[str, int]
    last_seq: Mapping[int, int]
    last_correction: int = 0
    """The greatest correction that its boards know."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """An adjustment's diff in short: boards, rows, and the sum of points, that changed (table ranking_changes)."""


def state_of(period: str, start: date, zone: str, now_us: int, settled: bool) -> str:
    """live (not ended), provisional (ended, no settlement) or settled. All-time never ends."""
    if settled:
        return "settled"
    if period == "all_time" or now_us < span(period, start, zone).end_us:
        return "live"
    return "provisional"


def barrier_due(day: date, zone: str, now_us: int) -> bool:
    """True once the local day has ended and the grace has passed."""
    return now_us >= span("daily", day, zone).end_us + GRACE_US


def gapless_to(seqs: Iterable[int]) -> int:
    """The last seq of the unbroken run 1, 2, 3 …; 0 if 1 is missing. Repeats don't break the run."""
    reached = 0
    for seq in sorted(set(seqs)):
        if seq != reached + 1:
            break
        reached = seq
    return reached


def day_complete(barrier_seq: Mapping[int, int], gapless: Mapping[int, int], shards: int) -> bool:
    """A day is complete when every shard's barrier is ingested and its sequence has no gap up to it."""
    return all(
        shard in barrier_seq and gapless.get(shard, 0) >= barrier_seq[shard] for shard in range(shards)
    )


def is_late(seq: int, barrier_seq: int) -> bool:
    """An answer is late when it entered the outbox after its day's barrier."""
    return seq > barrier_seq


def periods_holding(
    periods: Iterable[tuple[str, date, str]], days: Iterable[tuple[str, date]]
) -> list[tuple[str, date, str]]:
    """Those of the (period, start, zone) that hold one of the (zone, day)."""
    wanted = {(period, first_day(period, day), zone) for zone, day in days for period in ENDING_PERIODS}
    return [one for one in periods if one in wanted]
