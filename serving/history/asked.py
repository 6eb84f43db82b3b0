"""What of a user's history is asked for: filters, the place where a page begins, and how both are written. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from contracts import ranges
from contracts.answer_filters import ALL_TIME, AnswerFilters
from contracts.errors import BadInput
from contracts.identity import checked_id
from contracts.periods import Span, span

MODES = ("hosted", "challenge", "import")


def filters_of(quiz: str, session: str, correct: bool | None, low: str, high: str) -> AnswerFilters:
    """Filters as a request names them. Raises BadInput(invalid_id, wrong_start)."""
    for text, field in ((quiz, "quiz"), (session, "session")):
        if text:
            checked_id(text, field)
    when = Span(
        ranges.parse_bound(low, "UTC") if low else ALL_TIME.start_us,
        ranges.parse_bound(high, "UTC") if high else ALL_TIME.end_us,
    )
    if when.start_us >= when.end_us:
        raise BadInput("wrong_start", "`from` must be before `to`")
    return AnswerFilters(quiz, session, correct, when)


def encode_cursor(at_us: int, ident: str) -> str:
    """Where the next page begins: after this answer or session."""
    return base64.urlsafe_b64encode(f"{at_us}/{ident}".encode()).decode()


def _decoded(text: str) -> tuple[int, str]:
    try:
        instant, _, ident = base64.urlsafe_b64decode(text.encode()).decode().partition("/")
        return int(instant), ident
    except (ValueError, binascii.Error) as error:
        raise BadInput("invalid_field", f"cursor {text[:40]!r} is not one of ours") from error


def decode_cursor(text: str) -> tuple[int, str]:
    """The (occurred_at_us, event_id) in a cursor of answers. Raises BadInput(invalid_field)."""
    at_us, ident = _decoded(text)
    try:
        return at_us, str(UUID(ident))
    except ValueError as error:
        raise BadInput("invalid_field", f"cursor {text[:40]!r} is not one of ours") from error


def decode_session_cursor(text: str) -> tuple[int, str]:
    """The (started_at_us, session_id) in a cursor of sessions. Raises BadInput(invalid_field, invalid_id)."""
    at_us, ident = _decoded(text)
    return at_us, checked_id(ident, "cursor")


def months_that_matter(
    months: Sequence[date],
    rows: Sequence[Mapping[str, Any]],
    before: tuple[int, str] | None,
    limit: int,
    when: Span = ALL_TIME,
) -> tuple[date, ...]:
    """The archived months that may have an answer of the page whose rows Postgres has given."""
    least = rows[-1]["occurred_at_us"] if len(rows) >= limit else None
    spans = [(month, span("monthly", month, "UTC")) for month in months]
    return tuple(
        month
        for month, one in spans
        if (before is None or one.start_us <= before[0])
        and (least is None or one.end_us > least)
        and one.start_us < when.end_us
        and when.start_us < one.end_us
    )


def merged(
    one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], limit: int
) -> list[dict[str, Any]]:
    """Both sides' answers newest first, each event id once, at most `limit`."""
    by_id = {row["event_id"]: row for row in (*other, *one)}
    return sorted(by_id.values(), key=lambda row: (row["occurred_at_us"], row["event_id"]), reverse=True)[
        :limit
    ]


def totals_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A session's sums from all of its user's answers, one a question."""
    return {
        "first_at_us": min(row["occurred_at_us"] for row in rows),
        "last_at_us": max(row["occurred_at_us"] for row in rows),
        "answered": len(rows),
        "right": sum(row["correct"] for row in rows),
        "points": sum(row["points"] for row in rows),
        "elapsed_ms": sum(row["elapsed_ms"] or 0 for row in rows),
    }
