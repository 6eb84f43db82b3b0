"""The one reply shape of every board, whatever answered it (DESIGN 4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SOURCES = ("redis", "rankings", "lake", "mixed")
EXACTNESS = ("exact", "estimate")
STATES = ("live", "provisional", "settled")
DEFAULT_K = 10
DEFAULT_M = 5
MAX_K = 1_000
MAX_M = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `reached_at` is ISO 8601 UTC with ms and Z, null at 0 points; `name` null if unknown."""

    rank: int
    user_id: str
    points: int
    reached_at: str | None
    name: str | None = None
    avatar_url: str | None = None


@dataclass(frozen=True, slots=True)
class BoardPage:
    """What a BoardReply needs of one board: rows, the asking user's row, its neighbours, the count."""

    entries: tuple[Entry, ...]
    participants: int
    me: Entry | None = None
    around: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class RangePage:
    """The page of a range, and what reading it took at the most. answers_as_of_us: the last ingest, where it was read."""

    page: BoardPage
    files: int = 0
    bytes: int = 0
    rows: int = 0
    answers_as_of_us: int | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the answer comes from and how exact it is. `as_of` is always an instant."""

    source: str
    exactness: str
    as_of: str
    state: str
    rules: tuple[str, ...] = ()
    bound: float | None = None
    settlement: str | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES or self.exactness not in EXACTNESS or self.state not in STATES:
            raise ValueError(f"provenance outside the contract: {self}")


@dataclass(frozen=True, slots=True)
class BoardReply:
    """A board's page: the top k, the asking user's row, m above and below it (the user included).

    A range has period `range`, and `start` and `end` are its instants; else `start` is a day and `end` null.
    """

    scope: str
    period: str
    start: str
    entries: tuple[Entry, ...]
    participants: int
    provenance: Provenance
    me: Entry | None = None
    around: tuple[Entry, ...] = ()
    end: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)
