"""A user's answers and sessions, newest first, a page at a time, from Postgres and the archive (the do layer).

One cursor goes over both. An answer may be on both sides (a month that was just archived, a restored user, a late
answer's month): it counts once. Whoever reads both reads Postgres first and the archived months after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contracts.answer_filters import EVERYTHING, AnswerFilters
from contracts.errors import BadInput
from contracts.periods import from_instant_us
from serving.connections import Connections
from serving.history import archive
from serving.history.asked import ALL_TIME, merged, months_that_matter, totals_of
from serving.quizzes.library import questions_at

COLUMNS = (
    "event_id",
    "occurred_at_us",
    "session_id",
    "quiz_id",
    "question_id",
    "choice",
    "correct",
    "elapsed_ms",
    "points",
    "rule",
)
# Sessions of one mode that a user may have in the archive: beyond, ask for less time.
SESSIONS_MAX = 20_000
# Answers of one user in one session: it has at most as many as its quiz has questions.
ANSWERS_MAX = 10_000
Place = tuple[int, str]
_SESSIONS = """
select h.session_id, h.quiz_id, h.session_started_at_us as started_at_us, min(h.occurred_at_us) as first_at_us,
  max(h.occurred_at_us) as last_at_us, count(*) as answered, count(*) filter (where h.correct) as right,
  sum(h.points)::bigint as points, coalesce(sum(h.elapsed_ms), 0)::bigint as elapsed_ms
from history h where h.user_id = %(user)s{more} group by 1, 2, 3 order by 3 desc, 1 desc limit %(limit)s"""
# What a session was: an imported one, or as its row says; sealing notes it too, for rows from before it was there.
_MODE = "case when s.origin = 'import' then 'import' else coalesce(s.mode, s.at_seal->>'mode', 'hosted') end"


def _conditions(filters: AnswerFilters, mode: str) -> tuple[str, dict[str, Any]]:
    """What filters say of rows of history `h`, and its values; without `when`."""
    more, values = "", dict[str, Any]()
    if filters.quiz_id:
        more += " and h.quiz_id = %(quiz)s"
        values["quiz"] = filters.quiz_id
    if filters.session_id:
        more += " and h.session_id = %(session)s"
        values["session"] = filters.session_id
    if filters.correct is not None:
        more += " and h.correct = %(correct)s"
        values["correct"] = filters.correct
    if mode:
        more += (
            f" and exists (select 1 from sessions s where s.session_id = h.session_id and {_MODE} = %(mode)s)"
        )
        values["mode"] = mode
    return more, values


async def page_of(
    connections: Connections,
    user_id: str,
    before: Place | None,
    limit: int,
    filters: AnswerFilters = EVERYTHING,
    mode: str = "",
) -> list[dict[str, Any]]:
    """The first `limit` answers before a place. Steps: 1 history; 2 the archived months (in this order, so that a month
    that is archived in between is on both sides); 3 the lake, if a month may have what the page lacks; 4 merge.
    """
    more, values = _conditions(filters, mode)
    values |= {"user": user_id, "limit": limit}
    if before:
        more += " and (h.occurred_at_us, h.event_id) < (%(at)s, %(id)s::uuid)"
        values |= {"at": before[0], "id": before[1]}
    if filters.when.start_us > ALL_TIME.start_us:
        more += " and h.occurred_at >= %(low)s"  # a timestamp: partitions are left out by it
        values["low"] = from_instant_us(filters.when.start_us)
    if filters.when.end_us < ALL_TIME.end_us:
        more += " and h.occurred_at < %(high)s"
        values["high"] = from_instant_us(filters.when.end_us)
    query = (
        f"select {', '.join(f'h.{name}' for name in COLUMNS)} from history h where h.user_id = %(user)s{more}"
        " order by h.occurred_at desc, h.occurred_at_us desc, h.event_id desc limit %(limit)s"
    )
    async with connections.sql() as sql:
        found = await (await sql.execute(query, values)).fetchall()
        archived = await archive.archived_months(sql)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    for row in rows:
        row["event_id"] = str(row["event_id"])
    reached = months_that_matter(archived.months, rows, before, limit, filters.when)
    if not reached:
        return rows
    there = replace(archived, months=reached)
    filters = await _of_mode(connections, there, user_id, filters, mode)
    return merged(rows, await archive.page(connections, there, user_id, before, limit, filters), limit)


async def sessions_of(
    connections: Connections,
    user_id: str,
    before: Place | None,
    limit: int,
    filters: AnswerFilters = EVERYTHING,
    mode: str = "",
) -> list[dict[str, Any]]:
    """The first `limit` sessions that began before a place: session_id, quiz_id, title, mode, started_at_us, and the sums of
    the user's answers in it (first_at_us, last_at_us, answered, right, points, elapsed_ms).

    filters: of the session; when: of its start. A session that is on both sides is summed from its answers, each once.
    """
    more, values = _conditions(filters, mode)
    more += " and h.session_started_at_us >= %(low)s and h.session_started_at_us < %(high)s"
    values |= {"user": user_id, "limit": limit, "low": filters.when.start_us, "high": filters.when.end_us}
    if before:
        more += " and (h.session_started_at_us, h.session_id) < (%(at)s, %(id)s)"
        values |= {"at": before[0], "id": before[1]}
    async with connections.sql() as sql:
        found = await sql.execute(_SESSIONS.format(more=more), values)
        names = [column.name for column in found.description or ()]
        ours = [dict(zip(names, row, strict=True)) for row in await found.fetchall()]
        archived = await archive.archived_months(sql)
    theirs: list[dict[str, Any]] = []
    if archived.months:
        of_mode = await _of_mode(connections, archived, user_id, filters, mode)
        theirs = await archive.page(connections, archived, user_id, before, limit, of_mode, "sessions")
    both = {row["session_id"] for row in ours} & {row["session_id"] for row in theirs}
    by_id = {row["session_id"]: row for row in (*theirs, *ours)}
    rows = sorted(by_id.values(), key=lambda row: (row["started_at_us"], row["session_id"]), reverse=True)
    for row in rows[:limit]:
        if row["session_id"] in both:
            alone = AnswerFilters(session_id=row["session_id"])
            answers = await page_of(connections, user_id, None, ANSWERS_MAX, alone)
            row |= totals_of(answers)
    await _name(connections, rows[:limit])
    return rows[:limit]


async def session_of(
    connections: Connections, user_id: str, session_id: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One session as `sessions_of` gives it, and each of the user's answers in it, the earliest first, with its question's
    `prompt` ("" where nobody keeps it: of an imported quiz).

    Raises BadInput(unknown_session, 404) where the user has no answer in it.
    """
    alone = AnswerFilters(session_id=session_id)
    found = await sessions_of(connections, user_id, None, 1, alone)
    if not found:
        raise BadInput("unknown_session", f"no answers in a session {session_id[:80]!r}", status=404)
    answers = await page_of(connections, user_id, None, ANSWERS_MAX, alone)
    async with connections.sql() as sql:
        version = await (
            await sql.execute("select quiz_version from sessions where session_id = %s", [session_id])
        ).fetchone()
    questions = await questions_at(connections, found[0]["quiz_id"], version[0]) if version else []
    prompts = {one.question_id: one.prompt or one.speech for one in questions}
    for row in answers:
        row["prompt"] = prompts.get(row["question_id"], "")
    return found[0], answers[::-1]


