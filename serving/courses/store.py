"""Courses in Postgres: quizzes in an order, saved against a revision. Who is enrolled is `enrolments.py`.

Who may do what is asked here, with the row in hand; a private course is `unknown_course` for everybody but its author, also
for who enrolled while it was not.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.errors import BadInput
from contracts.identity import valid_id
from serving.connections import Connections
from serving.quizzes.draft import PRIVATE, PUBLIC
from serving.quizzes.library import decode_cursor, encode_cursor
from serving.quizzes.starter import LEVELS, starter_quizzes

# A school year of a quiz every other day. A longer course is two.
MOST_QUIZZES = 100
# Of one author, archived ones too.
MOST_COURSES = 200
# CRC-32 of "lakeboard.courses.starter": api processes start together.
_STARTER_LOCK = 0x5B7C21D9
_SHOWN = ("course_id", "title", "description", "level", "quizzes", "visibility", "archived", "enrolled")


@dataclass(frozen=True, slots=True)
class Course:
    """A course as its author gives it. quizzes: ids in order, each once."""

    title: str
    description: str
    level: str
    quizzes: tuple[str, ...]
    visibility: str


# Nobody waits behind a change for longer: enrolments of all courses take turns at the counter.
_BOUNDS = "select set_config('statement_timeout', '5s', true), set_config('idle_in_transaction_session_timeout', '5s', true)"


async def begin(sql: psycopg.AsyncConnection, user_id: str) -> None:
    """The first statements of a change: it is bounded in time, and comes before its user's deletion or not at all.

    Raises BadInput(unknown_user, 404).
    """
    await sql.execute(_BOUNDS)
    found = await sql.execute(
        "select 1 from users where user_id = %s and deleted_at is null for no key update", [user_id]
    )
    if await found.fetchone() is None:
        raise BadInput("unknown_user", f"there is no user {user_id[:80]!r}", status=404)


def unknown_course(course_id: str) -> BadInput:
    return BadInput("unknown_course", f"there is no course {course_id[:80]!r}", status=404)


async def create(connections: Connections, owner_id: str, course: Course) -> str:
    """A new course; its id. Raises BadInput: unknown_quiz (422), too_many_courses (409)."""
    course_id = f"c_{secrets.token_urlsafe(9)}"
    async with connections.sql() as sql, sql.transaction():
        # One author's creations take turns, so that the count holds.
        await begin(sql, owner_id)
        found = await sql.execute("select count(*) from courses where owner_id = %s", [owner_id])
        row = await found.fetchone()
        if row and row[0] >= MOST_COURSES:
            raise BadInput("too_many_courses", f"at most {MOST_COURSES} courses", status=409)
        await _check_quizzes(sql, owner_id, course)
        await sql.execute(
            "insert into courses (course_id, owner_id, title, description, level, quizzes, visibility, sort_key)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [course_id, owner_id, *_values(course)],
        )
    return course_id


async def save(
    connections: Connections, course_id: str, owner_id: str, course: Course, revision: int
) -> None:
    """Replaces the course that has this revision. Raises BadInput: unknown_course, forbidden, edit_conflict, unknown_quiz."""
    async with connections.sql() as sql, sql.transaction():
        await begin(sql, owner_id)
        now, before = await _own(sql, course_id, owner_id)
        if now != revision:
            raise BadInput(
                "edit_conflict",
                f"course {course_id} is at revision {now}, the change was made to {revision}",
                status=412,
                next_step="look at the newest one, and save again",
            )
        await _check_quizzes(sql, owner_id, course, before)
        await sql.execute(
            "update courses set title = %s, description = %s, level = %s, quizzes = %s, visibility = %s, sort_key = %s,"
            " revision = revision + 1 where course_id = %s",
            [*_values(course), course_id],
        )


async def archive(connections: Connections, course_id: str, owner_id: str, back: bool = False) -> None:
    """Takes the course off the library, or puts it back; a repeat changes nothing. Raises BadInput: unknown_course, forbidden.

    Who is enrolled stays so, and may leave.
    """
    async with connections.sql() as sql, sql.transaction():
        await begin(sql, owner_id)
        await _own(sql, course_id, owner_id)
        await sql.execute(
            "update courses set archived_at = case when %s then null else coalesce(archived_at, now()) end,"
            " revision = revision + 1 where course_id = %s",
            [back, course_id],
        )


def _values(course: Course) -> list[Any]:
    return [
        course.title,
        course.description,
        course.level,
        list(course.quizzes),
        course.visibility,
        f"1 {course.title.casefold()}",
    ]


async def _own(sql: psycopg.AsyncConnection, course_id: str, owner_id: str) -> tuple[int, list[str]]:
    """The revision and the quizzes of a course of this author, its row locked."""
    row = await row_of(sql, course_id, "owner_id, visibility, revision, quizzes", " for update")
    if row[0] != owner_id:
        if row[1] == PRIVATE:
            raise unknown_course(course_id)
        raise BadInput("forbidden", f"course {course_id} belongs to another author", status=403)
    return row[2], row[3]


async def _check_quizzes(
    sql: psycopg.AsyncConnection, owner_id: str, course: Course, before: Collection[str] = ()
) -> None:
    """Raises BadInput(unknown_quiz, 422) for one that the course's members could not play; what was in it may stay."""
    found = await sql.execute(
        "select quiz_id from quizzes where quiz_id = any(%s) and version is not null and archived_at is null"
        " and origin <> 'import' and (visibility <> %s or (owner_id = %s and %s))",
        [list(course.quizzes), PRIVATE, owner_id, course.visibility == PRIVATE],
    )
    missing = set(course.quizzes) - set(before) - {row[0] for row in await found.fetchall()}
    if missing:
        raise BadInput(
            "unknown_quiz",
            f"there is no published quiz {min(missing)[:80]!r} that members could play",
            next_step="publish it, and let others see it",
        )


