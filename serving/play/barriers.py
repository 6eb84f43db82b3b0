"""Barriers: after a day's end plus grace, one entry a shard says that the day is over (CONTRACTS D2). Idempotent."""

from __future__ import annotations

from datetime import date
from typing import Any

from contracts.errors import BadInput
from contracts.events import BarrierEvent, encode_barrier
from contracts.identity import barrier_id
from contracts.periods import checked_day, span
from serving.boards.shards import Shards

GRACE_US = 60_000_000
# Days a call: one script a shard; at 400 it takes about 5 ms.
DAYS_MAX = 400


async def write_barriers(shards: Shards, zone: str, days: list[date], now_us: int) -> list[dict[str, Any]]:
    """Write the missing barriers of ended days: a row a (day, shard) with its seq and whether it was there.

    Raises BadInput(period_not_ended) before anything is written if a day has not ended, grace included; wrong_start
    for a day that no answer can lie in.
    """
    if len(days) > DAYS_MAX:
        raise BadInput("invalid_field", f"{len(days)} days; a call may name {DAYS_MAX}")
    spans = {day: span("daily", day, zone) for day in sorted(set(map(checked_day, days)))}
    for day, own in spans.items():
        if own.end_us + GRACE_US > now_us:
            raise BadInput("period_not_ended", f"{day} in {zone} has not ended, or less than a minute ago")
    rows: list[dict[str, Any]] = []
    for shard in range(len(shards)):
        events = [
            (
                f"{zone}|{day}",
                encode_barrier(
                    BarrierEvent(barrier_id(zone, str(day), shard), zone, str(day), own.start_us, own.end_us)
                ),
            )
            for day, own in spans.items()
        ]
        if events:
            for day, (status, seq) in zip(spans, await shards.write_barriers(shard, events), strict=True):
                rows.append({"day": str(day), "shard": shard, "seq": seq, "status": status})
    return rows
