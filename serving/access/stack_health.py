"""What an api process sees of the stack, for the admins' page. Nothing here fails: what is away is said to be."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import psycopg
import redis.exceptions
from redis.asyncio import Redis

from contracts import names
from contracts.errors import LakeboardError
from serving.connections import Connections
from serving.health import offset_ms


async def health_of(state: Any) -> dict[str, Any]:
    """Shards with their relays' lag, Postgres, handlers, and how long the address lists are."""
    connections: Connections = state.connections
    lists = state.addresses.lists
    return {
        "shards": [await _shard(number, client) for number, client in enumerate(connections.texts)],
        "postgres": await _postgres(connections),
        "handlers": await _handlers(state),
        "addresses": {"allowed": len(lists.allowed), "denied": len(lists.denied)},
    }


async def _shard(number: int, client: Redis) -> dict[str, Any]:
    found = await offset_ms(client)
    lag = None
    if found is not None:
        try:
            lag = await client.get(names.relay_lag())
        except redis.exceptions.RedisError:
            found = None
    return {
        "shard": number,
        "up": found is not None,
        "clock_offset_ms": None if found is None else round(found, 3),
        "relay_lag_s": json.loads(lag or "{}"),
    }


async def _postgres(connections: Connections) -> dict[str, Any]:
    try:
        async with connections.sql() as sql:
            found = await sql.execute(
                "select (select count(*) from accounts), (select count(*) from sessions "
                "where sealed_at is null and ended_at is null and origin = 'live')"
            )
            row = await found.fetchone()
    except (LakeboardError, psycopg.Error):
        return {"up": False, "accounts": None, "sessions_open": None}
    assert row is not None
    return {"up": True, "accounts": row[0], "sessions_open": row[1]}


async def _handlers(state: Any) -> list[dict[str, Any]]:
    try:
        found = await state.registry.alive_anywhere()
    except (LakeboardError, redis.exceptions.RedisError):
        return []
    rows = [asdict(handler) for handler in found.values()]
    return [
        {name: row[name] for name in ("name", "sockets", "draining")}
        for row in sorted(rows, key=lambda row: row["id"])
    ]
