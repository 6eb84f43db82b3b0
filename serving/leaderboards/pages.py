"""A board's page from its users' sums, in the contract's order, without an engine: what Redis holds and profile `live` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.periods import iso_ms
from contracts.ranking import Ranked, Total, floor_reached, rank
from contracts.replies import BoardPage, Entry, UserRank, Wanted

Held = tuple[str, int, int | None]
"""(user_id, points, reached_at_us): a user's share of a board; reached_at_us is None at 0 points."""


def sums_of(shares: Iterable[Held]) -> dict[str, tuple[int, int | None]]:
    """user_id → (points, reached_at_us) of all shares: points are summed, the latest instant counts. Pure."""
    sums: dict[str, tuple[int, int | None]] = {}
    for user, points, reached in shares:
        known = sums.get(user)
        if known is None:
            sums[user] = points, reached
            continue
        latest = known[1] if reached is None else reached if known[1] is None else max(known[1], reached)
        sums[user] = known[0] + points, latest
    return sums


def page_of(
    sums: Mapping[str, tuple[int, int | None]], anchor_us: int, tick_us: int, wanted: Wanted
) -> BoardPage:
    """The page of a board whose every user is here. Pure. Cost: O(n log n)."""

    def floored(at: int | None) -> int | None:
        return None if at is None else floor_reached(at, anchor_us, tick_us)

    rows = rank(Total(user, points, floored(at)) for user, (points, at) in sums.items())

    def entries(some: Iterable[Ranked]) -> tuple[Entry, ...]:
        return tuple(
            Entry(
                row.rank,
                row.user_id,
                row.points,
                None if row.reached_at_us is None else iso_ms(row.reached_at_us),
            )
            for row in some
        )

    asked_for = {wanted.user_id, *wanted.users} - {""}
    places = {row.user_id: row.rank for row in rows if row.user_id in asked_for}
    at = places.get(wanted.user_id)
    near = entries(rows[max(at - 1 - wanted.m, 0) : at + wanted.m]) if at else ()
    me = next((one for one in near if one.user_id == wanted.user_id), None)

    def entry_of(user: str) -> Entry | None:
        return entries([rows[places[user] - 1]])[0] if user in places else None

    ranks = tuple(UserRank(user, entry_of(user)) for user in wanted.users)
    return BoardPage(entries(rows[: wanted.k]), len(rows), me, near, ranks)
