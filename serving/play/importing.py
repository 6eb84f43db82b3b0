"""Import: lines → events → the same script as play; the slow path for sealed sessions (CONTRACTS A3, A4).

A line of a sealed session is checked against history under the session's lock: wait until history has all that the
outbox holds, look for its event id, write what is new to the outbox alone, wait until history has that too. A crash at
any point leaves either nothing or a counted entry, which the next try finds in history as a repeat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts import scoring
from contracts.errors import SystemMissing
from contracts.events import AnswerEvent
from contracts.identity import event_id
from serving.boards.shards import COUNTED, IMPORT, LATE, REPEAT, Outcome, Shards
from serving.play import boards_since
from serving.play.import_facts import Facts, SessionFacts
from serving.play.import_lines import ImportLine, Refusal, parse
from serving.play.record import AnswerBatcher, to_record

# How long the slow path waits for the relay before it gives the request back to be sent again.
_HISTORY_WAIT_S = 10.0
_POLL_S = 0.02
# Tries after `stale`: the first learns the session again; a second `stale` is the shard's answer.
_TRIES = 3

Sql = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection]]


# events → the repeats among them by event id, from where answers rest after history.
Archived = Callable[[Sequence[AnswerEvent]], Awaitable[dict[str, Outcome]]]


def clock_us() -> int:
    """UTC µs."""
    return time.time_ns() // 1_000


def event_of(line: ImportLine, session: SessionFacts, user_no: int) -> AnswerEvent:
    """The event of an import line."""
    return AnswerEvent(
        event_id=event_id(line.session_id, line.question_id, line.user_id),
        origin="import",
        occurred_at_us=line.occurred_at_us,
        user_id=line.user_id,
        user_no=user_no,
        session_id=line.session_id,
        session_started_at_us=session.started_at_us,
        session_tick_ms=session.tick_ms,
        quiz_id=session.quiz_id,
        quiz_zone=session.zone,
        quiz_version=1,
        question_id=line.question_id,
        question_type="imported",
        skill_tags=tuple(line.skill_tags),
        choice=line.choice,
        correct=line.correct,
        elapsed_ms=line.elapsed_ms,
        time_limit_ms=line.time_limit_ms,
        rule=line.rule,
        points=scoring.points(line.rule, line.correct, line.elapsed_ms, line.time_limit_ms),
    )


def _refused(code: str) -> Outcome:
    return Outcome(code, 0, 0, 0, False)


async def nothing_archived(events: Sequence[AnswerEvent]) -> dict[str, Outcome]:
    """Which of these answers are in the lake alone: none, where there is no lake."""
    return {}


class Importer:
    """Records import requests. `now` is the clock, passed in for tests; `archived` finds what history no longer has."""

    def __init__(
        self,
        shards: Shards,
        batcher: AnswerBatcher,
        sql: Sql,
        now: Callable[[], int] = clock_us,
        archived: Archived = nothing_archived,
    ) -> None:
        self.shards = shards
        self.batcher = batcher
        self.sql = sql
        self.now = now
        self.archived = archived
        self.facts = Facts(shards)

    async def import_body(self, body: bytes) -> dict[str, Any]:
        """The reply of POST /v1/import/answers: counts, and an outcome a line (`line` counts from 1)."""
        lines, refusals = parse(body, self.now())
        outcomes = dict(
            zip((number for number, _ in lines), await self.record([line for _, line in lines]), strict=True)
        )
        return _reply(outcomes, refusals)

    async def record(self, lines: Sequence[ImportLine]) -> list[Outcome]:
        """Outcomes of lines that are in order of arrival. A repeat of the call is harmless.

        Raises SystemMissing where a shard or Postgres is away: some may be recorded; send all again unchanged.
        """
        outcomes: list[Outcome] = [_refused("stale")] * len(lines)
        todo = list(range(len(lines)))
        for _ in range(_TRIES):
            if not todo:
                break
            try:
                await self._try([lines[i] for i in todo], todo, outcomes)
            except (RedisConnectionError, RedisTimeoutError) as error:
                raise SystemMissing("system_missing", f"a Valkey shard does not answer: {error}") from error
            todo = [i for i in todo if outcomes[i].status in ("stale", "session_sealed")]
            for i in todo:
                self.facts.sessions.pop(lines[i].session_id, None)
        return outcomes

    async def _try(self, lines: Sequence[ImportLine], places: Sequence[int], outcomes: list[Outcome]) -> None:
        async with self.sql() as sql:
            since_us = await boards_since.read(sql)
            known = await self.facts.learn(sql, lines)
            if not any(_before(line, known[1][line.session_id], since_us) for line in lines):
                held = False
            else:  # such an answer stays out of a board: `boards_since` must not move until it is recorded
                held = True
                async with sql.transaction():
                    since_us = await boards_since.read(sql, hold=True)
                    await self._record_known(lines, places, outcomes, since_us, *known)
        if not held:
            await self._record_known(lines, places, outcomes, since_us, *known)

    async def _record_known(
        self,
        lines: Sequence[ImportLine],
        places: Sequence[int],
        outcomes: list[Outcome],
        since_us: int,
        numbers: Mapping[str, int],
        sessions: Mapping[str, SessionFacts],
    ) -> None:
        """Record lines whose users and sessions are known: the fast path, and the slow one for sealed sessions."""
        fast: list[tuple[int, AnswerEvent]] = []
        slow: dict[str, list[tuple[int, AnswerEvent]]] = {}
        for place, line in zip(places, lines, strict=True):
            session = sessions[line.session_id]
            if session.quiz_id != line.quiz_id:
                outcomes[place] = _refused("session_quiz_mismatch")
                continue
            event = event_of(line, session, numbers[line.user_id])
            if session.sealed:
                slow.setdefault(line.session_id, []).append((place, event))
            else:
                fast.append((place, event))
        recorded = await self.batcher.record([to_record(event, since_us, mode=IMPORT) for _, event in fast])
        for (place, event), outcome in zip(fast, recorded, strict=True):
            outcomes[place] = outcome
            if outcome.status == "session_sealed":
                slow.setdefault(event.session_id, []).append((place, event))
        for session_id, items in slow.items():
            for (place, _), outcome in zip(
                items, await self._record_sealed(session_id, sessions[session_id].shard, items), strict=True
            ):
                outcomes[place] = outcome

    async def _record_sealed(
        self, session_id: str, shard: int, items: list[tuple[int, AnswerEvent]]
    ) -> list[Outcome]:
        """The slow path, for one session's lines in order.

        1 lock the session; 2 wait until history has the outbox; 3 find repeats in history and the archive; 4 write the rest to
        the outbox alone; 5 wait until history has it; 6 unlock. A crash after 4 is found by the next try's step 2 and 3.
        """
        async with self.sql() as sql, sql.transaction():
            await sql.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"sealed/{session_id}",)
            )
            await self._wait_for_history(shard, await self.shards.last_seq(shard))
            known = await self._in_history([event.event_id for _, event in items])
            known |= await self.archived([e for _, e in items if e.event_id not in known])
            new: dict[str, AnswerEvent] = {}
            for _, event in items:
                if event.event_id not in known:
                    new.setdefault(event.event_id, event)
            written = dict(
                zip(
                    new,
                    await self.batcher.record([to_record(e, 0, mode=LATE) for e in new.values()]),
                    strict=True,
                )
            )
            await self._wait_for_history(shard, max((o.seq for o in written.values()), default=0))
        return [
            known.get(event.event_id) or _first_then_repeat(written, known, event.event_id)
            for _, event in items
        ]

    async def _in_history(self, event_ids: list[str]) -> dict[str, Outcome]:
        """The repeats that history knows. On a connection of its own: a transaction that has read history and goes on
        would keep the relay from making the partition of a new, or an archived, month.
        """
        async with self.sql() as sql:
            found = await sql.execute(
                "SELECT event_id::text, points, occurred_at_us, seq, correct FROM history WHERE event_id = ANY(%s::uuid[])",
                (event_ids,),
            )
            return {row[0]: Outcome(REPEAT, *row[1:]) for row in await found.fetchall()}

    async def history_has_all(self) -> None:
        """Until history has what the outboxes hold now. Raises SystemMissing when the relay is too far behind."""
        for shard in range(len(self.shards)):
            await self._wait_for_history(shard, await self.shards.last_seq(shard))

    async def _wait_for_history(self, shard: int, seq: int) -> None:
        """Until history's position is at least `seq`. Raises SystemMissing: send the request again unchanged."""
        deadline = time.monotonic() + _HISTORY_WAIT_S
        while True:
            async with self.sql() as sql:
                found = await (
                    await sql.execute(
                        "SELECT position FROM relay_position WHERE sink = 'history' AND shard = %s", (shard,)
                    )
                ).fetchone()
            if (found[0] if found else 0) >= seq:
                return
            if time.monotonic() > deadline:
                raise SystemMissing(
                    "system_missing",
                    f"the relay has not brought history of shard {shard} to {seq}",
                    next_step="look at the relay in ./lakeboard status, then send it again",
                )
            await asyncio.sleep(_POLL_S)


