"""Where a report's answers come from: the session's shard while it has the session, Postgres' history once it is sealed.

A running session is reported from its shard alone, so Postgres may be away. What sealing deletes from the shard and no
answer tells (who joined, who was removed, how far it came) is in the session's row (`at_seal`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from contracts import names
from contracts.errors import BadInput
from serving.quizzes.library import questions_at
from serving.sessions import report
from serving.sessions.report import Answered, Played
from serving.sessions.session import CHALLENGE, HOSTED, SEALED, Session
from serving.sessions.store import SessionStore, unknown_session

# Fields a step of HSCAN: a stadium's answers are read in some hundred steps, between which the shard plays on.
_SCAN_FIELDS = 1_000
REDIS, HISTORY = "redis", "history"


@dataclass(frozen=True, slots=True)
class Source:
    """A session with everything that was counted in it. source: redis or history."""

    source: str
    session: Session
    played: Played
    answers: list[Answered]


def parse_kept(field: str, value: str) -> Answered:
    """The answer in one field of a session's answers (record_answers.lua)."""
    question_id, _, user_id = field.partition(":")
    points, occurred, _, correct, *detail = value.split("|", 5)
    elapsed, choice = detail if len(detail) == 2 else ("", "")
    return Answered(
        question_id, user_id, int(points), int(occurred), correct == "1",
        choice or None, int(elapsed) if elapsed else None,
    )  # fmt: skip


async def read(store: SessionStore, session_id: str) -> Source:
    """Everything of a session. Raises BadInput(unknown_session, session_sealed), SystemMissing, RedisError."""
    try:
        found = await _from_shard(store, session_id)
    except BadInput as error:
        if error.code != "unknown_session":
            raise
        found = None
    return found if found is not None else await _from_history(store, session_id)


async def _from_shard(store: SessionStore, session_id: str) -> Source | None:
    """None: it was sealed while it was read."""
    session = await store.load(session_id)
    questions = await store.questions(session_id)
    joined = await store.players(session_id)
    client = await store.client_of(session_id)
    answers: dict[str, Answered] = {}
    cursor: Any = None
    # An answer is written once and never changed: a scan has all that were there when it began, some of them twice.
    while cursor != 0:
        cursor, page = await client.hscan(
            names.session_answers(session_id), cursor=cursor or 0, count=_SCAN_FIELDS
        )
        for field, value in page.items():
            answers[field] = parse_kept(field, value)
    if not await client.exists(names.session(session_id)):
        return None
    played = Played(
        questions=report.asked(session, questions),
        names=joined,
        removed=session.removed,
        hidden=report.hidden(session, questions),
        anchor_us=session.started_at_us,
        tick_us=session.tick_ms * 1_000,
    )
    return Source(REDIS, session, played, list(answers.values()))


async def _from_history(store: SessionStore, session_id: str) -> Source:
    async with store.connections.sql() as sql:
        found = await sql.execute(
            "SELECT s.quiz_id, s.quiz_version, s.started_at_us, s.tick_ms, s.rule, s.at_seal, q.title FROM sessions s "
            "LEFT JOIN quizzes q USING (quiz_id) WHERE s.session_id = %s AND s.sealed_at IS NOT NULL",
            [session_id],
        )
        row = await found.fetchone()
        if row is None:
            raise unknown_session(session_id)
        quiz_id, version, started_at_us, tick_ms, rule, at_seal, title = row
        left = at_seal or {}
        answers = await _answers(sql, session_id, started_at_us)
        await _check_archived(sql, session_id, started_at_us)
        users = sorted({*left.get("players", ()), *(answer.user_id for answer in answers)})
        found = await sql.execute("SELECT user_id, name FROM users WHERE user_id = ANY(%s)", [users])
        known = {user: name for user, name in await found.fetchall() if name}
    questions = await questions_at(store.connections, quiz_id, version)
    answered = {answer.question_id for answer in answers}
    count = left.get("asked", 0)
    asked = tuple(q for place, q in enumerate(questions) if place < count or q.question_id in answered)
    mode = left.get("mode", HOSTED)
    session = Session(
        session_id, quiz_id, state=SEALED, mode=mode, title=title or "", started_at_us=started_at_us,
        tick_ms=tick_ms, rule=rule, removed=frozenset(left.get("removed", ())), quiz_version=version,
    )  # fmt: skip
    played = Played(
        questions=asked,
        names={user: known.get(user, "") for user in users},
        removed=session.removed,
        hidden=frozenset(),
        anchor_us=started_at_us,
        tick_us=tick_ms * 1_000,
    )
    return Source(HISTORY, session, played, answers)


async def _answers(sql: psycopg.AsyncConnection, session_id: str, started_at_us: int) -> list[Answered]:
    """The session's rows, by the index on its start: an id that is random for each would make every insert dearer."""
    found = await sql.execute(
        "SELECT question_id, user_id, points, occurred_at_us, correct, choice, elapsed_ms FROM history "
        "WHERE session_started_at_us = %s AND session_id = %s",
        [started_at_us, session_id],
    )
    return [Answered(*row) for row in await found.fetchall()]


async def _check_archived(sql: psycopg.AsyncConnection, session_id: str, started_at_us: int) -> None:
    """Raise BadInput(session_sealed) where answers may be in the lake alone; a restored session's are here again."""
    start = datetime.fromtimestamp(started_at_us / 1e6, UTC).date().replace(day=1)
    found = await sql.execute(
        "SELECT month FROM archived_months WHERE month >= %s AND month <= (SELECT sealed_at FROM sessions WHERE "
        "session_id = %s) AND NOT EXISTS (SELECT 1 FROM restored WHERE kind = 'session' AND id = %s) LIMIT 1",
        [start, session_id, session_id],
    )
    row = await found.fetchone()
    if row is not None:
        raise BadInput(
            "session_sealed",
            f"answers of {row[0]:%Y-%m} are archived",
            status=409,
            next_step=f"./lakeboard restore --session {session_id}",
        )


def at_seal(fields: dict[str, str], players: list[str], removed: list[str]) -> str:
    """What sealing keeps of a session in its row, as JSON: {mode, asked, players, removed}; names are with the users."""
    mode = fields.get("mode", HOSTED)
    index = int(fields.get("question_index", -1))
    asked = int(fields.get("questions") or 0) if mode == CHALLENGE else index + 1
    return json.dumps({"mode": mode, "asked": asked, "players": sorted(players), "removed": sorted(removed)})
