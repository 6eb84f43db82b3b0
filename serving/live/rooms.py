"""The push loop: each session with open sockets in this process has a room, which tells them what changed.

Two classes. Urgent: a phase (and a player's own result, which does not pass here) goes out as soon as it is read, to
everybody, in order. Periodic: the board, at most every 250 ms, the newest only. A change is published on the session's
channel; the room reads the newest state once, in one transaction, encodes it once, and writes the same bytes to every
socket. So all handlers of a session show the same; a `seq` has one content but for `connected`, which each counts when it looks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Any

import redis.exceptions

from contracts import names
from contracts.errors import BadInput, LakeboardError
from serving.boards.session_boards import SessionReading, read_session
from serving.boards.ticks import Ticks
from serving.connections import Connections
from serving.ending import end_tasks
from serving.live.holding import BOARD_EVERY_S, ConnectGate, Pace
from serving.live.messages import (
    CLOSE_DRAINING,
    CLOSE_REMOVED,
    CLOSE_RESTARTED,
    CLOSE_UNKNOWN_SESSION,
    Board,
    BoardRow,
    encode,
)
from serving.live.phases import phase_message
from serving.live.presence import Presence
from serving.live.wire import Receiver, text_frame
from serving.metrics import HELD, PUSHES, measure_loop_delay
from serving.sessions.answering import Answering
from serving.sessions.session import Session
from serving.sessions.store import now_us, unknown_session

LOG = logging.getLogger(__name__)
BOARD_ROWS = 10
# While thousands connect, a reading greets newcomers for this long; phases are read as they come in any case.
CROWD_READ_S = 1.0
# A room looks at least this often, so that a lost publication delays a push and never loses it.
ROOM_IDLE_S = 5.0
# A shard that is away is asked again after this, jittered: all rooms of a process look at once when it is back.
RETRY_S = 1.0
# A subscription without a message for this long is asked for a sign of life.
QUIET_S = 2.0
OLDER, SET_BACK = "older", "set back"
RECONNECT_S = (0.1, 2.0)
# A draining handler closes its sockets over this long, so that the others are not joined by all in one moment.
DRAIN_OVER_S = 4.0


class Room:
    """One session's receivers in this process."""

    def __init__(
        self,
        session_id: str,
        answering: Answering,
        presence: Presence,
        gate: ConnectGate,
        pace: Pace,
        reads: Sequence[Ticks],
    ) -> None:
        """gate, pace and reads (of each shard's sessions) are shared by all rooms of the process."""
        self.session_id = session_id
        self.answering = answering
        self.presence = presence
        self.gate = gate
        self.pace = pace
        self.reads = reads
        self.receivers: set[Receiver] = set()
        self.wake = asyncio.Event()
        self.urgent = False
        self.closed = False
        # Something has changed, and the loop knows: more of the same need not wake it.
        self._changed = False
        self._count_connected = True
        self._connected = 0
        self._epoch: int | None = None
        self._names: dict[str, str] = {}
        # When the read of `_last` began, and when its reply was here (monotonic s).
        self._read_at = 0.0
        self._read_until = 0.0
        self._last: tuple[Session, Board] | None = None
        self._board_at = 0.0
        self._pushed: Board | None = None

    def tell(self, kind: str) -> None:
        """Something was published: state, answers, joined or presence."""
        self.urgent = self.urgent or kind == "state"
        self._count_connected = self._count_connected or kind == "presence"
        if self.urgent or not self._changed:
            self._changed = True
            self.wake.set()

    async def greet(self, receiver: Receiver, epoch: int | None, seq: int | None) -> None:
        """Gives a new receiver the phase and the board as they are now, without what it says it has seen.

        From here on it gets pushes; what was pushed since it entered is in what it is given.
        """
        now = time.monotonic()
        fresh_s = CROWD_READ_S if self.gate.held(now) else BOARD_EVERY_S
        if self._last is None or now - self._read_at > fresh_s:
            await self._read()
        assert self._last is not None
        session, board = self._last
        frame = await self._phase_frame(session)
        while session.epoch < (self._epoch or 0):  # the loop has pushed a newer one meanwhile
            session, board = self._last
            frame = await self._phase_frame(session)
        if receiver.user_id in session.removed:
            receiver.end(CLOSE_REMOVED, "player_removed")
        receiver.ready, receiver.epoch = True, session.epoch
        if session.epoch != epoch:
            receiver.put(frame)
        newest = self._pushed if self._pushed is not None and self._pushed.seq > board.seq else board
        if newest.seq != seq:
            receiver.put_board(text_frame(encode(newest)))

    async def push(self) -> float:
        """Pushes what changed; returns how long the room may wait for the next change."""
        await self.presence.sync(self.session_id)
        if not self.urgent and self.gate.held(time.monotonic()):
            HELD.inc()
            self._changed = False
            self.wake.clear()
            return BOARD_EVERY_S
        # Before the read: what is told while it runs is looked at afterwards.
        self.urgent = self._changed = False
        self.wake.clear()
        await self._read()
        assert self._last is not None
        session, board = self._last
        if session.epoch != self._epoch:
            self._epoch = session.epoch
            frame = await self._phase_frame(session)
            for receiver in list(self.receivers):
                if receiver.user_id in session.removed:
                    receiver.end(CLOSE_REMOVED, "player_removed")
                elif receiver.ready and receiver.epoch < session.epoch:
                    receiver.epoch = session.epoch
                    receiver.put(frame)
            PUSHES.labels("phase").inc(len(self.receivers))
        if _shown(board) == _shown(self._pushed):
            return ROOM_IDLE_S
        now = time.monotonic()
        if (wait_s := self._board_at + self.pace.board_every_s - now) > 0:
            return wait_s
        if self.gate.held(now):  # it was read for the sake of a phase
            HELD.inc()
            return BOARD_EVERY_S
        self._board_at, self._pushed = now, board
        frame = text_frame(encode(board))
        for receiver in list(self.receivers):
            if receiver.ready:
                receiver.put_board(frame)
        PUSHES.labels("board").inc(len(self.receivers))
        return ROOM_IDLE_S

    async def run(self) -> None:
        """The loop: wait for a change, push. While a board waits for its turn only an urgent change is looked at.

        Ends with the room (`closed`: a cancellation alone can get lost), and with the session: sealed, it is gone.
        """
        wait_s = 0.0
        while not self.closed:
            due = time.monotonic() + wait_s
            while not self.urgent and (left := due - time.monotonic()) > 0:
                # No `wait_for`: it can swallow a cancellation that comes with the wake.
                timer = asyncio.get_running_loop().call_later(left, self.wake.set)
                try:
                    await self.wake.wait()
                finally:
                    timer.cancel()
                self.wake.clear()
                # An ordinary change: the board's turn comes when the last push is 250 ms old, urgent ones at once.
                due = min(due, max(time.monotonic(), self._board_at + self.pace.board_every_s))
            try:
                wait_s = await self.push()
            except (redis.exceptions.RedisError, LakeboardError, OSError) as error:
                if isinstance(error, BadInput) and error.code == "unknown_session":
                    for receiver in list(self.receivers):
                        receiver.end(CLOSE_UNKNOWN_SESSION, error.code)
                    return
                LOG.warning("push_failed session=%s error=%s", self.session_id, error)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))
                wait_s = 0.0

    async def _phase_frame(self, session: Session) -> bytes:
        _, questions = await self.answering.learn(session)
        message = phase_message(session, questions.get(session.question_id), now_us())
        return text_frame(encode(message))

    async def _read(self) -> None:
        """The session and its board at one instant, for pushes, new receivers and the answers of this process."""
        shard = await self.answering.store.shard_of(self.session_id)
        began, began_us = time.monotonic(), now_us()
        reading = await read_session(self.reads[shard], self.session_id, BOARD_ROWS)
        ended = time.monotonic()
        if not reading.fields:
            raise unknown_session(self.session_id)
        session = Session.from_hash(self.session_id, reading.fields, reading.removed)
        await self.answering.learn(session, began_us)
        if self._count_connected or began - self._read_at >= ROOM_IDLE_S:
            self._count_connected = False
            self._connected = len(await self.presence.connected(self.session_id) - session.removed)
        board = await self._board(session, reading)
        # Two may read at once (a greeting and the loop), in any order at the server: the newer one stays.
        if self._last is not None and (
            found := order(session.version, began, self._last[0].version, self._read_until)
        ):
            if found == OLDER:
                return
            self._lost()
        self._last, self._read_at, self._read_until = (session, board), began, ended

    def _lost(self) -> None:
        """The shard has less than was shown: a replica without the last, unacknowledged writes was promoted.

        Clients would take what comes now for old: they come back, and are welcomed with the numbers that hold.
        """
        LOG.warning("session_set_back session=%s", self.session_id)
        self._epoch, self._pushed = None, None
        for receiver in list(self.receivers):
            receiver.end(CLOSE_RESTARTED, "set back")

    async def _board(self, session: Session, reading: SessionReading) -> Board:
        missing = [place.user_id for place in reading.places if place.user_id not in self._names]
        if missing:
            client = await self.answering.store.client_of(self.session_id)
            found = await client.hmget(names.session_players(self.session_id), missing)
            self._names.update({user: name for user, name in zip(missing, found, strict=True) if name})
        return Board(
            session_id=self.session_id,
            seq=session.version,
            participants=reading.participants,
            connected=self._connected,
            answered=session.answered,
            entries=[
                BoardRow(place.rank, place.user_id, self._names.get(place.user_id), place.points)
                for place in reading.places
            ],
        )


