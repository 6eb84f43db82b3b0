"""Two versions of one board, row by row: pure. A row is (rank, points, reached_at_us) of one user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from contracts.ranking import reached_at_us, unpack

Place = tuple[int, int, int | None]
"""(rank, points, reached_at_us); reached_at_us is None at 0 points."""
# Differences shown in full; the count goes on.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One user's row of one board, on both sides; None where the user is absent."""

    board: str
    user_id: str
    redis: Place | None
    lake: Place | None


def places(packed: Mapping[str, int], anchor_us: int, tick_us: int) -> dict[str, Place]:
    """Packed scores as places, in the contract's order (score down, user_id down by bytes)."""
    ordered = sorted(packed.items(), key=lambda item: (item[1], item[0].encode()), reverse=True)
    found: dict[str, Place] = {}
    for rank, (user, score) in enumerate(ordered, 1):
        points, ticks = unpack(score)
        found[user] = (
            rank,
            points,
            None if ticks is None else reached_at_us(anchor_us, ticks, tick_us),
        )
    return found


def without_joined(packed: Mapping[str, int], answered: Iterable[str]) -> dict[str, int]:
    """A session's board without players who joined and have not answered (CONTRACTS B4)."""
    known = set(answered)
    return {user: score for user, score in packed.items() if score or user in known}


def compare(board: str, redis: Mapping[str, Place], lake: Mapping[str, Place]) -> list[Difference]:
    """What differs, in the order of the lake's board, then of Redis'."""
    users = [*lake, *(user for user in redis if user not in lake)]
    return [
        Difference(board, user, redis.get(user), lake.get(user))
        for user in users
        if redis.get(user) != lake.get(user)
    ]


@dataclass
class Report:
    """What was compared. rows: the users of each compared board, on either side."""

    boards: int = 0
    rows: int = 0
    differences: int = 0
    examples: list[Difference] = field(default_factory=list)
    skipped: dict[tuple[str, str, str, str], int] = field(default_factory=dict)

    def add(self, rows: int, found: list[Difference]) -> None:
        """One compared board."""
        self.boards += 1
        self.rows += rows
        self.differences += len(found)
        self.examples += found[: SHOWN - len(self.examples)]

    def skip(self, period: str, start: str, zone: str, why: str) -> None:
        """One board that was not compared, counted by its period."""
        key = (period, start, zone, why)
        self.skipped[key] = self.skipped.get(key, 0) + 1

    @property
    def exit_code(self) -> int:
        """0 equal, 1 differences, 2 nothing compared."""
        if not self.boards:
            return 2
        return 1 if self.differences else 0

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "boards": self.boards,
            "rows": self.rows,
            "differences": self.differences,
            "examples": [asdict(one) for one in self.examples],
            "skipped": [
                {"period": period, "start": start, "zone": zone, "why": why, "boards": count}
                for (period, start, zone, why), count in sorted(self.skipped.items())
            ],
        }
