"""WS /v1/live?token=…: a player or host hears the session; a player answers on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from contracts import names
from contracts.errors import BadInput, LakeboardError
from serving.access.tokens import PLAYER, Identity, read
from serving.live.messages import (
    CLOSE_UNAUTHENTICATED,
    CLOSE_UNKNOWN_SESSION,
    AnswerMessage,
    decode,
    encode,
    error_message,
)
from serving.live.rooms import Receiver, Rooms
from serving.metrics import SOCKETS
from serving.sessions.machine import Player

router = APIRouter()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs the push loop; needs `app.state.answering`, which the sessions' room makes before it."""
    rooms = Rooms(app.state.connections, app.state.answering)
    rooms.start()
    app.state.rooms = rooms
    yield
    await rooms.stop()


async def _refuse(socket: WebSocket, error: LakeboardError, code: int) -> None:
    # Accepted first: a browser does not show its page the reason of a refused handshake.
    await socket.send_text(encode(error_message(error)))
    await socket.close(code, error.code)


@router.websocket("/v1/live")
async def live(socket: WebSocket, token: str = "") -> None:
    """Messages in: answer, ping. Out: welcome, question, closed, ended, lobby, standings, result, error, pong."""
    state = socket.app.state
    await socket.accept()
    try:
        identity = read(token, state.jwt_key)
        await state.sessions.load(identity.session_id)
    except LakeboardError as error:
        await _refuse(
            socket, error, CLOSE_UNKNOWN_SESSION if error.http_status == 404 else CLOSE_UNAUTHENTICATED
        )
        return
    receiver = Receiver(socket)
    receiver.put(encode(await _welcome(state, identity)))
    room = state.rooms.enter(identity.session_id, receiver)
    SOCKETS.inc()
    sending = asyncio.create_task(receiver.send_loop())
    try:
        await room.greet(receiver)
        await _receive(socket, receiver, identity)
    except WebSocketDisconnect:
        pass
    finally:
        SOCKETS.dec()
        state.rooms.leave(identity.session_id, receiver)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def _welcome(state: Any, identity: Identity) -> dict[str, Any]:
    """Who the socket is, and the question this player has already answered if it is the open one."""
    session, _ = await state.answering.state(identity.session_id, fresh=True)
    client = state.connections.texts[await state.sessions.shard_of(identity.session_id)]
    kept = await client.hget(
        names.session_answers(identity.session_id),
        names.duplicate_field(session.question_id, identity.user_id),
    )
    return {
        "type": "welcome",
        "role": identity.role,
        "user_id": identity.user_id,
        "name": identity.name,
        "session_id": identity.session_id,
        "answered": session.question_id if kept else None,
    }


async def _receive(socket: WebSocket, receiver: Receiver, identity: Identity) -> None:
    """Reads frames until the socket closes. One answer is under way at a time, so results keep their order."""
    answering = socket.app.state.answering
    player = Player(identity.user_id, identity.user_no)
    while not receiver.ended:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        frame, ref = message.get("text") or message.get("bytes") or "", ""
        try:
            request = decode(frame)
            ref = request.ref
            if not isinstance(request, AnswerMessage):
                receiver.put(encode({"type": "pong", "ref": ref}))
                continue
            if identity.role != PLAYER:
                raise BadInput("forbidden", f"role {identity.role} may not answer", status=403)
            result = await answering.submit(identity.session_id, player, request.question_id, request.choice)
            receiver.put(encode({"type": "result", "ref": ref, **result.to_dict()}))
        except LakeboardError as error:
            receiver.put(encode(error_message(error, ref)))
