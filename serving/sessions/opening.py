"""Sessions are made and found: PINs, guests, the row in Postgres and the keys on the quiz's shard (the do layer)."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contracts import names
from contracts.errors import BadInput, SystemMissing
from contracts.ranking import SHORT_SESSION_US, session_tick_ms
from contracts.scoring import DEFAULT_RULE
from serving.boards.acknowledged import ScriptRunner
from serving.connections import Connections
from serving.sessions import pacing
from serving.sessions.session import CHALLENGE, HOSTED, LOBBY, OPEN, ORDER_FIELD, Question, Session
from serving.sessions.store import SessionStore, now_us

PIN_DIGITS = 6
# A PIN that is found again within a day would lead players into an old session.
PIN_LIFE_S = 24 * 3600
# With a million PINs and a few thousand sessions a second try is rare, a tenth never seen.
PIN_TRIES = 10
# A challenge's board tells instants apart for 40 days; a month is the longest homework.
CHALLENGE_MAX_S = 31 * 24 * 3600
_FORGET = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


_CHANCE = secrets.SystemRandom()


def _shuffled(choices: Sequence[str]) -> tuple[str, ...]:
    return tuple(_CHANCE.sample(choices, len(choices)))


def unknown_pin(pin: str) -> BadInput:
    return BadInput("unknown_pin", f"no open session has the PIN {pin[:12]!r}", status=404)


class Opening:
    """Makes sessions and guests, and finds sessions by PIN."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.connections: Connections = store.connections

    async def create(
        self, quiz: dict[str, Any], questions: list[Question], host_id: str, open_for_s: int = 0
    ) -> Session:
        """Creates a hosted session in its lobby, or, with `open_for_s`, a challenge that is open for that long.

        quiz: quiz_id, title, zone, version. The session keeps the questions as they are now, their choices in an order of
        its own: by chance alone, so that nobody can work out from anything they see which one is right.

        Steps: 1 PIN; 2 row in Postgres; 3 hash, questions, idle and due marks in one transaction. A crash after 1
        leaves a PIN that ends by itself, after 2 a row that nothing refers to as well.
        """
        session_id, started = uuid.uuid4().hex, now_us()
        questions = [replace(one, choices=_shuffled(one.choices)) for one in questions]
        shard = self.connections.ring.shard_of(quiz["quiz_id"])
        lasts_us = open_for_s * 1_000_000
        tick_ms = session_tick_ms(lasts_us or SHORT_SESSION_US)
        mode = CHALLENGE if open_for_s else HOSTED
        pin = await self._free_pin(session_id, max(PIN_LIFE_S, open_for_s))  # 1
        await self._write_row(session_id, quiz, pin, host_id, shard, started, tick_ms, mode)  # 2
        fields = {
            "quiz_id": quiz["quiz_id"],
            "quiz_zone": quiz["zone"],
            "quiz_version": quiz["version"],
            "title": quiz["title"],
            "host_id": host_id,
            "pin": pin,
            "origin": "live",
            "mode": mode,
            "state": OPEN if open_for_s else LOBBY,
            "epoch": 0,
            "version": 1,
            "question_index": -1,
            "question_id": "",
            "shown_at_us": 0,
            "deadline_us": started + lasts_us if open_for_s else 0,
            "started_at_us": started,
            "phase_at_us": started,
            "host_seen_us": started,
            "tick_ms": tick_ms,
            "rule": DEFAULT_RULE,
            "questions": len(questions),
            "last_write_us": started,
            "answered": 0,
        }
        session = Session.from_hash(session_id, {name: str(value) for name, value in fields.items()})
        due_us = pacing.look_at_us(session)
        copies = {question.question_id: question.to_json() for question in questions}
        copies[ORDER_FIELD] = json.dumps([question.question_id for question in questions])
        async with self.connections.texts[shard].pipeline(transaction=True) as pipe:  # 3
            pipe.hset(names.session(session_id), mapping=fields)
            pipe.hset(names.session_questions(session_id), mapping=copies)
            pipe.zadd(names.idle_sessions(), {session_id: started})
            if due_us is not None:
                pipe.zadd(names.due_sessions(), {session_id: due_us})
            await pipe.execute()
        # A transaction can't wait for replicas. Reading it back can, and finds nothing where another was promoted since.
        if await self.store.scripts[shard].command("HGET", names.session(session_id), "quiz_id") is None:
            raise SystemMissing("system_missing", f"shard {shard} changes its primary", next_step="try again")
        self.store.remember(session_id, shard)
        return session

    async def _write_row(
        self,
        session_id: str,
        quiz: dict[str, Any],
        pin: str,
        host_id: str,
        shard: int,
        started: int,
        tick_ms: int,
        mode: str,
    ) -> None:
        quiz_id = quiz["quiz_id"]
        async with self.connections.sql() as sql:
            await sql.execute(
                "insert into sessions (session_id, quiz_id, quiz_version, pin, host_id, origin, shard, started_at_us,"
                " tick_ms, rule, mode) values (%s, %s, %s, %s, %s, 'live', %s, %s, %s, %s, %s)",
                [
                    session_id,
                    quiz_id,
                    quiz["version"],
                    pin,
                    host_id,
                    shard,
                    started,
                    tick_ms,
                    DEFAULT_RULE,
                    mode,
                ],
            )
            await sql.execute(
                "insert into quiz_rules (quiz_id, rule) values (%s, %s) on conflict do nothing",
                [quiz_id, DEFAULT_RULE],
            )

    def _pins(self, pin: str) -> ScriptRunner:
        """The shard that keeps a PIN, whichever shard has its session: two sessions can't take the same one."""
        return self.store.scripts[int(pin) % len(self.store.scripts)]

    async def _free_pin(self, session_id: str, life_s: int) -> str:
        for _ in range(PIN_TRIES):
            pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}d}"
            if await self._pins(pin).command("SET", names.pin(pin), session_id, "NX", "EX", life_s):
                return pin
        raise BadInput("overloaded", "no free PIN was found", status=503, next_step="try again")

    async def by_pin(self, pin: str) -> Session:
        """The open session of a PIN. Raises BadInput(unknown_pin, 404)."""
        session_id = await self._pins(pin).client.get(names.pin(pin))
        if session_id is None:
            raise unknown_pin(pin)
        try:
            return await self.store.load(str(session_id))
        except BadInput as error:  # sealed since, or never made
            raise unknown_pin(pin) from error

    async def forget_pin(self, session: Session) -> None:
        """An ended session can't be joined. A PIN that has gone to another session since is left alone."""
        if session.pin:
            key = names.pin(session.pin)
            await self._pins(session.pin).client.eval(_FORGET, 1, key, session.session_id)

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