async def row_of(sql: psycopg.AsyncConnection, course_id: str, columns: str, lock: str = "") -> Any:
    """Columns of a course. Raises BadInput(unknown_course, 404)."""
    if not valid_id(course_id):
        raise unknown_course(course_id)
    found = await sql.execute(f"select {columns} from courses where course_id = %s{lock}", [course_id])
    row = await found.fetchone()
    if row is None:
        raise unknown_course(course_id)
    return row


async def page(
    connections: Connections, viewer: str, mine: bool, level: str, limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of courses and the next one's cursor: public ones, or those that the caller made or is enrolled in.

    Raises BadInput(invalid_field) for a cursor that is none.
    """
    where, values = ["visibility = %s", "archived_at is null"], [PUBLIC]
    if mine:
        where = ["(owner_id = %s or (m.user_id is not null and visibility <> %s))"]
        values = [viewer, PRIVATE]
    if level:
        where.append("level = %s")
        values.append(level)
    if cursor:
        where.append("(sort_key, c.course_id) > (%s, %s)")
        values += decode_cursor(cursor)
    async with connections.sql() as sql:
        found = await sql.execute(
            "select c.course_id, title, description, level, cardinality(quizzes), visibility, archived_at is not null,"
            " m.user_id is not null, sort_key"
            " from courses c left join course_members m on m.course_id = c.course_id and m.user_id = %s"
            f" where {' and '.join(where)} order by sort_key, c.course_id limit %s",
            [viewer, *values, limit + 1],
        )
        rows = await found.fetchall()
    shown = [dict(zip(_SHOWN, row[:-1], strict=True)) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    return shown, encode_cursor(last[-1], last[0]) if last else None


async def show(connections: Connections, course_id: str, viewer: str) -> dict[str, Any]:
    """A course and its quizzes in order, for its author those too that cannot be played now. Raises BadInput(unknown_course)."""
    async with connections.sql() as sql:
        row = await row_of(
            sql,
            course_id,
            "owner_id, title, description, level, quizzes, visibility, revision, archived_at is not null",
        )
        owner_id, title, description, level, quizzes, visibility, revision, archived = row
        found = await sql.execute(
            "select 1 from course_members where course_id = %s and user_id = %s", [course_id, viewer]
        )
        enrolled = await found.fetchone() is not None
        own = bool(viewer) and owner_id == viewer
        if not own and (visibility == PRIVATE or (archived and not enrolled)):
            raise unknown_course(course_id)
        found = await sql.execute(
            # Another's quiz that is private now has no title here: it may have got a new one since.
            "select quiz_id, case when visibility <> %s or owner_id = %s then title else quiz_id end,"
            " level, types, question_count,"
            " version is not null and archived_at is null and (visibility <> %s or owner_id = %s)"
            " from quizzes where quiz_id = any(%s) and origin <> 'import'",
            [PRIVATE, viewer, PRIVATE, viewer, quizzes],
        )
        rows = {row[0]: row for row in await found.fetchall()}
    return {
        "course_id": course_id,
        "title": title,
        "description": description,
        "level": level,
        "visibility": visibility,
        "archived": archived,
        "own": own,
        "enrolled": enrolled,
        "revision": revision,
        "quizzes": [_step(rows[one]) for one in quizzes if one in rows and (own or rows[one][-1])],
    }


def _step(row: tuple[Any, ...]) -> dict[str, Any]:
    """A quiz of a course; of one that cannot be played its author, who has it in the course, sees the title alone."""
    names = ("quiz_id", "title", "level", "types", "questions", "playable")
    step = dict(zip(names, row, strict=True))
    return step if step["playable"] else {**step, "level": "", "types": [], "questions": 0}


async def load_starter(connections: Connections) -> None:
    """A course of the starter quizzes for each level, a unit after the other. A repeat changes nothing."""
    async with connections.sql() as sql, sql.transaction():
        await sql.execute("select pg_advisory_xact_lock(%s)", [_STARTER_LOCK])
        for place, (level, title) in enumerate(LEVELS.items()):
            quizzes = [quiz.quiz_id for quiz in starter_quizzes() if quiz.draft.level == level]
            await sql.execute(
                "insert into courses (course_id, owner_id, title, description, level, quizzes, visibility, sort_key)"
                " values (%s, '', %s, %s, %s, %s, %s, %s) on conflict (course_id) do update"
                " set quizzes = excluded.quizzes where courses.quizzes <> excluded.quizzes",
                [
                    f"starter-{level.lower()}",
                    f"{title} ({level})",
                    f"All words of {level}, each asked in five ways.",
                    level,
                    quizzes,
                    PUBLIC,
                    f"0 {place}",
                ],
            )