async def _of_mode(
    connections: Connections,
    archived: archive.ArchivedMonths,
    user_id: str,
    filters: AnswerFilters,
    mode: str,
) -> AnswerFilters:
    """The filters as the lake takes them: it does not know modes, so the sessions of one are named to it.

    Raises BadInput(range_too_large).
    """
    if not mode:
        return filters
    narrow = replace(filters, correct=None, when=ALL_TIME)
    rows = await archive.page(connections, archived, user_id, None, SESSIONS_MAX + 1, narrow, "sessions")
    if len(rows) > SESSIONS_MAX:
        raise BadInput(
            "range_too_large", f"more than {SESSIONS_MAX} archived sessions", next_step="name a quiz"
        )
    async with connections.sql() as sql:
        found = await sql.execute(
            f"select s.session_id from sessions s where s.session_id = any(%s) and {_MODE} = %s",
            [[row["session_id"] for row in rows], mode],
        )
        return replace(filters, sessions=tuple(row[0] for row in await found.fetchall()))


async def _name(connections: Connections, rows: Sequence[dict[str, Any]]) -> None:
    """Each session's title and mode; a session without a row (of a record that was brought back) has neither."""
    async with connections.sql() as sql:
        found = await sql.execute(
            f"select s.session_id, {_MODE}, q.title from sessions s left join quizzes q using (quiz_id)"
            " where s.session_id = any(%s)",
            [[row["session_id"] for row in rows]],
        )
        known = {ident: (mode, title) for ident, mode, title in await found.fetchall()}
    for row in rows:
        row["mode"], row["title"] = known.get(row["session_id"], (None, None))
