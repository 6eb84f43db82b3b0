"""Classes and memberships in Postgres (the do layer). Who may do what is `access.py`; over HTTP `routes.py`.

Every change locks its class' row first and raises its version, in one transaction: two who join at once take turns, and a
list of members that was read under one version is that version's.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.classes import (
    CLASSES_MAX,
    CODE_LENGTH,
    CODE_LETTERS,
    MEMBERS_MAX,
    STAYS_MAX,
    Roster,
    Stay,
)
from contracts.errors import BadInput
from contracts.periods import FOREVER_US
from serving.connections import Connections
from serving.sessions.store import now_us

# Rosters that one process remembers: at most some 100 MB, were all of them full.
ROSTERS = 200
# A code that another class has is drawn again; with 28^8 of them a second draw is never seen.
CODE_TRIES = 5
_ROW = "select class_id, name, owner_id, code, version from classes"


@dataclass(frozen=True, slots=True)
class SchoolClass:
    """A class; code: None while nobody new may join."""

    class_id: str
    name: str
    owner_id: str
    code: str | None
    version: int


def unknown_class(class_id: str) -> BadInput:
    return BadInput("unknown_class", f"there is no class {class_id[:80]!r}", status=404)


def new_code() -> str:
    """A code that nobody guesses."""
    return "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))


class ClassStore:
    """Reads and changes classes; remembers rosters by version."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._rosters: dict[str, Roster] = {}

    async def create(self, name: str, owner_id: str) -> SchoolClass:
        """A new class without members. Raises BadInput(too_many_classes, 409)."""
        async with self.connections.sql() as sql, sql.transaction():
            # One owner's creations take turns, so that the count holds.
            await sql.execute(
                "select pg_advisory_xact_lock(hashtextextended('classes/' || %s, 0))", [owner_id]
            )
            found = await sql.execute("select count(*) from classes where owner_id = %s", [owner_id])
            row = await found.fetchone()
            if row and row[0] >= CLASSES_MAX:
                raise BadInput("too_many_classes", f"one user may lead {CLASSES_MAX} classes", status=409)
            class_id = uuid.uuid4().hex
            await sql.execute(
                "insert into classes (class_id, name, owner_id) values (%s, %s, %s)",
                [class_id, name, owner_id],
            )
        return await self.renew_code(class_id)

    async def read(self, class_id: str) -> SchoolClass:
        """Raises BadInput(unknown_class, 404)."""
        async with self.connections.sql() as sql:
            row = await (await sql.execute(f"{_ROW} where class_id = %s", [class_id])).fetchone()
        if row is None:
            raise unknown_class(class_id)
        return SchoolClass(*row)

    async def of_user(self, user_id: str) -> list[dict[str, Any]]:
        """The classes that a user leads or is a member of now, by name: class_id, name, leads, members."""
        async with self.connections.sql() as sql:
            found = await sql.execute(
                "select c.class_id, c.name, c.owner_id = %(user)s, (select count(*) from class_members m"
                " where m.class_id = c.class_id and m.left_at_us is null) from classes c where c.owner_id = %(user)s"
                " or c.class_id in (select class_id from class_members where user_id = %(user)s and left_at_us is null)"
                " order by c.name, c.class_id",
                {"user": user_id},
            )
            names = ("class_id", "name", "leads", "members")
            return [dict(zip(names, row, strict=True)) for row in await found.fetchall()]

    async def members(self, class_id: str) -> list[dict[str, Any]]:
        """The newest membership of each user who was ever one: user_id, name, joined_at_us, left_at_us, removed."""
        async with self.connections.sql() as sql:
            found = await sql.execute(
                "select distinct on (m.user_id) m.user_id, coalesce(u.name, ''), m.joined_at_us, m.left_at_us, m.removed"
                " from class_members m left join users u using (user_id) where m.class_id = %s"
                " order by m.user_id, m.joined_at_us desc",
                [class_id],
            )
            names = ("user_id", "name", "joined_at_us", "left_at_us", "removed")
            rows = [dict(zip(names, row, strict=True)) for row in await found.fetchall()]
        return sorted(rows, key=lambda row: (row["name"], row["user_id"]))

    async def by_code(self, code: str) -> SchoolClass:
        """The class that a code lets into. Raises BadInput(unknown_join_code, 404)."""
        async with self.connections.sql() as sql:
            row = await (await sql.execute(f"{_ROW} where code = %s", [code])).fetchone()
        if row is None:
            raise BadInput("unknown_join_code", f"no open class has the code {code!r}", status=404)
        return SchoolClass(*row)

    async def join(self, class_id: str, code: str, user_id: str) -> None:
        """Make a user a member from now on; one who is already stays as they are.

        Raises BadInput: unknown_join_code (renewed or closed since), unknown_user, player_removed, class_full.
        """
        async with self._changing(class_id) as (sql, row):
            if row.code != code:
                raise BadInput("unknown_join_code", f"no open class has the code {code!r}", status=404)
            stays = await _stays_of(sql, class_id, user_id)
            if stays and stays[-1][1] is None:
                return
            if stays and stays[-1][2]:
                raise BadInput("player_removed", f"{row.name}: who leads it has removed you", status=403)
            if len(stays) >= STAYS_MAX:
                raise BadInput("class_full", f"one user may join a class {STAYS_MAX} times", status=409)
            found = await sql.execute(
                "select count(*) from class_members where class_id = %s and left_at_us is null", [class_id]
            )
            count = await found.fetchone()
            if count and count[0] >= MEMBERS_MAX:
                raise BadInput("class_full", f"a class takes {MEMBERS_MAX} members", status=409)
            # Not before the end of the last membership, wherever a clock was set.
            joined_us = max(now_us(), *(stay[1] for stay in stays)) if stays else now_us()
            added = await sql.execute(
                "insert into class_members (class_id, user_id, user_no, joined_at_us)"
                " select %s, user_id, user_no, %s from users where user_id = %s",
                [class_id, joined_us, user_id],
            )
            if added.rowcount != 1:
                raise BadInput("unknown_user", f"there is no user {user_id[:80]!r}", status=404)

    async def end_membership(self, class_id: str, user_id: str, *, removed: bool = False) -> None:
        """End a user's membership now; who was removed may not join again. Nobody's membership: nothing, or unknown_user.

        Raises BadInput(unknown_user, 404) if the user never was a member.
        """
        async with self._changing(class_id) as (sql, _):
            stays = await _stays_of(sql, class_id, user_id)
            if not stays:
                raise BadInput("unknown_user", f"{user_id[:80]!r} was never in this class", status=404)
            await sql.execute(
                "update class_members set left_at_us = coalesce(left_at_us, greatest(%s, joined_at_us + 1)),"
                " removed = removed or %s where class_id = %s and user_id = %s and joined_at_us = %s",
                [now_us(), removed, class_id, user_id, stays[-1][0]],
            )

    async def readmit(self, class_id: str, user_id: str) -> None:
        """Let a removed user join again, by the code as everybody. Raises BadInput(unknown_user, 404)."""
        async with self._changing(class_id) as (sql, _):
            done = await sql.execute(
                "update class_members set removed = false where class_id = %s and user_id = %s",
                [class_id, user_id],
            )
            if not done.rowcount:
                raise BadInput("unknown_user", f"{user_id[:80]!r} was never in this class", status=404)

    async def renew_code(self, class_id: str) -> SchoolClass:
        """A new code; the one before lets nobody in any more. Raises BadInput(unknown_class, 404)."""
        for _ in range(CODE_TRIES - 1):
            try:
                return await self._set_code(class_id, new_code())
            except psycopg.errors.UniqueViolation:
                continue
        return await self._set_code(class_id, new_code())

    async def close(self, class_id: str) -> SchoolClass:
        """Take the code away: nobody new may join. Raises BadInput(unknown_class, 404)."""
        return await self._set_code(class_id, None)

    async def _set_code(self, class_id: str, code: str | None) -> SchoolClass:
        async with self._changing(class_id) as (sql, row):
            await sql.execute("update classes set code = %s where class_id = %s", [code, class_id])
            return SchoolClass(class_id, row.name, row.owner_id, code, row.version)

    async def roster(self, class_id: str) -> Roster:
        """Everybody's stays, as they are now. Raises BadInput(unknown_class, 404), SystemMissing: nobody else knows."""
        known = self._rosters.get(class_id)
        async with self.connections.sql() as sql:
            # One statement, so that stays are those of the version; no stays where this process has them.
            found = await sql.execute(
                "select c.owner_id, c.version, m.user_id, m.user_no, m.joined_at_us, coalesce(m.left_at_us, %s)"
                " from classes c left join class_members m on m.class_id = c.class_id and c.version <> %s"
                " where c.class_id = %s",
                [FOREVER_US, known.version if known else 0, class_id],
            )
            rows = await found.fetchall()
        if not rows:
            raise unknown_class(class_id)
        owner_id, version = rows[0][:2]
        if known is None or known.version != version:
            stays = tuple(Stay(*row[2:]) for row in rows if row[2] is not None)
            known = Roster(class_id, owner_id, version, stays)
            self._rosters.pop(class_id, None)
            if len(self._rosters) >= ROSTERS:
                self._rosters.pop(next(iter(self._rosters)))
            self._rosters[class_id] = known
        return known

    @asynccontextmanager
    async def _changing(self, class_id: str) -> AsyncIterator[tuple[psycopg.AsyncConnection, SchoolClass]]:
        """A transaction that holds the class' row, whose version it has raised. Raises BadInput(unknown_class, 404)."""
        async with self.connections.sql() as sql, sql.transaction():
            found = await sql.execute(
                "update classes set version = version + 1 where class_id = %s"
                " returning class_id, name, owner_id, code, version",
                [class_id],
            )
            row = await found.fetchone()
            if row is None:
                raise unknown_class(class_id)
            yield sql, SchoolClass(*row)


async def _stays_of(sql: psycopg.AsyncConnection, class_id: str, user_id: str) -> list[tuple[int, int, bool]]:
    """(joined_at_us, left_at_us, removed) of one user, in order."""
    found = await sql.execute(
        "select joined_at_us, left_at_us, removed from class_members where class_id = %s and user_id = %s"
        " order by joined_at_us",
        [class_id, user_id],
    )
    return await found.fetchall()


async def forget(sql: psycopg.AsyncConnection, user_id: str) -> None:
    """Within the transaction that deletes an account: it is in no class from now on, and nobody joins those it led.

    What was answered while in a class stays on its boards, as on every board: ids stay where names go.
    """
    await sql.execute(
        "update classes set version = version + 1, code = case when owner_id = %(user)s then null else code end"
        " where owner_id = %(user)s or class_id in (select class_id from class_members where user_id = %(user)s"
        " and left_at_us is null)",
        {"user": user_id},
    )
    await sql.execute(
        "update class_members set left_at_us = greatest(%s, joined_at_us + 1) where user_id = %s and left_at_us is null",
        [now_us(), user_id],
    )
