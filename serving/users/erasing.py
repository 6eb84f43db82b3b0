"""What is left to take away outside Postgres after a change or a deletion: pictures nobody has, names in running games.

Each is a row of `erasures`, written in the transaction that made it superfluous, and goes when it is done: so a crash, a
store or a shard that is away only delays it. Any process does the work; rows are locked while one is at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import psycopg
from redis.exceptions import RedisError

from contracts import names
from contracts.errors import LakeboardError
from serving.connections import Connections
from serving.media import Media

LOG = logging.getLogger(__name__)
LOOK_EVERY_S = 20.0
AT_ONCE = 20
PICTURE, PLAYER = "picture", "player"
# A name goes from every game that is not sealed, and again while one that was joined meanwhile may still have it.
PLAYER_FOR = "10 minutes"
# Games looked through in one round trip.
GAMES_AT_ONCE = 500
GONE = "—"


async def note(sql: psycopg.AsyncConnection, kind: str, what: str) -> None:
    """Says what is to go, in the caller's transaction."""
    await sql.execute(
        "insert into erasures (kind, what) values (%s, %s) on conflict (kind, what) do update set noted_at = now()",
        [kind, what],
    )


class Erasing:
    """One process' share of the work."""

    def __init__(self, connections: Connections, media: Media) -> None:
        self._connections = connections
        self._media = media
        self._ways: dict[str, Callable[[psycopg.AsyncConnection, str], Awaitable[None]]] = {
            PICTURE: self._picture,
            PLAYER: self._player,
        }

    async def keep_erasing(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except (LakeboardError, psycopg.Error, RedisError, OSError) as error:
                LOG.info("erasing_later error=%r", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def once(self) -> int:
        """Does what is noted; how many rows were looked at."""
        async with self._connections.sql() as sql, sql.transaction():
            found = await sql.execute(
                "select kind, what, kind = %s and noted_at > now() - %s::interval from erasures "
                "order by noted_at limit %s for update skip locked",
                [PLAYER, PLAYER_FOR, AT_ONCE],
            )
            rows = await found.fetchall()
            for kind, what, again in rows:
                await self._ways[kind](sql, what)
                if not again:
                    await sql.execute("delete from erasures where kind = %s and what = %s", [kind, what])
            return len(rows)

    async def _picture(self, sql: psycopg.AsyncConnection, key: str) -> None:
        found = await sql.execute("select 1 from users where avatar = %s limit 1", [key])
        if await found.fetchone() is None:
            await self._media.delete(key)

    async def _player(self, sql: psycopg.AsyncConnection, user_id: str) -> None:
        found = await sql.execute(
            "select shard, array_agg(session_id) from sessions where sealed_at is null and origin = 'live' group by shard"
        )
        for shard, sessions in await found.fetchall():
            client = self._connections.texts[shard]
            for start in range(0, len(sessions), GAMES_AT_ONCE):
                keys = [names.session_players(one) for one in sessions[start : start + GAMES_AT_ONCE]]
                async with client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.hexists(key, user_id)
                    there = await pipe.execute()
                for key, has in zip(keys, there, strict=True):
                    if has:
                        await client.hset(key, user_id, GONE)
