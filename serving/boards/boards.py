"""Reading boards in Redis: top, around, rank, totals; on one shard, or merged over all of them.

A quiz's or session's board lies whole on the quiz's shard. A global board is sharded by user: each shard holds its own
users, and a reader merges by (score, user_id), both descending, which is ZREVRANGE's own order and the contract's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from redis.asyncio import Redis

from contracts.identity import user_shard
from contracts.ranking import unpack
from serving.boards.line import Line
from serving.boards.shards import Shards, script_text
from serving.boards.ticks import Ticks

# Rows a page when a whole board is read; larger pages block the shard for longer than 1 ms.
_PAGE_ROWS = 1_000
# Calls a pipeline where many boards are asked for some users: replies of a few MB at the most.
_CALLS = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A member's place: rank from 1, packed score, points, and ticks (None at 0 points)."""

    rank: int
    user_id: str
    packed: int

    @property
    def points(self) -> int:
        return unpack(self.packed)[0]

    @property
    def ticks(self) -> int | None:
        return unpack(self.packed)[1]


Member = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Page:
    """What a reply shows of a board: how many are on it, the first k, a user with neighbours, several users' places."""

    participants: int
    top: list[Place]
    around: list[Place]
    places: list[Place | None]


def _members(reply: Any) -> list[Member]:
    return [(user.decode(), int(score)) for user, score in reply]


