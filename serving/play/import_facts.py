"""What an import must know from Postgres first: users' numbers, and sessions; made where they are missing.

A session that is not sealed gets its hash on the shard while its row is held FOR SHARE, so that sealing (which updates
the row) cannot pass between the look and the making (CONTRACTS A3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.ranking import session_tick_ms
from serving.boards.shards import Shards
from serving.play.import_lines import ImportLine

# Users and sessions remembered a process: beyond, the oldest go and are looked up again.
_REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What was fixed when the session was created. sealed: its keys are gone; the slow path is the only way in."""

    quiz_id: str
    zone: str
    started_at_us: int
    tick_ms: int
    shard: int
    sealed: bool


def _forget_oldest(memory: dict[str, Any]) -> None:
    while len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]


class Facts:
    """Memory over Postgres. All statements insert sorted ids, so that two requests cannot lock each other out."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.user_numbers: dict[str, int] = {}
        self.sessions: dict[str, SessionFacts] = {}
        self._questions: dict[str, Any] = {}

    async def learn(
        self, sql: psycopg.AsyncConnection, lines: Sequence[ImportLine]
    ) -> tuple[dict[str, int], dict[str, SessionFacts]]:
        """The numbers of the lines' users and the facts of their sessions, made where they are missing.

        The caller's own copy: memory may forget them for another request's at any time.
        """
        numbers = {
            u: n for u in {line.user_id for line in lines} if (n := self.user_numbers.get(u)) is not None
        }
        known = {s: f for s in {line.session_id for line in lines} if (f := self.sessions.get(s)) is not None}
        users = sorted({line.user_id for line in lines} - numbers.keys())
        sessions = {line.session_id for line in lines} - known.keys()
        # The rule is part of the key: a quiz's rules are noted with its questions.
        questions = {f"{line.quiz_id} {line.question_id} {line.rule}": line for line in lines}
        questions = {key: line for key, line in questions.items() if key not in self._questions}
        if users:
            numbers |= await self._learn_users(sql, users)
        if questions:
            await self._make_quizzes(sql, list(questions.values()))
            self._questions.update(dict.fromkeys(questions))
            _forget_oldest(self._questions)
        if sessions:
            known |= await self._learn_sessions(sql, [line for line in lines if line.session_id in sessions])
        return numbers, known

    async def _learn_users(self, sql: psycopg.AsyncConnection, users: list[str]) -> dict[str, int]:
        look = "SELECT user_id, user_no FROM users WHERE user_id = ANY(%s)"
        found: dict[str, int] = dict(await (await sql.execute(look, (users,))).fetchall())
        missing = [user for user in users if user not in found]
        if missing:
            await sql.execute(
                "INSERT INTO users (user_id, origin) SELECT unnest(%s::text[]), 'import' "
                "ON CONFLICT DO NOTHING",
                (missing,),
            )
            found.update(dict(await (await sql.execute(look, (missing,))).fetchall()))
        self.user_numbers.update(found)
        _forget_oldest(self.user_numbers)
        return found

    async def _make_quizzes(self, sql: psycopg.AsyncConnection, lines: list[ImportLine]) -> None:
        zones = {line.quiz_id: line.quiz_zone for line in reversed(lines)}
        quizzes = sorted(zones)
        await sql.execute(
            "INSERT INTO quizzes (quiz_id, title, zone, origin) "
            "SELECT q, q, z, 'import' FROM unnest(%s::text[], %s::text[]) AS n (q, z) "
            "ON CONFLICT DO NOTHING",
            (quizzes, [zones[quiz] for quiz in quizzes]),
        )
        rules = sorted({(line.quiz_id, line.rule) for line in lines})
        await sql.execute(
            "INSERT INTO quiz_rules (quiz_id, rule) SELECT q, r FROM unnest(%s::text[], %s::text[]) AS n (q, r) "
            "ON CONFLICT DO NOTHING",
            ([quiz for quiz, _ in rules], [rule for _, rule in rules]),
        )
        pairs = sorted({(line.quiz_id, line.question_id) for line in lines})
        await sql.execute(
            "INSERT INTO questions (quiz_id, question_id, type) SELECT q, n, 'imported' "
            "FROM unnest(%s::text[], %s::text[]) AS m (q, n) ON CONFLICT DO NOTHING",
            ([quiz for quiz, _ in pairs], [question for _, question in pairs]),
        )

    async def _learn_sessions(
        self, sql: psycopg.AsyncConnection, lines: list[ImportLine]
    ) -> dict[str, SessionFacts]:
        first: dict[str, ImportLine] = {}
        for line in lines:  # in order of arrival, so the first is the earliest
            first.setdefault(line.session_id, line)
        rows = [
            (
                session,
                line.quiz_id,
                self.shards.shard_of(line.quiz_id),
                line.occurred_at_us if line.session_started_at_us is None else line.session_started_at_us,
                session_tick_ms(0, imported=True),
                line.rule,
            )
            for session, line in sorted(first.items())
        ]
        async with sql.transaction():
            await sql.execute(
                "INSERT INTO sessions (session_id, quiz_id, shard, started_at_us, tick_ms, rule, origin, ended_at) "
                "SELECT s, q, h, a, t, r, 'import', now() FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], "
                "%s::int[], %s::text[]) AS n (s, q, h, a, t, r) ON CONFLICT DO NOTHING",
                [list(column) for column in zip(*rows, strict=True)],
            )
            found = await (
                await sql.execute(
                    "SELECT s.session_id, s.quiz_id, q.zone, s.started_at_us, s.tick_ms, s.shard, s.sealed_at IS NOT NULL, "
                    "s.origin, s.rule FROM sessions s JOIN quizzes q USING (quiz_id) WHERE s.session_id = ANY(%s) "
                    "ORDER BY s.session_id FOR SHARE OF s",
                    (sorted(first),),
                )
            ).fetchall()
            by_shard: dict[int, list[tuple[str, dict[str, Any]]]] = {}
            for row in found:
                if not row[6]:
                    by_shard.setdefault(row[5], []).append((row[0], _hash_of(row)))
            for shard, hashes in sorted(by_shard.items()):
                await self.shards.create_sessions(shard, hashes)
        learned = {row[0]: SessionFacts(*row[1:7]) for row in found}
        self.sessions.update(learned)
        _forget_oldest(self.sessions)
        return learned


def _hash_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """The fields of an imported session's hash."""
    _, quiz, zone, started, tick, _, _, origin, rule = row
    return {
        "quiz_id": quiz,
        "quiz_zone": zone,
        "origin": origin,
        "state": "ended",
        "epoch": 0,
        "question_index": -1,
        "question_id": "",
        "shown_at_us": 0,
        "deadline_us": 0,
        "started_at_us": started,
        "tick_ms": tick,
        "rule": rule,
        "title": quiz,
        "host_id": "",
        "pin": "",
        "questions": 0,
    }
