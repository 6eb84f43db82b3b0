"""Where sessions are kept: all a running one needs is on its quiz's shard (the do layer).

Postgres is asked only when a session is created or joined, never while it runs.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from contracts import names
from contracts.errors import BadInput
from contracts.identity import valid_id
from serving.boards.acknowledged import ScriptRunner
from serving.boards.session_boards import answer_reads, read_state, session_reads
from serving.connections import Connections
from serving.sessions import pacing
from serving.sessions.challenge import Place
from serving.sessions.machine import Move
from serving.sessions.session import ORDER_FIELD, Question, Session

_HERE = Path(__file__).parent
# A stadium. Reading who is connected costs some ms a look then, four times a second while people come and go.
MAX_PLAYERS = 10_000
# Sessions whose shard one process remembers: about 20 MB; beyond, the oldest is looked for again.
REMEMBERED_SESSIONS = 100_000
# Sessions whose questions one process remembers: about 100 MB of quizzes of 24 questions; beyond, the oldest's are read again.
REMEMBERED_QUESTIONS = 5_000
_JOIN_ERRORS = {
    "ended": ("session_ended", 409, "has ended"),
    "locked": ("session_locked", 409, "is locked by its host"),
    "full": ("session_full", 409, f"takes {MAX_PLAYERS} players"),
    "removed": ("player_removed", 403, "has removed this player"),
}


def now_us() -> int:
    """The server's clock, UTC µs; readiness holds it within 50 ms of Redis TIME."""
    return time.time_ns() // 1000


def unknown_session(session_id: str) -> BadInput:
    return BadInput("unknown_session", f"there is no session {session_id[:80]!r}", status=404)


