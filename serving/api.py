"""The api process: assembles the rooms' routes into one application and runs it.

    python -m serving.api --port N [--host ADDRESS] [--name NAME]    settings from LAKEBOARD_* (contracts/settings.py)

Another address than loopback is for a network of its own (a container's): the gateway stands before the process.

A room whose module is absent is not included, so that a profile may leave it out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from contracts.settings import from_mapping
from serving import health, problems
from serving.access.addresses import AddressGate
from serving.access.limits import Limits
from serving.connections import Connections
from serving.ending import end_tasks
from serving.leaderboards.lean import LeanBoards
from serving.live.wire import LiveProtocol
from serving.metrics import RequestMetrics
from serving.quizzes.lean import LeanQuizzes
from serving.users.lean import LeanProfiles

LOG = logging.getLogger(__name__)
ROOMS = (
    # First: the others ask who is calling.
    "serving.access.account_routes",
    "serving.access.admin_routes",
    "serving.users.routes",
    "serving.quizzes.routes",
    "serving.quizzes.import_routes",
    "serving.quizzes.media_routes",
    "serving.quizzes.author_routes",
    "serving.sessions.routes",
    "serving.sessions.host_routes",
    "serving.sessions.report_routes",
    "serving.classes.routes",
    "serving.courses.routes",
    "serving.live.sockets",
    "serving.live.placement",
    "serving.play.routes",
    "serving.leaderboards.routes",
    "serving.leaderboards.settlements",
    "serving.history.routes",
    "serving.insights.routes",
    "serving.insights.over_time_routes",
    "serving.insights.approx_routes",
    "serving.web.routes",
)
# A client's frame holds one answer; a bigger one is an error of the client.
FRAME_LIMIT_BYTES = 4096
# New objects before a look for cycles: some MB at most.
GARBAGE_OBJECTS = 20_000


def _present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


async def _beat(run_dir: str, name: str) -> None:
    while True:
        health.touch_heartbeat(run_dir, name)
        await asyncio.sleep(health.HEARTBEAT_S)


def _leave_alone_what_stays() -> None:
    """Takes what start-up made out of garbage collection, and collects less often.

    With thousands of sockets a tenth of a process' time was spent looking through what lives as long as they do; answers
    and boards leave no cycles behind, so that reference counts free them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 50)


def create_app(environment: Mapping[str, str], name: str = "api") -> FastAPI:
    """The application, not yet connected; its lifespan makes the clients and runs each room's `lifespan(app)`."""
    settings = from_mapping(environment)
    rooms = [importlib.import_module(module) for module in ROOMS if _present(module)]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connections = Connections.of(settings)
        app.state.connections = connections
        app.state.name = name
        app.state.limits = Limits(settings, connections.shards)
        app.state.jwt_key = connections.secret("jwt_key")
        await connections.postgres.open(wait=False)
        beat = asyncio.create_task(_beat(settings.run_dir, name))
        started = []
        for room in rooms:
            if hasattr(room, "lifespan"):
                context = room.lifespan(app)
                await context.__aenter__()
                started.append(context)
        _leave_alone_what_stays()
        LOG.info("api_started rooms=%d shards=%d", len(rooms), len(connections.texts))
        yield
        for context in reversed(started):
            await context.__aexit__(None, None, None)
        await end_tasks([beat])
        await connections.close()

    app = FastAPI(
        title="Lakeboard",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    problems.install(app)
    app.include_router(health.router)
    for room in rooms:
        app.include_router(room.router)
    app.add_middleware(problems.BodyLimit)
    app.add_middleware(LeanBoards)
    app.add_middleware(LeanProfiles)
    app.add_middleware(LeanQuizzes)
    app.add_middleware(AddressGate)
    if settings.cors_origins:
        # Without credentials: another site's page may bring a token of its own, never our cookie.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=False,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=["RateLimit", "RateLimit-Policy", "Retry-After", "ETag"],
        )
    app.add_middleware(RequestMetrics)
    return app


def main() -> None:
    """Serves until a signal; connections that are open get 5 s to end."""
    parser = argparse.ArgumentParser(prog="python -m serving.api", description="one api process")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--name", help="what the gateway knows this process by (default: api-PORT)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    trusted = from_mapping(os.environ).trusted_proxies
    app = create_app(os.environ, given.name or f"api-{given.port}")
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        loop="uvloop",
        http="httptools",
        ws=LiveProtocol,
        ws_max_size=FRAME_LIMIT_BYTES,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        proxy_headers=True,
        forwarded_allow_ips=list(trusted),
    )


if __name__ == "__main__":
    main()
