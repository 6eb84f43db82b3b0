"""Which corrections hold now, and what an answer counts under them (CONTRACTS D4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from contracts.corrections import Correction, decode, holding, points_under
from contracts.events import AnswerEvent


def corrections_in_force(sql: psycopg.Connection) -> list[Correction]:
    """The corrections whose boards are published, in order of decision."""
    rows = sql.execute("SELECT event FROM corrections WHERE in_force_at IS NOT NULL ORDER BY id").fetchall()
    return [decode(bytes(row[0])) for row in rows]


def counting(corrections: Sequence[Correction]) -> Callable[[AnswerEvent], int | None]:
    """What an answer counts on boards; None where it was removed."""
    there = holding(corrections)
    if not there:
        return lambda event: event.points
    return lambda event: points_under(there, event)
