"""Quizzes as others find them: /v1/quizzes. What authors do is in `author_routes.py`; the starter quizzes are loaded here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import psycopg
from fastapi import APIRouter, FastAPI, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import LakeboardError
from serving.access.tokens import unauthenticated
from serving.connections import Connections
from serving.courses import store as courses
from serving.documented import documented
from serving.ending import end_tasks
from serving.lean import CACHE_CONTROL
from serving.migrations.upgrade import upgrade
from serving.quizzes import library
from serving.quizzes.viewers import viewer_of

LOG = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["quizzes"])
RETRY_S = 1.0
Type = Literal[
    "",
    "definition_to_word",
    "word_to_definition",
    "gap_in_sentence",
    "listening",
    "typed_spelling",
    "picture",
    "audio",
]


async def _load_when_possible(connections: Connections) -> None:
    """Makes the tables and loads the starter courses and quizzes as soon as Postgres is there."""
    while True:
        try:
            await asyncio.to_thread(upgrade, connections.settings.postgres_url)
            # Courses name quizzes by id alone: where there are quizzes, there are their courses.
            await courses.load_starter(connections)
            new = await library.load_starter(connections)
        except (LakeboardError, psycopg.Error, SQLAlchemyError) as error:
            LOG.info("starter_quizzes_later error=%s", str(error).partition("\n")[0])
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


SHOWN = {
    "quiz_id": "starter-a1",
    "title": "First words 1 (A1): find the word",
    "description": "A1, part 1: bread, kitchen, brother …",
    "level": "A1",
    "zone": "UTC",
    "origin": "starter",
    "types": ["definition_to_word"],
    "questions": 12,
    "version": 1,
    "visibility": "public",
    "archived": False,
}


@router.get(
    "/quizzes",
    summary="Quizzes that can be played, or the caller's own",
    responses=documented(
        {"quizzes": [SHOWN], "next": None},
        s401="unauthenticated",
        s422="invalid_field",
        s503="system_missing",
    ),
)
async def quizzes(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=library.MOST_ROWS)] = 100,
    cursor: Annotated[str, Query(max_length=400)] = "",
    q: Annotated[str, Query(max_length=200, description="words that a title or description begins")] = "",
    level: Annotated[Literal["", "A1", "A2", "B1", "B2", "C1", "C2"], Query()] = "",
    type: Annotated[Type, Query(description="a question type that it has")] = "",
    origin: Annotated[Literal["", "starter", "author"], Query()] = "",
    mine: Annotated[bool, Query(description="the caller's own, drafts too, newest change first")] = False,
) -> dict[str, Any]:
    """The starter quizzes first, then by title. `next`, where there is one, goes into `cursor` for the page after it.

    A quiz is shown without its questions: right answers are told by a session, after each question.
    """
    viewer = await viewer_of(request)
    if mine and not viewer:
        raise unauthenticated("whose quizzes?", "log in, or make an account")
    asked = library.Asked(viewer, mine, q, level, type, origin, limit, cursor)
    found, following = await library.page(request.app.state.connections, asked)
    return {"quizzes": found, "next": following}


@router.get(
    "/quizzes/{quiz_id}",
    summary="One quiz, without its questions",
    responses=documented(
        {**SHOWN, "published_at": "2026-03-02T18:00:01.204Z", "own": False},
        s401="unauthenticated",
        s404="unknown_quiz",
        s503="system_missing",
    ),
)
async def quiz(quiz_id: str, request: Request) -> Response:
    """As it is now: a change shows at once.

    A private quiz and an unpublished one are their owner's alone to see: `unknown_quiz` for everybody else.
    """
    body = await library.show(request.app.state.connections, quiz_id, await viewer_of(request))
    return Response(body, media_type="application/json", headers={"Cache-Control": CACHE_CONTROL})