def _first_then_repeat(written: dict[str, Outcome], known: dict[str, Outcome], ident: str) -> Outcome:
    """The written outcome the first time it is asked for, and a repeat of it afterwards."""
    outcome = written[ident]
    known[ident] = Outcome(REPEAT, outcome.points, outcome.occurred_at_us, outcome.seq, outcome.correct)
    return outcome


def _before(line: ImportLine, session: SessionFacts, since_us: int) -> bool:
    """Whether Redis may leave this answer out of a board: every board of an answer ends after the answer."""
    return min(line.occurred_at_us, session.started_at_us) < since_us


def _reply(outcomes: dict[int, Outcome], refusals: dict[int, Refusal]) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    counts = {"counted": 0, "repeated": 0, "refused": 0}
    for number in sorted(outcomes.keys() | refusals.keys()):
        outcome = outcomes.get(number)
        if outcome is None:
            refusal = refusals[number]
            lines.append(
                {"line": number, "status": "refused", "code": refusal.code, "detail": refusal.detail}
            )
        elif outcome.kept:
            lines.append(
                {"line": number, "status": outcome.status, "points": outcome.points, "seq": outcome.seq}
            )
        else:
            lines.append({"line": number, "status": "refused", "code": outcome.status, "detail": ""})
        status = lines[-1]["status"]
        counts["repeated" if status == REPEAT else COUNTED if status == COUNTED else "refused"] += 1
    return {**counts, "lines": lines}
