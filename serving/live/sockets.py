"""WS /v1/live?token=…[&epoch=…&seq=…]: a player or host hears the session; a player answers on it (live.v1)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket
from redis.exceptions import RedisError
from starlette.websockets import WebSocketDisconnect

from contracts.errors import BadInput, LakeboardError, SystemMissing
from serving.access.tokens import PLAYER, Identity, read_seat
from serving.live.inbox import Inbox, put
from serving.live.messages import (
    CLOSE_AWAY,
    CLOSE_DRAINING,
    CLOSE_PROTOCOL,
    CLOSE_REMOVED,
    CLOSE_UNAUTHENTICATED,
    CLOSE_UNKNOWN_SESSION,
    PROTOCOL,
    Welcome,
    encode,
    error_message,
)
from serving.live.pacer import Pacer
from serving.live.presence import Presence
from serving.live.registry import Registry
from serving.live.rooms import Rooms
from serving.live.wire import EXTENSION, Receiver
from serving.metrics import SOCKETS
from serving.sessions import judging
from serving.sessions.session import Session

LOG = logging.getLogger(__name__)
router = APIRouter()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs registry, push loop and pacer; needs what the sessions' room puts into `app.state` before it."""
    state = app.state
    state.registry = Registry(state.connections, state.name)
    state.presence = Presence(state.sessions, state.registry)
    state.rooms = Rooms(state.connections, state.answering, state.presence)
    pacer = Pacer(state.sessions, state.hosting, state.presence)
    await state.registry.start()
    state.rooms.start()
    pacer.start()
    yield
    await pacer.stop()
    await state.rooms.stop()
    await state.registry.stop()


async def _refuse(socket: WebSocket, error: LakeboardError, code: int) -> None:
    # Accepted first: a browser does not show its page the reason of a refused handshake.
    await socket.send_text(encode(error_message(error)).decode())
    await socket.close(code, error.code)


async def _admit(socket: WebSocket, token: str) -> tuple[Identity, Session] | None:
    """The identity of a socket that may stay, and its session; None if it was refused with its close code."""
    state = socket.app.state
    try:
        offered = socket.scope["subprotocols"]
        if offered and PROTOCOL not in offered:
            error = BadInput("unsupported_protocol", f"this server speaks {PROTOCOL}", status=400)
            await _refuse(socket, error, CLOSE_PROTOCOL)
            return None
        identity = read_seat(token, state.jwt_key)
        if state.registry.draining:
            missing = SystemMissing("draining", "this handler takes no new sockets", next_step="come back")
            await _refuse(socket, missing, CLOSE_DRAINING)
            return None
        session = await state.sessions.load(identity.session_id)
        judging.check_player(session, identity.user_id)
    except LakeboardError as error:
        codes = {403: CLOSE_REMOVED, 404: CLOSE_UNKNOWN_SESSION}
        await _refuse(socket, error, codes.get(error.http_status, CLOSE_UNAUTHENTICATED))
        return None
    except (RedisError, OSError):
        await _refuse(socket, SystemMissing("system_missing", "Valkey does not answer"), CLOSE_AWAY)
        return None
    return identity, session


@router.websocket("/v1/live")
async def live(socket: WebSocket, token: str = "", epoch: int | None = None, seq: int | None = None) -> None:
    """Messages in and out are in `messages.py`. `epoch` and `seq`: what a client that comes back saw last."""
    state = socket.app.state
    spoken = PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None
    await socket.accept(subprotocol=spoken)
    admitted = await _admit(socket, token)
    if admitted is None:
        return
    identity, session = admitted
    receiver = Receiver(socket.scope["extensions"][EXTENSION], identity.user_id, identity.role)
    session_id = identity.session_id
    SOCKETS.inc()
    state.registry.sockets += 1
    # In the room first: what changes from here on reaches this receiver, whatever it is told below.
    room = state.rooms.enter(session_id, receiver)
    if state.registry.draining:  # it began while this socket was let in: the drain may have missed it
        receiver.end(CLOSE_DRAINING, "draining")
    try:
        await state.presence.enter(session_id, identity.role, identity.user_id)
        put(receiver, await _welcome(state, identity, session))
        await room.greet(receiver, epoch, seq)
        inbox = Inbox(state, receiver, identity)
        receiver.protocol.take = inbox.take
        await _receive(socket, inbox)
    except WebSocketDisconnect:
        pass
    except (RedisError, OSError, LakeboardError) as error:
        LOG.warning("socket_not_served session=%s error=%s", session_id, error)
        receiver.end(CLOSE_AWAY, "system_missing")
    finally:
        SOCKETS.dec()
        state.registry.sockets -= 1
        state.rooms.leave(session_id, receiver)
        await state.presence.leave(session_id, identity.role, identity.user_id)


async def _welcome(state: Any, identity: Identity, session: Session) -> Welcome:
    """Who the socket is, and what this player has already answered of the question shown now."""
    _, questions = await state.answering.learn(session)
    shown = await state.answering.shown_to(session, questions, identity.user_id)
    result = None
    if shown and identity.role == PLAYER:
        result = await state.answering.last_result(identity.session_id, shown, identity.user_id)
    return Welcome(
        protocol=PROTOCOL,
        handler=state.registry.id,
        role=identity.role,
        user_id=identity.user_id,
        name=identity.name,
        session_id=identity.session_id,
        seq=session.version,
        epoch=session.epoch,
        answered=shown if result else None,
        last_result=result,
    )


async def _receive(socket: WebSocket, inbox: Inbox) -> None:
    """Returns when the socket closes. What came before the inbox was there goes into it first, in order."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        inbox.take(message.get("text") or message.get("bytes") or "")
