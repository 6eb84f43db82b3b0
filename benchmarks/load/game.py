"""Many hosted sessions at once, played on a schedule that does not wait for the server (open loop).

Every session opens its next question each `round_s`, at a moment of its own; each of its players answers at a random
moment within the round. Latencies count from the moment that the schedule names, so a generator or server that is late
shows in them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks.load.lean_http import LeanHttp
from benchmarks.load.line import BOARD, Line, open_line
from benchmarks.load.stack import Acknowledged, Stack

# Of a round: a question opens at its begin, and answers come from here to here, so that the host's move is done first.
FROM_SHARE, TO_SHARE = 0.2, 0.85
RIGHT_SHARE = 0.7
JOINS_AT_ONCE = 32
CONNECTS_AT_ONCE = 64
# How long results may still come after the last answer was sent.
GRACE_S = 15.0


class Message(msgspec.Struct):
    """What the generator reads of a result or an error."""

    type: str
    ref: str = ""
    points: int = 0
    total: int = 0
    rank: int | None = None
    code: str = ""
    repeat: bool = False


class _Row(msgspec.Struct):
    user_id: str
    points: int


class _Board(msgspec.Struct):
    entries: list[_Row]


_MESSAGE = msgspec.json.Decoder(Message)
_BOARD = msgspec.json.Decoder(_Board)
# A board shows this many rows: an answer whose rank is below cannot be seen on it.
BOARD_ROWS = 10


@dataclass
class Counts:
    """What the players saw. Times in s; latencies from the scheduled moment, push delays from the result."""

    acknowledged: Acknowledged = field(default_factory=dict)
    ack_s: list[float] = field(default_factory=list)
    push_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    boards: int = 0
    measuring: bool = False

    def error(self, code: str) -> None:
        self.errors[code] = self.errors.get(code, 0) + 1


class Player:
    """One socket: sends on time, notes when its result and the board with it come."""

    __slots__ = ("counts", "line", "session_id", "user_id", "waiting", "wanted")

    def __init__(self, counts: Counts, session_id: str, user_id: str) -> None:
        self.counts = counts
        self.session_id = session_id
        self.user_id = user_id
        self.line: Line | None = None
        self.waiting: dict[str, float] = {}
        self.wanted: tuple[int, float] | None = None

    def answer(self, question_id: str, due: float) -> None:
        assert self.line is not None
        choice = "right" if random.random() < RIGHT_SHARE else "wrong"
        self.waiting[question_id] = due
        self.counts.sent += 1
        self.line.send(
            b'{"type":"answer","question_id":"%b","choice":"%b","ref":"%b"}'
            % (question_id.encode(), choice.encode(), question_id.encode())
        )

    def frame(self, frame: bytes) -> None:
        counts = self.counts
        if frame.startswith(BOARD):
            if counts.measuring:
                counts.boards += 1
            if self.wanted is not None:
                self._look(frame)
            return
        if b'"ref":"q' not in frame:
            return
        message = _MESSAGE.decode(frame)
        due = self.waiting.pop(message.ref, None)
        if due is None:
            return
        now = time.perf_counter()
        if message.type == "error":
            counts.error(message.code)
            return
        counts.acknowledged[self.session_id, message.ref, self.user_id] = message.points
        counts.ack_s.append(now - due)
        if message.points and message.rank and message.rank <= BOARD_ROWS and self.wanted is None:
            self.wanted = message.total, now

    def _look(self, frame: bytes) -> None:
        assert self.wanted is not None
        total, since = self.wanted
        mine = next((row for row in _BOARD.decode(frame).entries if row.user_id == self.user_id), None)
        # Others may have passed: then no board shows it, and the wait is given up.
        if mine is None or mine.points >= total:
            if mine is not None:
                self.counts.push_s.append(time.perf_counter() - since)
            self.wanted = None


@dataclass
class Session:
    """One game: its PIN, its host's headers, the process that is asked for its moves, its players and their tokens."""

    session_id: str
    pin: str
    headers: dict[str, str]
    http: LeanHttp
    port: int
    players: list[Player] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


