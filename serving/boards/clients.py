"""The one place that makes Valkey clients: by a shard's URL, or by its name where sentinels know its primary.

A client that goes through sentinels asks them for each new connection, so it follows a promotion by itself; calls under
way then fail as when a server restarts. Nothing connects before the first call.
"""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.connection
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from contracts.settings import ShardAddress

# A sentinel answers from memory; one that is gone must not hold up the question to the next.
SENTINEL_WAIT_S = 0.5
# Longer than the longest call of ours; a primary that is cut off is given up after it.
COMMAND_WAIT_S = 5.0
# Rebuilds and the relay send large batches.
BATCH_WAIT_S = 30.0


class _WaitingSentinelPool(
    redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool
):
    """Connections to a primary that sentinels name, whose callers wait for one at the bound."""


def address_of(shard: str | ShardAddress) -> ShardAddress:
    """A plain URL is a shard without replicas."""
    return shard if isinstance(shard, ShardAddress) else ShardAddress(shard)


def _hosts(address: ShardAddress) -> list[tuple[str, int]]:
    parts = (one.rpartition(":") for one in address.sentinels)
    return [(host, int(port)) for host, _, port in parts]


def _login(address: ShardAddress) -> dict[str, Any]:
    """What a URL says beside the place, for a client that sentinels tell the place."""
    parsed = redis.connection.parse_url(address.url)
    return {name: parsed[name] for name in ("username", "password", "db") if name in parsed}


def _sentinel_options(retry: Any) -> dict[str, Any]:
    return {
        "socket_timeout": SENTINEL_WAIT_S,
        "socket_connect_timeout": SENTINEL_WAIT_S,
        "retry": retry(NoBackoff(), 0),
    }


def sentinel_of(address: ShardAddress) -> redis.asyncio.sentinel.Sentinel:
    """Who to ask for a shard's primary; not connected yet."""
    return redis.asyncio.sentinel.Sentinel(
        _hosts(address), sentinel_kwargs=_sentinel_options(redis.asyncio.retry.Retry)
    )


def client_of(
    address: ShardAddress,
    *,
    text: bool = False,
    max_connections: int,
    wait_s: float | None = None,
    replica: bool = False,
) -> redis.asyncio.Redis:
    """An asyncio client of a shard's primary, bytes or text.

    wait_s: how long a caller waits for one of `max_connections`; None: at the bound a call fails at once.
    replica: of a replica instead, to read from; of the primary where the sentinels know none that is there.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": text,
        "max_connections": max_connections,
        "socket_timeout": COMMAND_WAIT_S,
    }
    if wait_s is not None:
        options["timeout"] = wait_s
    if not address.sentinels:
        kind = redis.asyncio.ConnectionPool if wait_s is None else redis.asyncio.BlockingConnectionPool
        return redis.asyncio.Redis.from_pool(kind.from_url(address.url, **options))
    kinds = redis.asyncio.sentinel.SentinelConnectionPool if wait_s is None else _WaitingSentinelPool
    sentinel = sentinel_of(address)
    made = sentinel.replica_for if replica else sentinel.master_for
    return made(address.primary, connection_pool_class=kinds, **_login(address), **options)


async def close_client(client: redis.asyncio.Redis) -> None:
    """Closes a client and what it asked sentinels with."""
    await client.aclose()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()


def blocking_client_of(address: ShardAddress) -> redis.Redis:
    """A synchronous client of a shard's primary, for the relay and rebuilds."""
    options: dict[str, Any] = {"protocol": 2, "socket_timeout": BATCH_WAIT_S}
    if not address.sentinels:
        return redis.Redis.from_url(address.url, **options)
    sentinel = redis.sentinel.Sentinel(_hosts(address), sentinel_kwargs=_sentinel_options(redis.retry.Retry))
    return sentinel.master_for(address.primary, **_login(address), **options)


def close_blocking_client(client: redis.Redis) -> None:
    """Closes a client and what it asked sentinels with."""
    client.close()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    for one in sentinel.sentinels if sentinel is not None else ():
        one.close()
