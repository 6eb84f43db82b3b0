"""Where sessions are kept: all a running one needs is on its quiz's shard (the do layer).

Postgres is asked only when a session is created or joined, never while it runs.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from contracts import names
from contracts.boards import Scope
from contracts.errors import BadInput
from contracts.identity import valid_id
from contracts.ranking import SHORT_SESSION_US, session_tick_ms
from contracts.scoring import DEFAULT_RULE
from serving.connections import Connections
from serving.sessions.machine import LOBBY, ORDER_FIELD, Question, Session

_MOVE = (Path(__file__).parent / "move_session.lua").read_text()
PIN_DIGITS = 6
# A PIN that is found again within a day would lead players into an old session.
PIN_LIFE_S = 24 * 3600
# With a million PINs and a few thousand sessions a second try is rare, a tenth never seen.
PIN_TRIES = 10
MAX_PLAYERS = 2_000
# Sessions whose shard one process remembers: about 20 MB; beyond, the oldest is looked for again.
REMEMBERED_SESSIONS = 100_000
NAME_LENGTH = 24


def now_us() -> int:
    """The server's clock, UTC µs; readiness holds it within 50 ms of Redis TIME."""
    return time.time_ns() // 1000


def unknown_session(session_id: str) -> BadInput:
    return BadInput("unknown_session", f"there is no session {session_id[:80]!r}", status=404)


def unknown_pin(pin: str) -> BadInput:
    return BadInput("unknown_pin", f"no open session has the PIN {pin[:12]!r}", status=404)


