"""/healthz (the process answers), /readyz (it may take play: a shard answers, clocks agree) and /metrics."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path

import redis.exceptions
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis

from contracts import names
from contracts.errors import SystemMissing
from serving import problems
from serving.connections import Connections
from serving.documented import documented
from serving.metrics import CLOCK_OFFSET, RELAY_LAG, REPLICA_BEHIND, REPLICA_HEARD

router = APIRouter(tags=["health"])
# CONTRACTS A8: further from Redis TIME than this and deadlines differ by what a player can see.
CLOCK_LIMIT_MS = 50
HEARTBEAT_S = 4.0


@router.get("/healthz", summary="The process answers", responses=documented({"status": "ok"}))
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


async def offset_ms(client: Redis) -> float | None:
    """This clock minus a shard's TIME, ms, against the middle of the call; None while the shard does not answer."""
    found = []
    try:
        for _ in range(2):  # a first call pays for its connection; the second measures the clock
            before = time.time()
            seconds, micros = await client.time()
            found.append(((before + time.time()) / 2 - (int(seconds) + int(micros) / 1e6)) * 1000)
    except redis.exceptions.RedisError:
        return None
    return min(found, key=abs)


@router.get(
    "/readyz",
    summary="The process may take play",
    responses=documented(
        {"status": "ready", "clock_offset_ms": 0.2, "shards_away": []}, s503="system_missing draining"
    ),
)
async def readyz(request: Request) -> Response:
    """Ready while one shard answers: one that is away must not take the others' sessions with it.

    Not ready once it drains: the gateway then sends nobody new.
    """
    registry = getattr(request.app.state, "registry", None)
    if registry is not None and registry.draining:
        return problems.reply(SystemMissing("draining", "this process lets its sockets go"), "/readyz")
    clients = request.app.state.connections.texts
    offsets = await asyncio.gather(*(offset_ms(client) for client in clients))
    away = [shard for shard, offset in enumerate(offsets) if offset is None]
    there = [offset for offset in offsets if offset is not None]
    if not there:
        return problems.reply(SystemMissing("system_missing", "no Valkey shard answers"), "/readyz")
    worst = max(there, key=abs)
    CLOCK_OFFSET.set(worst / 1000)
    if abs(worst) > CLOCK_LIMIT_MS:
        return problems.reply(
            SystemMissing("system_missing", f"the clock is {worst:.0f} ms from Redis TIME"), "/readyz"
        )
    return JSONResponse({"status": "ready", "clock_offset_ms": round(worst, 3), "shards_away": away})


async def _relay_lag(connections: Connections) -> None:
    """The lags that the relays left on their shards; none where a shard is away or its relay is gone."""
    RELAY_LAG.clear()
    for shard, client in enumerate(connections.texts):
        try:
            text = await client.get(names.relay_lag())
        except redis.exceptions.RedisError:
            continue
        for sink, seconds in json.loads(text or "{}").items():
            RELAY_LAG.labels(str(shard), sink).set(seconds)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    await _relay_lag(request.app.state.connections)
    replica = getattr(request.app.state, "sketch_replica", None)
    if replica is not None:
        REPLICA_BEHIND.set(math.nan if replica.lag.records is None else replica.lag.records)
        REPLICA_HEARD.set(math.inf if replica.lag.seen_s is None else replica.lag.seen_s)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def touch_heartbeat(run_dir: str, name: str) -> None:
    """Tells the supervisor that the process' loop still turns."""
    if run_dir:
        path = Path(run_dir) / "heartbeats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
