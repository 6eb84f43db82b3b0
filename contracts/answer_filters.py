"""Which of a user's answers are asked for: the same on both sides of the archive. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.periods import FOREVER_US, Span

ALL_TIME = Span(0, FOREVER_US)


@dataclass(frozen=True, slots=True)
class AnswerFilters:
    """Empty and None let everything through. sessions: of these alone. when: of the answer's instant."""

    quiz_id: str = ""
    session_id: str = ""
    correct: bool | None = None
    when: Span = ALL_TIME
    sessions: tuple[str, ...] | None = None

    def lets(self, row: Mapping[str, Any]) -> bool:
        """Whether an answer passes. Twins: the queries of serving/history/pages.py and lake/archived.py."""
        return (
            self.quiz_id in ("", row["quiz_id"])
            and self.session_id in ("", row["session_id"])
            and self.correct in (None, row["correct"])
            and self.when.holds(row["occurred_at_us"])
            and (self.sessions is None or row["session_id"] in self.sessions)
        )


EVERYTHING = AnswerFilters()
