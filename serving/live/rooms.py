"""The push loop: each session with open sockets in this process has a room, which tells them what changed.

A change is published on the session's channel; the room reads the newest state once, encodes it once, and gives it to
every receiver, standings at most every 250 ms. A receiver that is slow skips standings; its own results and the
session's states wait in a short queue, and a receiver whose queue is full is closed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Any

import redis.exceptions
from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts import names
from contracts.errors import LakeboardError
from serving.connections import Connections
from serving.live.messages import CLOSE_SLOW, encode
from serving.metrics import PUSHES, SKIPPED
from serving.sessions import machine
from serving.sessions.answering import Answering
from serving.sessions.store import now_us

LOG = logging.getLogger(__name__)
# DESIGN 3: four states a second are as fast as people read; more only costs sends.
STANDINGS_EVERY_S = 0.25
STANDINGS_ROWS = 10
# Results and states a receiver may have waiting: several questions' worth; more means that nobody reads.
QUEUE_MESSAGES = 32
# A room wakes at least this often, so that a lost publication delays a push and never loses it.
ROOM_IDLE_S = 5.0
RECONNECT_S = (0.1, 2.0)


class Receiver:
    """One socket's outbound side: a short queue, and one slot that holds the newest standings only."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.ended = False
        self._queue: deque[str] = deque()
        self._standings: str | None = None
        self._wake = asyncio.Event()

    def put(self, frame: str) -> None:
        """Queues a message that must arrive; ends a receiver that does not read."""
        if len(self._queue) >= QUEUE_MESSAGES:
            self.ended = True
        self._queue.append(frame)
        self._wake.set()

    def put_standings(self, frame: str) -> None:
        """Replaces the standings that still wait."""
        if self._standings is not None:
            SKIPPED.inc()
        self._standings = frame
        self._wake.set()

    async def send_loop(self) -> None:
        """Sends until the socket closes or proves too slow."""
        try:
            while not self.ended:
                while self._queue:
                    await self.socket.send_text(self._queue.popleft())
                if self._standings is not None:
                    frame, self._standings = self._standings, None
                    await self.socket.send_text(frame)
                if not self._queue and self._standings is None:
                    self._wake.clear()
                    await self._wake.wait()
            await self.socket.close(CLOSE_SLOW, "too slow")
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the receiving side sees the close and ends the socket


class Room:
    """One session's receivers in this process."""

    def __init__(self, session_id: str, answering: Answering) -> None:
        self.session_id = session_id
        self.answering = answering
        self.receivers: set[Receiver] = set()
        self.wake = asyncio.Event()
        self._epoch: int | None = None
        self._standings = ""
        self._names: dict[str, str] = {}

    async def greet(self, receiver: Receiver) -> None:
        """Gives a new receiver the state and standings as they are now."""
        session, questions = await self.answering.state(self.session_id, fresh=True)
        message = machine.state_message(session, questions.get(session.question_id))
        receiver.put(encode({**message, "now_us": now_us()}))
        receiver.put_standings(encode(await self.standings(session)))

    async def standings(self, session: machine.Session) -> dict[str, Any]:
        """The session's board as it is pushed: first rows with names, and the number of players."""
        boards = self.answering.store.connections.boards
        key = names.session_board(self.session_id)
        top = await boards.top(key, STANDINGS_ROWS, session.quiz_id)
        players = await boards.participants(key, session.quiz_id)
        if any(place.user_id not in self._names for place in top):
            self._names = await self.answering.store.players(self.session_id)
        entries = [
            {
                "rank": place.rank,
                "user_id": place.user_id,
                "name": self._names.get(place.user_id),
                "points": place.points,
            }
            for place in top
        ]
        return {
            "type": "standings",
            "session_id": self.session_id,
            "participants": players,
            "entries": entries,
        }

    async def push_once(self) -> float:
        """Pushes what changed; returns how long the room may sleep. Closes a question whose time is over."""
        session, questions = await self.answering.state(self.session_id, fresh=True)
        left_s = (session.deadline_us - now_us()) / 1e6
        if session.state == machine.QUESTION and left_s <= 0:
            # Every process with a room tries; the epoch lets one of them through.
            await self.answering.store.move(session, machine.close(session))
            session, questions = await self.answering.state(self.session_id, fresh=True)
        if session.epoch != self._epoch:
            self._epoch = session.epoch
            message = machine.state_message(session, questions.get(session.question_id))
            frame = encode({**message, "now_us": now_us()})
            for receiver in list(self.receivers):
                receiver.put(frame)
            PUSHES.labels(message["type"]).inc(len(self.receivers))
        frame = encode(await self.standings(session))
        if frame != self._standings:
            self._standings = frame
            for receiver in list(self.receivers):
                receiver.put_standings(frame)
            PUSHES.labels("standings").inc(len(self.receivers))
        return min(max(left_s, 0.01), ROOM_IDLE_S) if session.state == machine.QUESTION else ROOM_IDLE_S

    async def run(self) -> None:
        """The loop: wait for a change (or the deadline), push, then rest so that pushes stay 250 ms apart."""
        session, _ = await self.answering.state(self.session_id)
        self._epoch = session.epoch
        idle = 0.0
        while True:
            try:
                await asyncio.wait_for(self.wake.wait(), idle)
            except TimeoutError:
                pass
            self.wake.clear()
            try:
                idle = await self.push_once()
            except (redis.exceptions.RedisError, LakeboardError, OSError) as error:
                LOG.warning("push_failed session=%s error=%s", self.session_id, error)
                idle = 1.0
            await asyncio.sleep(min(STANDINGS_EVERY_S, idle))


class Rooms:
    """All rooms of the process, and the subscriptions that wake them."""

    def __init__(self, connections: Connections, answering: Answering) -> None:
        self.connections = connections
        self.answering = answering
        self.rooms: dict[str, Room] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Listens on every shard: one pattern covers all sessions of the shard."""
        self._listeners = [
            asyncio.create_task(self._listen(shard)) for shard in range(len(self.connections.texts))
        ]

    async def stop(self) -> None:
        """Ends listeners and rooms."""
        tasks = [*self._listeners, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def enter(self, session_id: str, receiver: Receiver) -> Room:
        """Adds a receiver; the first one opens the room."""
        room = self.rooms.get(session_id)
        if room is None:
            room = self.rooms[session_id] = Room(session_id, self.answering)
            self._tasks[session_id] = asyncio.create_task(room.run())
        room.receivers.add(receiver)
        return room

    def leave(self, session_id: str, receiver: Receiver) -> None:
        """Removes a receiver; the last one closes the room."""
        room = self.rooms.get(session_id)
        if room is None:
            return
        room.receivers.discard(receiver)
        if not room.receivers:
            del self.rooms[session_id]
            self._tasks.pop(session_id).cancel()

    async def _listen(self, shard: int) -> None:
        pause = RECONNECT_S[0]
        while True:
            pubsub = self.connections.texts[shard].pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.psubscribe(names.channel("*"))
                for room in self.rooms.values():  # what was published while nobody listened
                    room.wake.set()
                async for message in pubsub.listen():
                    pause = RECONNECT_S[0]
                    room_of = self.rooms.get(message["channel"].split(":")[1])
                    if room_of is not None:
                        room_of.wake.set()
            except (redis.exceptions.RedisError, OSError) as error:
                LOG.warning("subscription_lost shard=%d error=%s", shard, error)
            finally:
                await pubsub.aclose()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RECONNECT_S[1])