def order(version: int, began: float, held: int, held_until: float) -> str:
    """What a read is beside the held one: OLDER, SET_BACK, or "" (newer or the same). Pure; instants on one clock.

    held_until: when the held read's reply was here. A lower version in a read that began later was lost at the server.
    """
    if version >= held:
        return ""
    return OLDER if began < held_until else SET_BACK


async def heard(pubsub: Any) -> dict[str, Any] | None:
    """The next message, None for one that is not for us. Raises TimeoutError from a server that does not say anything.

    A server that hangs keeps the connection open, and a promoted one is another: a quiet line is asked for a sign.
    """
    message: dict[str, Any] | None = await pubsub.get_message(timeout=QUIET_S)
    if message is None:
        await pubsub.ping()
        message = await pubsub.get_message(timeout=QUIET_S)
        if message is None:
            raise TimeoutError(f"no sign within {QUIET_S:g} s")
    return message if message["type"] == "pmessage" else None


def _shown(board: Board | None) -> tuple[object, ...] | None:
    """What a player sees of a board: one that differs only in its number is not sent again."""
    if board is None:
        return None
    return board.participants, board.connected, board.answered, board.entries


class Rooms:
    """All rooms of the process, and the subscriptions that wake them."""

    def __init__(self, connections: Connections, answering: Answering, presence: Presence) -> None:
        self.connections = connections
        self.answering = answering
        self.presence = presence
        self.gate = ConnectGate()
        self.pace = Pace()
        answering.tell = self._told
        answering.handler = presence.registry.id
        self.reads = answering.store.reads
        self.rooms: dict[str, Room] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Listens on every shard: one pattern covers all sessions of the shard."""
        self._listeners = [
            asyncio.create_task(self._listen(shard)) for shard in range(len(self.connections.texts))
        ]
        self._listeners.append(asyncio.create_task(measure_loop_delay(self.pace.looked)))

    async def stop(self) -> None:
        """Ends listeners and rooms."""
        await end_tasks([*self._listeners, *self._tasks.values()])

    def enter(self, session_id: str, receiver: Receiver) -> Room:
        """Adds a receiver; the first one opens the room."""
        self.gate.connected(time.monotonic())
        room = self.rooms.get(session_id)
        if room is None:
            room = self.rooms[session_id] = Room(
                session_id, self.answering, self.presence, self.gate, self.pace, self.reads
            )
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
            room.closed = True
            self._tasks.pop(session_id).cancel()

    def _told(self, session_id: str) -> None:
        """This process has recorded an answer; other handlers hear of it from the script."""
        room = self.rooms.get(session_id)
        if room is not None:
            room.tell("answers")

    async def drain(self) -> None:
        """Closes every socket, spread over some seconds; clients come back through another handler."""
        receivers = [receiver for room in self.rooms.values() for receiver in room.receivers]
        random.shuffle(receivers)
        for receiver in receivers:
            receiver.end(CLOSE_DRAINING, "draining")
            await asyncio.sleep(DRAIN_OVER_S / len(receivers))

    async def _listen(self, shard: int) -> None:
        pause = RECONNECT_S[0]
        while True:
            pubsub = self.connections.texts[shard].pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.psubscribe(names.channel("*"))
                for room in self.rooms.values():  # what was published while nobody listened
                    room.tell("state")
                while True:
                    message = await heard(pubsub)
                    if message is None:
                        continue
                    pause = RECONNECT_S[0]
                    room_of = self.rooms.get(message["channel"].split(":")[1])
                    if room_of is not None:
                        room_of.tell(message["data"])
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                LOG.warning("subscription_lost shard=%d error=%s", shard, error)
            finally:
                await pubsub.aclose()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RECONNECT_S[1])
