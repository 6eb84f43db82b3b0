"""GET /v1/quizzes, and the loading of the starter quizzes at the first start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, FastAPI, Query, Request
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import LakeboardError
from serving.connections import Connections
from serving.documented import documented
from serving.ending import end_tasks
from serving.migrations.upgrade import upgrade
from serving.quizzes.store import list_quizzes, load_starter

LOG = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["quizzes"])
RETRY_S = 1.0


async def _load_when_possible(connections: Connections) -> None:
    """Makes the tables and loads the starter quizzes as soon as Postgres is there."""
    while True:
        try:
            await asyncio.to_thread(upgrade, connections.settings.postgres_url)
            new = await load_starter(connections)
        except (LakeboardError, psycopg.Error, SQLAlchemyError):
            await asyncio.sleep(RETRY_S)
            continue
        LOG.info("starter_quizzes_loaded new=%d", new)
        return


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Loads in the background: a process is ready for play without Postgres."""
    task = asyncio.create_task(_load_when_possible(app.state.connections))
    yield
    await end_tasks([task])


_EXAMPLE = {
    "quizzes": [{"quiz_id": "starter-a1", "title": "First words", "zone": "UTC", "questions": 12}],
}


@router.get(
    "/quizzes",
    summary="Quizzes that can be played",
    responses=documented(_EXAMPLE, s422="invalid_field", s503="system_missing"),
)
async def quizzes(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> dict[str, Any]:
    return {"quizzes": await list_quizzes(request.app.state.connections, limit)}