def _places(flat: Sequence[bytes], first: int) -> list[Place]:
    """Rows of a script: user, score, user, score …, the first of them at rank `first`."""
    return [Place(first + at, flat[2 * at].decode(), int(flat[2 * at + 1])) for at in range(len(flat) // 2)]


def _order(member: Member) -> tuple[int, bytes]:
    return member[1], member[0].encode()


def merged(lists: Sequence[list[Member]], limit: int, *, best_first: bool = True) -> list[Member]:
    """The first `limit` of several lists that are each in the board's order (or its reverse)."""
    return list(islice(merge(*lists, key=_order, reverse=best_first), limit))


class Boards:
    """All live boards of a deployment."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        text = script_text("read_page")
        self._pages = [Ticks(Line(one, replica=shards.replicas), text) for one in shards.addresses]

    def close(self) -> None:
        """Closes what pages are read over; the shards' clients are their owner's."""
        for page in self._pages:
            page.close()

    def _homes(self, quiz_id: str | None) -> list[Redis]:
        return (
            self.shards.clients if quiz_id is None else [self.shards.clients[self.shards.shard_of(quiz_id)]]
        )

    def _home_of_user(self, quiz_id: str | None, user_id: str) -> Redis:
        if quiz_id is None:
            return self.shards.clients[user_shard(user_id, len(self.shards))]
        return self._homes(quiz_id)[0]

    async def page(
        self, key: str, quiz_id: str | None, k: int, user_id: str = "", m: int = 0, users: Sequence[str] = ()
    ) -> Page:
        """Everything a reply needs. A board on one shard is read at one instant; a global one as its parts are read."""
        if quiz_id is None and len(self.shards) > 1:
            first, middle, count, places = await asyncio.gather(
                self.top(key, k, None),
                self._around_or_none(key, user_id, m),
                self.participants(key, None),
                asyncio.gather(*(self.rank(key, user, None) for user in users)),
            )
            return Page(count, first, middle, list(places))
        shard = 0 if quiz_id is None else self.shards.shard_of(quiz_id)
        members, top, ahead, around, found = await self._pages[shard].call([key], k, user_id, m, *users)
        return Page(
            members,
            _places(top, 1),
            _places(around, ahead),
            [
                Place(one[0], user, int(one[1])) if one else None
                for user, one in zip(users, found, strict=True)
            ],
        )

    async def _around_or_none(self, key: str, user_id: str, m: int) -> list[Place]:
        return await self.around(key, user_id, m, None) if user_id else []

    async def heard_s(self, quiz_id: str | None) -> int | None:
        """For boards of replicas: seconds since the one furthest behind heard of its primary.

        None: one of them is no replica with a line to its primary, so the primaries are to be read.
        """
        infos: list[Any] = await asyncio.gather(*(c.info("replication") for c in self._homes(quiz_id)))
        if any(info["role"] != "slave" or info["master_link_status"] != "up" for info in infos):
            return None
        return max(int(info["master_last_io_seconds_ago"]) for info in infos)

    async def participants(self, key: str, quiz_id: str | None) -> int:
        """How many users are on the board."""
        return sum(await asyncio.gather(*(client.zcard(key) for client in self._homes(quiz_id))))

    async def top(self, key: str, k: int, quiz_id: str | None) -> list[Place]:
        """The first k places. `quiz_id` names the owner of a quiz's or session's board; None means a global one."""
        if k < 1:
            return []
        replies = await asyncio.gather(
            *(c.zrevrange(key, 0, k - 1, withscores=True) for c in self._homes(quiz_id))
        )
        found = merged([_members(reply) for reply in replies], k)
        return [Place(rank, user, packed) for rank, (user, packed) in enumerate(found, 1)]

    async def rank(self, key: str, user_id: str, quiz_id: str | None) -> Place | None:
        """A user's place, or None if absent. Rank = 1 + Σ above + Σ equal-scored members with a greater id."""
        score = await self._home_of_user(quiz_id, user_id).zscore(key, user_id)
        if score is None:
            return None
        counts = await asyncio.gather(*(_ahead(c, key, int(score), user_id) for c in self._homes(quiz_id)))
        return Place(1 + sum(counts), user_id, int(score))

    async def around(self, key: str, user_id: str, m: int, quiz_id: str | None) -> list[Place]:
        """The m places above a user, the user, and the m below, cut at the ends; [] if the user is absent."""
        me = await self.rank(key, user_id, quiz_id)
        if me is None:
            return []
        sides = await asyncio.gather(*(_neighbours(c, key, me, m) for c in self._homes(quiz_id)))
        above = merged([side[0] for side in sides], m, best_first=False)[::-1]
        below = merged([side[1] for side in sides], m)
        rows = [*above, (user_id, me.packed), *below]
        first = me.rank - len(above)
        return [Place(rank, user, packed) for rank, (user, packed) in enumerate(rows, first)]

    async def scores(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Member]]:
        """(user_id, packed) of those of some users who are on each of several global boards, by board, in no order.

        One pipeline a shard, of calls that keep it busy for less than a millisecond each. Cost O(users asked for).
        """
        calls: list[list[tuple[str, Sequence[str]]]] = [[] for _ in self.shards.clients]
        for key, users in wanted.items():
            by_shard: list[list[str]] = [[] for _ in calls]
            for user in users:
                by_shard[user_shard(user, len(calls))].append(user)
            for own, mine in zip(calls, by_shard, strict=True):
                own += [(key, mine[at : at + _PAGE_ROWS]) for at in range(0, len(mine), _PAGE_ROWS)]
        found: dict[str, list[Member]] = {key: [] for key in wanted}

        async def ask(client: Redis, own: list[tuple[str, Sequence[str]]]) -> None:
            for at in range(0, len(own), _CALLS):
                part = own[at : at + _CALLS]
                async with client.pipeline(transaction=False) as pipe:
                    for key, users in part:
                        pipe.zmscore(key, users)
                    replies = await pipe.execute()
                for (key, users), scores in zip(part, replies, strict=True):
                    pairs = zip(users, scores, strict=True)
                    found[key] += [(user, int(score)) for user, score in pairs if score is not None]

        await asyncio.gather(*(ask(c, own) for c, own in zip(self.shards.clients, calls, strict=True) if own))
        return found

    async def totals(self, key: str, quiz_id: str | None) -> list[Member]:
        """Every (user_id, packed) of the board, best first. Cost O(n): for reconcile and tests."""
        lists = []
        for client in self._homes(quiz_id):
            rows: list[Member] = []
            while page := await client.zrevrange(key, len(rows), len(rows) + _PAGE_ROWS - 1, withscores=True):
                rows += _members(page)
            lists.append(rows)
        return list(merge(*lists, key=_order, reverse=True))


async def _ahead(client: Redis, key: str, packed: int, user_id: str) -> int:
    """Members of one shard that stand before (packed, user_id): binary search among the equal-scored."""
    above, equal = await asyncio.gather(
        client.zcount(key, f"({packed}", "+inf"), client.zcount(key, packed, packed)
    )
    low, high = 0, equal
    wanted = user_id.encode()
    while low < high:
        middle = (low + high) // 2
        member: Any = (await client.zrevrange(key, above + middle, above + middle))[0]
        if member > wanted:
            low = middle + 1
        else:
            high = middle
    return above + low


async def _neighbours(client: Redis, key: str, me: Place, m: int) -> tuple[list[Member], list[Member]]:
    """One shard's m members before the place (nearest first) and m after it (nearest first)."""
    if m < 1:
        return [], []
    ahead = await _ahead(client, key, me.packed, me.user_id)
    start = max(ahead - m, 0)
    rows = _members(await client.zrevrange(key, start, ahead + m, withscores=True))
    before = rows[: ahead - start][::-1]
    after = [row for row in rows[ahead - start :] if row[0] != me.user_id][:m]
    return before, after