class SessionStore:
    """Reads and writes sessions. Remembers which shard has a session, since it never moves while it runs."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._moves = [client.register_script(_MOVE) for client in connections.texts]

    async def shard_of(self, session_id: str) -> int:
        """The shard that holds a session. Raises BadInput(unknown_session, 404)."""
        known = self.connections.session_shards.get(session_id)
        if known is not None:
            return known
        if valid_id(session_id):  # anything else could be part of another kind of key
            for shard, client in enumerate(self.connections.texts):
                if await client.exists(names.session(session_id)):
                    self._remember(session_id, shard)
                    return shard
        raise unknown_session(session_id)

    def _remember(self, session_id: str, shard: int) -> None:
        shards = self.connections.session_shards
        if len(shards) >= REMEMBERED_SESSIONS:
            shards.pop(next(iter(shards)))
        shards[session_id] = shard

    async def load(self, session_id: str) -> Session:
        """The session as it is now. Raises BadInput(unknown_session, 404)."""
        fields = await self.connections.texts[await self.shard_of(session_id)].hgetall(
            names.session(session_id)
        )
        if not fields:
            raise unknown_session(session_id)
        return Session.from_hash(session_id, fields)

    async def questions(self, session_id: str) -> list[Question]:
        """The session's own copy of its quiz, in order."""
        client = self.connections.texts[await self.shard_of(session_id)]
        fields = await client.hgetall(names.session_questions(session_id))
        order = json.loads(fields.get(ORDER_FIELD, "[]"))
        return [Question.from_json(fields[question_id]) for question_id in order]

    async def players(self, session_id: str) -> dict[str, str]:
        """user_id → name of everyone who joined."""
        client = self.connections.texts[await self.shard_of(session_id)]
        return await client.hgetall(names.session_players(session_id))

    async def move(self, session: Session, fields: dict[str, Any]) -> bool:
        """Writes a decided move if the epoch is still the one it was decided on, and tells every api process."""
        shard = await self.shard_of(session.session_id)
        flat = [item for pair in {**fields, "last_write_us": now_us()}.items() for item in pair]
        moved = await self._moves[shard](
            keys=[names.session(session.session_id)], args=[session.epoch, *flat]
        )
        if moved == 1:
            await self.connections.texts[shard].publish(names.channel(session.session_id), "state")
        return moved == 1

    async def create(self, quiz: dict[str, Any], questions: list[Question], host_id: str) -> Session:
        """Creates a session in its lobby.

        Steps: 1 PIN; 2 row in Postgres; 3 hash, questions and idle mark in one transaction. A crash after 1 leaves a
        PIN that ends by itself, after 2 a row that nothing refers to as well.
        """
        session_id, started = uuid.uuid4().hex, now_us()
        shard = self.connections.ring.shard_of(quiz["quiz_id"])
        client, tick_ms = self.connections.texts[shard], session_tick_ms(SHORT_SESSION_US)
        pin = await self._free_pin(session_id)  # 1
        async with self.connections.sql() as sql:  # 2
            await sql.execute(
                "insert into sessions (session_id, quiz_id, pin, host_id, origin, shard, started_at_us, tick_ms, rule)"
                " values (%s, %s, %s, %s, 'live', %s, %s, %s, %s)",
                [session_id, quiz["quiz_id"], pin, host_id, shard, started, tick_ms, DEFAULT_RULE],
            )
            await sql.execute(
                "insert into quiz_rules (quiz_id, rule) values (%s, %s) on conflict do nothing",
                [quiz["quiz_id"], DEFAULT_RULE],
            )
        fields = {
            "quiz_id": quiz["quiz_id"],
            "quiz_zone": quiz["zone"],
            "title": quiz["title"],
            "host_id": host_id,
            "pin": pin,
            "origin": "live",
            "state": LOBBY,
            "epoch": 0,
            "question_index": -1,
            "question_id": "",
            "shown_at_us": 0,
            "deadline_us": 0,
            "started_at_us": started,
            "tick_ms": tick_ms,
            "rule": DEFAULT_RULE,
            "questions": len(questions),
            "last_write_us": started,
        }
        copies = {question.question_id: question.to_json() for question in questions}
        copies[ORDER_FIELD] = json.dumps([question.question_id for question in questions])
        async with client.pipeline(transaction=True) as pipe:  # 3
            pipe.hset(names.session(session_id), mapping=fields)
            pipe.hset(names.session_questions(session_id), mapping=copies)
            pipe.zadd(names.idle_sessions(), {session_id: started})
            await pipe.execute()
        self._remember(session_id, shard)
        return Session.from_hash(session_id, {name: str(value) for name, value in fields.items()})

    def _pins(self, pin: str) -> Redis:
        """The shard that keeps a PIN, whichever shard has its session: two sessions can't take the same one."""
        return self.connections.texts[int(pin) % len(self.connections.texts)]

    async def _free_pin(self, session_id: str) -> str:
        for _ in range(PIN_TRIES):
            pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}d}"
            if await self._pins(pin).set(names.pin(pin), session_id, nx=True, ex=PIN_LIFE_S):
                return pin
        raise BadInput("overloaded", "no free PIN was found", status=503, next_step="try again")

    async def by_pin(self, pin: str) -> Session:
        """The open session of a PIN. Raises BadInput(unknown_pin, 404)."""
        session_id = await self._pins(pin).get(names.pin(pin))
        if session_id is None:
            raise unknown_pin(pin)
        try:
            return await self.load(str(session_id))
        except BadInput as error:  # sealed since, or never made
            raise unknown_pin(pin) from error

    async def new_guest(self, name: str) -> tuple[str, int]:
        """A new user's random id and dense number."""
        user_id = uuid.uuid4().hex
        async with self.connections.sql() as sql:
            found = await sql.execute(
                "insert into users (user_id, name, origin) values (%s, %s, 'live') returning user_no",
                [user_id, name],
            )
            row = await found.fetchone()
        assert row is not None
        return user_id, int(row[0])

    async def join(self, session: Session, user_id: str, name: str) -> None:
        """Puts a player on the session's list and, with 0 points, on its board."""
        shard = await self.shard_of(session.session_id)
        client = self.connections.texts[shard]
        if await client.hlen(names.session_players(session.session_id)) >= MAX_PLAYERS:
            raise BadInput("overloaded", f"a session takes {MAX_PLAYERS} players", status=409)
        await client.hset(names.session_players(session.session_id), user_id, name)
        await self.connections.shards.clients[shard].zadd(
            self.board_key(session.session_id), {user_id: 0}, nx=True
        )
        await client.publish(names.channel(session.session_id), "joined")

    async def forget_pin(self, session: Session) -> None:
        """An ended session can't be joined."""
        await self._pins(session.pin).delete(names.pin(session.pin))

    @staticmethod
    def board_key(session_id: str) -> str:
        """The session board's key; parsing the scope refuses an id that is not one."""
        Scope.parse(names.session_scope(session_id))
        return names.session_board(session_id)
