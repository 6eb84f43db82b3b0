"""Readiness: a clock too far from a shard's is not ready, whatever else is well. The shard's clock is the one fake."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from serving.health import CLOCK_LIMIT_MS, readyz

pytestmark = pytest.mark.unit


class Shard:
    """A shard whose TIME is off by so many ms."""

    def __init__(self, off_ms: float) -> None:
        self.off_ms = off_ms

    async def time(self) -> tuple[int, int]:
        micros = time.time_ns() // 1000 + round(self.off_ms * 1000)
        return micros // 1_000_000, micros % 1_000_000


def asked(*off_ms: float) -> tuple[int, dict[str, Any]]:
    connections = SimpleNamespace(texts=[Shard(off) for off in off_ms])
    request: Any = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(connections=connections)))
    reply = asyncio.run(readyz(request))
    return reply.status_code, json.loads(bytes(reply.body))


def test_clocks_that_agree_are_ready() -> None:
    status, body = asked(0, 10)
    assert (200, []) == (status, body["shards_away"]) and abs(body["clock_offset_ms"] + 10) < 5


@pytest.mark.parametrize("off_ms", [CLOCK_LIMIT_MS + 20, -CLOCK_LIMIT_MS - 20])
def test_a_clock_too_far_off_is_not_ready(off_ms: float) -> None:
    status, body = asked(0, off_ms)
    assert (503, "system_missing") == (status, body["code"])