class Crowd:
    """All sessions and players of a run."""

    def __init__(self, stack: Stack, quiz_ids: Sequence[str]) -> None:
        self.counts = Counts()
        self.sessions: list[Session] = []
        self._stack = stack
        self._quiz_ids = quiz_ids
        self._doors = [(port, LeanHttp(port, JOINS_AT_ONCE)) for port in stack.settings.api_ports]

    @property
    def players(self) -> list[Player]:
        return [player for session in self.sessions for player in session.players]

    async def join(self, players: int, size: int) -> None:
        """Sessions of `size` with their players, by the importer's key: no limit counts it."""
        turns = asyncio.Semaphore(JOINS_AT_ONCE)
        places = ((quiz, door) for _ in itertools.count() for quiz in self._quiz_ids for door in self._doors)
        for quiz_id, (port, http) in itertools.islice(places, math.ceil(players / size)):
            made = await self._post(http, "/v1/sessions", {"quiz_id": quiz_id}, self._stack.key)
            host = {"Authorization": f"Bearer {made['token']}"}
            self.sessions.append(Session(made["session_id"], made["pin"], host, http, port))

        async def one(session: Session, number: int) -> None:
            async with turns:
                body = {"pin": session.pin, "name": f"player {number}"}
                joined = await self._post(session.http, "/v1/join", body, self._stack.key)
            session.players.append(Player(self.counts, session.session_id, joined["user_id"]))
            session.tokens.append(joined["token"])

        await asyncio.gather(*(one(self.sessions[n // size], n) for n in range(players)))

    async def connect(self) -> None:
        """Every player's socket, on the process that holds the session."""
        turns = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def one(player: Player, port: int, token: str) -> None:
            async with turns:
                player.line = await open_line(f"ws://127.0.0.1:{port}/v1/live?token={token}", player.frame)

        pairs = [
            (s, player, token)
            for s in self.sessions
            for player, token in zip(s.players, s.tokens, strict=True)
        ]
        await asyncio.gather(*(one(player, session.port, token) for session, player, token in pairs))

    async def play(
        self, seconds: float, round_s: float, shares: tuple[float, float] = (FROM_SHARE, TO_SHARE)
    ) -> None:
        """Rounds by the schedule for so many seconds, and a little longer for what is still on its way.

        shares: of a round, from where to where its answers come.
        """
        begin = time.perf_counter() + 1.0
        rounds = max(2, round(seconds / round_s))
        moves: set[asyncio.Task[None]] = set()
        opens = [
            (begin + round_s * (number + at / len(self.sessions)), at, number)
            for number in range(rounds)
            for at in range(len(self.sessions))
        ]
        due: list[tuple[float, int, Player, str]] = []
        order = itertools.count()
        coming = iter(sorted(opens))
        upcoming = next(coming, None)
        self.counts.measuring = True
        while upcoming or due:
            now = time.perf_counter()
            while upcoming and upcoming[0] <= now:
                at, index, number = upcoming
                session = self.sessions[index]
                task = asyncio.create_task(self._next(session))
                moves.add(task)
                task.add_done_callback(moves.discard)
                for player in session.players:
                    when = at + round_s * random.uniform(*shares)
                    heapq.heappush(due, (when, next(order), player, f"q{number}"))
                upcoming = next(coming, None)
            while due and due[0][0] <= now:
                when, _, player, question = heapq.heappop(due)
                player.answer(question, when)
            await asyncio.sleep(0.001)
        self.counts.measuring = False
        await asyncio.gather(*moves)
        deadline = time.perf_counter() + GRACE_S
        while any(player.waiting for player in self.players) and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        for _ in range(sum(len(player.waiting) for player in self.players)):
            self.counts.error("no_reply")
        for _ in range(sum(player.line is None or player.line.lost for player in self.players)):
            self.counts.error("socket_lost")

    def close(self) -> None:
        for player in self.players:
            if player.line is not None and player.line.transport is not None:
                player.line.transport.abort()
        for _, http in self._doors:
            http.close()

    async def _next(self, session: Session) -> None:
        path = f"/v1/sessions/{session.session_id}/next"
        try:
            status, body = await session.http.request("POST", path, b"", session.headers)
        except (OSError, EOFError) as error:
            self.counts.error(f"move_{type(error).__name__}")
            return
        if status != 200:
            self.counts.error(f"move_{json.loads(body).get('code', status)}")

    async def _post(self, http: LeanHttp, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        status, reply = await http.request("POST", path, json.dumps(body).encode(), headers)
        if status != 201:
            raise RuntimeError(f"{path} answered {status}: {reply[:300].decode(errors='replace')}")
        return json.loads(reply)
