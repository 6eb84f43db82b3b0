"""/healthz (the process answers), /readyz (it may take play: shards answer, clock agrees) and /metrics."""

from __future__ import annotations

import json
import time
from pathlib import Path

import redis.exceptions
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from contracts import names
from contracts.errors import SystemMissing
from serving import problems
from serving.connections import Connections
from serving.documented import documented
from serving.metrics import CLOCK_OFFSET, RELAY_LAG

router = APIRouter(tags=["health"])
# CONTRACTS A8: further from Redis TIME than this and deadlines differ by what a player can see.
CLOCK_LIMIT_MS = 50
HEARTBEAT_S = 4.0


@router.get("/healthz", summary="The process answers", responses=documented({"status": "ok"}))
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


async def clock_offset_ms(connections: Connections) -> float:
    """The worst difference between this clock and a shard's TIME, ms, measured against the middle of the call."""
    worst = 0.0
    for client in connections.texts:
        before = time.time()
        seconds, micros = await client.time()
        middle = (before + time.time()) / 2
        offset = (middle - (int(seconds) + int(micros) / 1e6)) * 1000
        worst = offset if abs(offset) > abs(worst) else worst
    CLOCK_OFFSET.set(worst / 1000)
    return worst


@router.get(
    "/readyz",
    summary="The process may take play",
    responses=documented({"status": "ready", "clock_offset_ms": 0.2}, s503="system_missing"),
)
async def readyz(request: Request) -> Response:
    try:
        # A first call pays for its connection; the second measures the clock.
        offset = min([await clock_offset_ms(request.app.state.connections) for _ in range(2)], key=abs)
    except redis.exceptions.RedisError as error:
        return problems.reply(SystemMissing("system_missing", f"a shard does not answer: {error}"), "/readyz")
    if abs(offset) > CLOCK_LIMIT_MS:
        return problems.reply(
            SystemMissing("system_missing", f"the clock is {offset:.0f} ms from Redis TIME"), "/readyz"
        )
    return JSONResponse({"status": "ready", "clock_offset_ms": round(offset, 3)})


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
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def touch_heartbeat(run_dir: str, name: str) -> None:
    """Tells the supervisor that the process' loop still turns."""
    if run_dir:
        path = Path(run_dir) / "heartbeats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
