"""Prometheus metrics of an api process: requests, errors and latencies by route, answers and sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("lakeboard_requests_total", "HTTP requests", ["method", "route", "status"])
LATENCY = Histogram(
    "lakeboard_request_seconds",
    "Time from request to reply, s",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
LEAN_READS = Counter("lakeboard_lean_reads_total", "Reads answered before the framework")
ANSWERS = Counter("lakeboard_answers_total", "Answers by outcome", ["outcome"])
ACK = Histogram(
    "lakeboard_ack_seconds",
    "Time from a live answer's arrival to its acknowledgement, s",
    # A player notices 100 ms; a client gives up after 5 s.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5),
)
REFUSALS = Counter(
    "lakeboard_refusals_total", "Requests answered with a problem document, by its code", ["code"]
)
LOOP_DELAY = Histogram(
    "lakeboard_loop_delay_seconds",
    "How much later than asked the event loop woke a timer, s",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
# Ten looks a second see a loop that stands for 100 ms, and cost next to nothing.
LOOP_EVERY_S = 0.1
REPLICA_BEHIND = Gauge("lakeboard_sketch_replica_lag_records", "Records of the windows' topics not yet read")
REPLICA_HEARD = Gauge(
    "lakeboard_sketch_replica_heard_seconds", "Since the windows' replica last heard from Kafka, s"
)
NEGATIVE_ELAPSED = Counter(
    "lakeboard_negative_elapsed_total", "Live answers whose elapsed time was clamped to 0"
)
MOVES = Counter("lakeboard_session_moves_total", "Moves of sessions, by host or clock", ["by"])
SOCKETS = Gauge("lakeboard_sockets", "Open sockets")
PUSHES = Counter("lakeboard_pushes_total", "Messages pushed to sockets", ["kind"])
SKIPPED = Counter("lakeboard_pushes_skipped_total", "Boards that a slow receiver did not get")
HELD = Counter("lakeboard_pushes_held_total", "Boards held back while many sockets connect")
DROPPED = Counter("lakeboard_sockets_dropped_total", "Sockets closed by us, by close code", ["code"])
RELAY_LAG = Gauge(
    "lakeboard_relay_lag_seconds",
    "Age of the oldest entry not yet in a sink, as its relay says",
    ["shard", "sink"],
)
CLOCK_OFFSET = Gauge("lakeboard_clock_offset_seconds", "This process' clock minus Redis TIME, worst shard, s")


async def measure_loop_delay(told: Callable[[float], None]) -> None:
    """Until cancelled: how late (s) timers come. A loop that is late keeps every player of its process waiting."""
    while True:
        due = time.perf_counter() + LOOP_EVERY_S
        await asyncio.sleep(LOOP_EVERY_S)
        late_s = max(0.0, time.perf_counter() - due)
        LOOP_DELAY.observe(late_s)
        told(late_s)


class RequestMetrics:
    """Counts each request under its route's template (never its path: ids would make endless series)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            REQUESTS.labels(scope["method"], route, str(status)).inc()
            LATENCY.labels(route).observe(time.perf_counter() - started)
