"""Which handler a new socket should use, and draining one before it stops (the seed's WebSocket manager)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from contracts.errors import SystemMissing
from serving.access.roles import require
from serving.access.tokens import HOST, IMPORTER, PLAYER, Identity
from serving.documented import documented
from serving.live.registry import place
from serving.sessions.routes import own

router = APIRouter(tags=["live"])
_DRAINING: set[asyncio.Task[None]] = set()


@router.get(
    "/v1/sessions/{session_id}/handler",
    summary="Where to open the session's socket",
    responses=documented(
        {"handler": "api-8101", "path": "/v1/live?handler=api-8101"},
        s401="unauthenticated",
        s403="forbidden",
        s404="unknown_session",
        s503="system_missing draining",
    ),
)
async def handler_of(
    session_id: str, request: Request, identity: Annotated[Identity, Depends(require(HOST, PLAYER))]
) -> dict[str, Any]:
    """A handler that already holds the session, unless it holds far more than another; never one that drains.

    `path` goes to the gateway; any handler takes the socket if that one is gone by then.
    """
    own(identity, session_id)
    state = request.app.state
    shard = await state.sessions.shard_of(session_id)
    handlers = await state.registry.alive(shard)
    found = place(handlers.values(), await state.presence.handlers(session_id))
    if found is None:
        raise SystemMissing("draining", "no handler takes new sockets", next_step="try again shortly")
    return {"handler": found.name, "path": f"/v1/live?handler={found.name}"}


@router.post(
    "/internal/drain",
    summary="Let this process' sockets go",
    responses=documented(
        {"handler": "api-8101-5f2c11aa", "sockets": 214}, s401="unauthenticated", s403="forbidden"
    ),
    dependencies=[Depends(require(IMPORTER))],
)
async def drain(request: Request) -> dict[str, Any]:
    """Takes no new sockets, is not ready any more, and closes its sockets within seconds (code 4503).

    Asked on the process' own port. A repeat tells how many are left; at 0 the process may be stopped.
    """
    state = request.app.state
    if not state.registry.draining:
        state.registry.draining = True
        await state.registry.beat()
        task = asyncio.create_task(state.rooms.drain())
        _DRAINING.add(task)
        task.add_done_callback(_DRAINING.discard)
    return {"handler": state.registry.id, "sockets": state.registry.sockets}


@router.get(
    "/internal/handlers",
    summary="The handlers that are there",
    responses=documented(
        {
            "handlers": [
                {
                    "id": "api-8101-5f2c11aa",
                    "name": "api-8101",
                    "sockets": 214,
                    "draining": False,
                    "beat_us": 1772474384324000,
                }
            ]
        },
        s401="unauthenticated",
        s403="forbidden",
        s503="system_missing",
    ),
    dependencies=[Depends(require(IMPORTER))],
)
async def handlers(request: Request) -> dict[str, Any]:
    """One row a handler, as the first shard that answers knows them."""
    registry = request.app.state.registry
    found = await registry.alive_anywhere()
    return {"handlers": [asdict(handler) for handler in sorted(found.values(), key=lambda h: h.id)]}
