"""Who is enrolled in a course: the member's row and the event of it, `enrolment.v1`, in one transaction.

A crash leaves both or neither. Ids are taken under the counter's lock, which is held until the transaction ends: they are
dense and in order of commit, as the relay needs them.
"""

from __future__ import annotations

import psycopg

from contracts.enrolments import ENROLLED, LEFT, Enrolment, encode
from contracts.errors import BadInput
from serving.connections import Connections
from serving.courses.store import begin, row_of, unknown_course
from serving.quizzes.draft import PRIVATE
from serving.sessions.store import now_us

# A learner takes a few; a script would fill the record.
MOST_ENROLMENTS = 200


async def enrol(connections: Connections, course_id: str, user_id: str) -> bool:
    """Enrols a user; whether that changed anything: a repeat writes no event.

    Raises BadInput: unknown_course, unknown_user (404), too_many_courses (409).
    """
    async with connections.sql() as sql, sql.transaction():
        await begin(sql, user_id)
        owner_id, visibility, archived = await row_of(
            sql, course_id, "owner_id, visibility, archived_at is not null"
        )
        if archived or (visibility == PRIVATE and owner_id != user_id):
            raise unknown_course(course_id)
        done = await sql.execute(
            "insert into course_members (course_id, user_id) values (%s, %s) on conflict do nothing",
            [course_id, user_id],
        )
        if not done.rowcount:
            return False
        found = await sql.execute("select count(*) from course_members where user_id = %s", [user_id])
        row = await found.fetchone()
        if row and row[0] > MOST_ENROLMENTS:
            raise BadInput(
                "too_many_courses",
                f"one user may be enrolled in {MOST_ENROLMENTS} courses",
                status=409,
                next_step="leave one first",
            )
        await _record(sql, ENROLLED, course_id, user_id)
        return True


async def leave(connections: Connections, course_id: str, user_id: str) -> bool:
    """Ends an enrolment, also in a course that is archived or private now; whether there was one.

    Raises BadInput(unknown_course, 404).
    """
    async with connections.sql() as sql, sql.transaction():
        await begin(sql, user_id)
        owner_id, visibility = await row_of(sql, course_id, "owner_id, visibility")
        done = await sql.execute(
            "delete from course_members where course_id = %s and user_id = %s", [course_id, user_id]
        )
        if done.rowcount:
            await _record(sql, LEFT, course_id, user_id)
        elif visibility == PRIVATE and owner_id != user_id:
            raise unknown_course(course_id)
        return bool(done.rowcount)


async def forget(sql: psycopg.AsyncConnection, user_id: str) -> None:
    """Within the transaction that deletes an account: it is enrolled nowhere, and its courses are archived.

    Enrolments stay in the record, as answers do: ids stay where names go.
    """
    found = await sql.execute("delete from course_members where user_id = %s returning course_id", [user_id])
    for (course_id,) in await found.fetchall():
        await _record(sql, LEFT, course_id, user_id)
    await sql.execute(
        "update courses set archived_at = coalesce(archived_at, now()), revision = revision + 1 where owner_id = %s",
        [user_id],
    )


async def _record(sql: psycopg.AsyncConnection, kind: str, course_id: str, user_id: str) -> None:
    counted = await sql.execute(
        "update enrolment_counter set last = last + 1, last_us = greatest(last_us + 1, %s) returning last, last_us",
        [now_us()],
    )
    row = await counted.fetchone()
    assert row is not None
    event = Enrolment(row[0], kind, row[1], course_id, user_id)
    await sql.execute("insert into enrolments (id, event) values (%s, %s)", [row[0], encode(event)])
