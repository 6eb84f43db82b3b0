"""One socket's inbound side: a message is answered in the call that brings it, or by a callback; a task is the exception.

One message is under way at a time, so replies keep their order. What comes meanwhile waits here, and beyond a few the
socket is not read: a sender that does not wait for its replies waits in its own buffers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from contracts.errors import BadInput, LakeboardError, SystemMissing
from serving.access.limits import MESSAGES, LimitReached
from serving.access.tokens import PLAYER, Identity
from serving.boards.acknowledged import refusal_of
from serving.live.messages import (
    CLOSE_AWAY,
    AnswerMessage,
    NextMessage,
    Out,
    PingMessage,
    Pong,
    Request,
    Result,
    decode,
    encode,
    error_message,
)
from serving.live.wire import Receiver, text_frame
from serving.sessions.session import Player
from serving.sessions.store import now_us

LOG = logging.getLogger(__name__)
# How long a socket that sends too much is not read.
FLOOD_PAUSE_S = 1.0
# Messages that wait before the socket is no longer read: a client sends one and waits for its reply.
WAITING_MESSAGES = 4


def put(receiver: Receiver, message: Out) -> None:
    """Sends a message to one receiver."""
    receiver.put(text_frame(encode(message)))


class Inbox:
    """What one socket sends, in order."""

    def __init__(self, state: Any, receiver: Receiver, identity: Identity) -> None:
        """state: the application's, with `answering` and `limits`."""
        self._answering = state.answering
        self._limits = state.limits
        self._receiver = receiver
        self._identity = identity
        self._player = Player(identity.user_id, identity.user_no)
        self._waiting: deque[str | bytes] = deque()
        self._busy = False
        # The task of the message under way, if it has one: it ends by itself, socket or not, as an answer on its way counts.
        self._task: asyncio.Task[None] | None = None

    def take(self, frame: str | bytes) -> None:
        """A message has come."""
        if self._receiver.ended:
            return
        if not self._busy:
            self._handle(frame)
            return
        self._waiting.append(frame)
        if len(self._waiting) >= WAITING_MESSAGES:
            self._receiver.protocol.pause_reading()

    def _handle(self, frame: str | bytes) -> None:
        """Answers a message, or begins to and is busy until it is."""
        ref = ""
        try:
            self._limits.check_user(
                MESSAGES, self._identity.user_id
            )  # first: what cannot be read is a message too
            request = decode(frame)
            ref = request.ref
            if isinstance(request, PingMessage):
                put(self._receiver, Pong(now_us=now_us(), ref=ref))
                return
            if self._identity.role != PLAYER:
                raise BadInput("forbidden", f"role {self._identity.role} may not answer", status=403)
            self._begin(request)
        except LimitReached as error:
            # Told, then not read for a while: what a flood sends on stays with its sender.
            put(self._receiver, error_message(error, ref))
            self._busy = True
            self._receiver.protocol.pause_reading()
            asyncio.get_running_loop().call_later(FLOOD_PAUSE_S, self._over)
        except LakeboardError as error:
            put(self._receiver, error_message(error, ref))

    def _begin(self, request: AnswerMessage | NextMessage) -> None:
        received = now_us()
        if isinstance(request, AnswerMessage) and self._answering.begin(
            self._identity.session_id,
            self._player,
            request.question_id,
            request.choice,
            received,
            partial(self._answered, request, received),
        ):
            self._busy = True
            return
        self._go(request, received)

    def _answered(self, request: AnswerMessage, received: int, result: Result | None) -> None:
        """The result of an answer that went the short way; None: it goes the long one."""
        if result is None:
            self._go(request, received)
            return
        result.ref = request.ref
        put(self._receiver, result)
        self._over()

    def _go(self, request: Request, received: int) -> None:
        self._busy = True
        self._task = asyncio.create_task(self._reply(request, received))

    async def _reply(self, request: Request, received: int) -> None:
        """What needs to wait for more than the record."""
        identity, player = self._identity, self._player
        try:
            reply: Any
            if isinstance(request, AnswerMessage):
                reply = await self._answering.submit(
                    identity.session_id, player, request.question_id, request.choice, received
                )
            else:
                reply = await self._answering.next_question(identity.session_id, player)
            reply.ref = request.ref
            put(self._receiver, reply)
        except LakeboardError as error:
            put(self._receiver, error_message(error, request.ref))
        except (RedisError, OSError) as error:
            # The shard is away, or may not write: the same message may be sent again, and a client does.
            away = refusal_of(error) or SystemMissing("system_missing", "Valkey does not answer")
            put(self._receiver, error_message(away, request.ref))
        except Exception:
            LOG.exception("message_failed session=%s", identity.session_id)
            self._receiver.end(CLOSE_AWAY, "internal")
        finally:
            self._over()

    def _over(self) -> None:
        """The message under way has its reply: the next one's turn."""
        self._busy = False
        while self._waiting and not self._busy and not self._receiver.ended:
            self._handle(self._waiting.popleft())
        if len(self._waiting) < WAITING_MESSAGES and not self._busy:
            self._receiver.protocol.resume_reading()