class SessionStore:
    """Reads and writes sessions. Remembers which shard has a session, since it never moves while it runs."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._questions: dict[str, list[Question]] = {}

        # Reads that all players of a process ask for at once.
        self.reads = [session_reads(address) for address in connections.settings.shards]
        self.kept = [answer_reads(address) for address in connections.settings.shards]
        texts = (
            (_HERE / f"{name}.lua").read_text(encoding="utf-8")
            for name in ("move_session", "look_again", "show_question")
        )
        self._move, self._look, self._show = texts
        self.scripts = [
            ScriptRunner(client, address)
            for client, address in zip(connections.texts, connections.settings.shards, strict=True)
        ]

    def close(self) -> None:
        """Closes the lines that are its own."""
        for ticks in (*self.reads, *self.kept):
            ticks.close()

    async def shard_of(self, session_id: str) -> int:
        """The shard that holds a session.

        Raises BadInput(unknown_session, 404), and RedisError if none has it of those that answer and one does not.
        """
        known = self.connections.session_shards.get(session_id)
        if known is not None:
            return known
        away: RedisError | None = None
        if valid_id(session_id):  # anything else could be part of another kind of key
            for shard, client in enumerate(self.connections.texts):
                try:
                    found = await client.exists(names.session(session_id))
                except RedisError as error:
                    away = error
                    continue
                if found:
                    self.remember(session_id, shard)
                    return shard
        if away is not None:
            raise away
        raise unknown_session(session_id)

    def remember(self, session_id: str, shard: int) -> None:
        """Notes the shard of a session."""
        shards = self.connections.session_shards
        if len(shards) >= REMEMBERED_SESSIONS:
            shards.pop(next(iter(shards)))
        shards[session_id] = shard

    async def client_of(self, session_id: str) -> Any:
        """The text client of a session's shard. Raises BadInput(unknown_session, 404)."""
        return self.connections.texts[await self.shard_of(session_id)]

    async def load(self, session_id: str) -> Session:
        """The session as it is now, its removed players with it. Raises BadInput(unknown_session, 404)."""
        fields, removed = await read_state(self.reads[await self.shard_of(session_id)], session_id)
        if not fields:
            raise unknown_session(session_id)
        return Session.from_hash(session_id, fields, removed)

    async def questions(self, session_id: str) -> list[Question]:
        """The session's own copy of its quiz, in order; it never changes, so it is read once."""
        known = self._questions.get(session_id)
        if known is not None:
            return known
        fields = await (await self.client_of(session_id)).hgetall(names.session_questions(session_id))
        order = json.loads(fields.get(ORDER_FIELD, "[]"))
        found = [Question.from_json(fields[question_id]) for question_id in order]
        if found:
            if len(self._questions) >= REMEMBERED_QUESTIONS:
                self._questions.pop(next(iter(self._questions)))
            self._questions[session_id] = found
        return found

    async def players(self, session_id: str) -> dict[str, str]:
        """user_id → name of everyone who joined."""
        return await (await self.client_of(session_id)).hgetall(names.session_players(session_id))

    async def move(self, session: Session, fields: Move, remove: str = "", readmit: str = "") -> bool:
        """Writes a decided move if the epoch is still the one it was decided on, and tells every api process.

        False: another move came first. `remove` or `readmit` names the player whom the move is about.
        """
        flat = [item for pair in {**fields, "last_write_us": now_us()}.items() for item in pair]
        timing = ("state", "deadline_us", "phase_at_us", "paused_at_us")
        after = replace(session, **{name: fields[name] for name in timing if name in fields})
        due_us = pacing.look_at_us(after)
        about = ("remove", remove) if remove else ("readmit", readmit) if readmit else ("", "")
        moved = await self.scripts[await self.shard_of(session.session_id)].run(
            self._move,
            keys=[
                names.session(session.session_id),
                names.session_removed(session.session_id),
                names.due_sessions(),
            ],
            argv=[
                session.epoch,
                session.session_id,
                "" if due_us is None else due_us,
                *about,
                names.channel(session.session_id),
                *flat,
            ],
        )
        return bool(moved == 1)

    async def look_again(
        self, shard: int, session_id: str, epoch: int, at_us: int | None, host_seen_us: int | None = None
    ) -> None:
        """Says when a session that was looked at is looked at next (None: when it moves)."""
        await self.scripts[shard].run(
            self._look,
            keys=[names.session(session_id), names.due_sessions()],
            argv=[
                epoch,
                session_id,
                "" if at_us is None else at_us,
                "" if host_seen_us is None else host_seen_us,
            ],
        )

    async def due(self, shard: int, before_us: int, limit: int) -> list[str]:
        """Sessions of a shard in which something may be due by itself, the longest waiting first."""
        found: list[str] = await self.reads[shard].command(
            "ZRANGEBYSCORE", names.due_sessions(), "-inf", before_us, "LIMIT", 0, limit
        )
        return found

    async def put_off(self, shard: int, session_id: str, until_us: int) -> None:
        """Looks at a due session later. One that has moved meanwhile is looked at earlier than it asked for: harmless."""
        await self.connections.texts[shard].zadd(names.due_sessions(), {session_id: until_us}, xx=True)

    async def place(self, session_id: str, user_id: str) -> Place:
        """Where a challenge's player is."""
        client = await self.client_of(session_id)
        return Place.decode(await client.hget(names.session_places(session_id), user_id))

    async def move_place(self, session: Session, user_id: str, place: Place, wanted: Place) -> Place | None:
        """Moves a challenge's player on; the place now. None: the session has moved, decide again."""
        moved, found = await self.scripts[await self.shard_of(session.session_id)].run(
            self._show,
            keys=[names.session(session.session_id), names.session_places(session.session_id)],
            argv=[session.epoch, user_id, place.encode(), wanted.encode()],
        )
        if moved == 0 and found == place.encode():
            return None
        return Place.decode(found)

    async def kept_answer(
        self, session_id: str, question_id: str, user_id: str
    ) -> tuple[int, int, int, bool] | None:
        """(points, occurred_at_us, seq, correct) of a counted answer, or None. Raises SystemMissing if a replica lacks it."""
        kept = await self.kept[await self.shard_of(session_id)].command(
            "HGET", names.session_answers(session_id), names.duplicate_field(question_id, user_id)
        )
        if kept is None:
            return None
        points, occurred, seq, correct = kept.split("|", 4)[:4]
        return int(points), int(occurred), int(seq), correct == "1"

    async def join(self, session: Session, user_id: str, name: str) -> None:
        """Puts a player on the session's list and, with 0 points, on its board.

        Raises BadInput: session_ended, session_locked, session_full (409), player_removed (403), unknown_session.
        """
        shard = await self.shard_of(session.session_id)
        told = await self.connections.shards.join_session(
            shard, session.session_id, user_id, name, MAX_PLAYERS
        )
        if told == "unknown":
            raise unknown_session(session.session_id)
        if told in _JOIN_ERRORS:
            code, status, why = _JOIN_ERRORS[told]
            raise BadInput(code, f"session {session.session_id} {why}", status=status)
