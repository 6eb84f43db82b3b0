"""The one reply shape of every board, whatever answered it (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

SOURCES = ("redis", "history", "rankings", "lake", "mixed")
EXACTNESS = ("exact", "estimate")
STATES = ("live", "provisional", "settled")
DEFAULT_K = 10
DEFAULT_M = 5
MAX_K = 1_000
MAX_M = 100
MAX_USERS = 100


class Shown(NamedTuple):
    """What a row shows of its subject: a user's name and picture, a quiz' title."""

    name: str | None
    avatar_url: str | None = None


NOBODY = Shown(None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `reached_at` is ISO 8601 UTC with ms and Z, null at 0 points; `name` null if unknown.

    Where a reply's subject is not the user, `user_id` is the subject's id; where its measure is plays or misses, `points`
    is their count and `reached_at` null.
    """

    rank: int
    user_id: str
    points: int
    reached_at: str | None
    name: str | None = None
    avatar_url: str | None = None


@dataclass(frozen=True, slots=True)
class UserRank:
    """One of several users that were asked for; `entry` null if the user is not on the board."""

    user_id: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class BoardPage:
    """What a BoardReply needs of one board: rows, the asking user's row, its neighbours, the count, users' ranks."""

    entries: tuple[Entry, ...]
    participants: int
    me: Entry | None = None
    around: tuple[Entry, ...] = ()
    ranks: tuple[UserRank, ...] = ()

    def user_ids(self) -> set[str]:
        """Everybody it shows."""
        shown = [*self.entries, *self.around, *(rank.entry for rank in self.ranks if rank.entry)]
        return {entry.user_id for entry in shown} | ({self.me.user_id} if self.me else set())

    def named(self, known: Mapping[str, Shown]) -> BoardPage:
        """The same page with the names and pictures that are known."""

        def one(entry: Entry) -> Entry:
            name, avatar_url = known.get(entry.user_id, NOBODY)
            return replace(entry, name=name, avatar_url=avatar_url)

        return BoardPage(
            tuple(map(one, self.entries)),
            self.participants,
            one(self.me) if self.me else None,
            tuple(map(one, self.around)),
            tuple(UserRank(rank.user_id, one(rank.entry) if rank.entry else None) for rank in self.ranks),
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a board is wanted: the top k, a user (or "") with m rows on either side, several users' ranks."""

    k: int = DEFAULT_K
    user_id: str = ""
    m: int = DEFAULT_M
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """How far an estimate may be off: participants and ranks by `value` users, with this confidence, each by itself."""

    value: float
    confidence: float


@dataclass(frozen=True, slots=True)
class RangePage:
    """The page of a board from the lake, and what reading it took at the most."""

    page: BoardPage
    files: int = 0
    bytes: int = 0
    rows: int = 0
    bound: Bound | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the answer comes from and how exact it is. `as_of` is always an instant.

    replica: read from Redis replicas, because the caller allows a board that is a moment old.
    """

    source: str
    exactness: str
    as_of: str
    state: str
    rules: tuple[str, ...] = ()
    bound: Bound | None = None
    settlement: str | None = None
    replica: bool = False

    def __post_init__(self) -> None:
        if self.source not in SOURCES or self.exactness not in EXACTNESS or self.state not in STATES:
            raise ValueError(f"provenance outside the contract: {self}")


@dataclass(frozen=True, slots=True)
class BoardReply:
    """A board's page: the top k, the asking user's row, m above and below it (the user included), several users' ranks.

    A range has period `range`, and `start` and `end` are its instants; else `start` is a day and `end` null.
    subject, measure: contracts.boards.Counting.
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
    ranks: tuple[UserRank, ...] = ()
    subject: str = "user"
    measure: str = "points"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)
