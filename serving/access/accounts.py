"""Accounts in Postgres: made, from a guest too; logged in; given roles; blocked (the do layer of access).

An account is a user that has a log-in name. It is made with a password by whoever signs up, or without one by an admin
or the operator, who hands out a ticket: a secret for one use with which its owner sets the password. So there is no
first password that somebody could know.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
import uuid
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.errors import BadInput
from serving.access.audit import note
from serving.access.keys import told
from serving.access.logins import Logins, Renewed, account_identity, digest_of
from serving.access.passwords import Passwords, checked_password, is_old, normal
from serving.access.tokens import ADMIN, PLAYER, ROLES, SEAT, Identity
from serving.classes import store as classes
from serving.connections import Connections
from serving.courses import enrolments
from serving.users import erasing

# A name of one's own or an e-mail address; nothing is ever sent to it.
_LOGIN_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{3,254}")
TICKET_LIFE_H = 48
LISTED = (
    "user_id",
    "login_name",
    "name",
    "roles",
    "created_at",
    "used_at",
    "blocked_at",
    "has_password",
)
_LIST = (
    "select a.user_id, a.login_name, u.name, a.roles, a.created_at, a.used_at, a.blocked_at, a.password is not null "
    "from accounts a join users u using (user_id) "
)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What is asked for: guest is the seat whose user becomes the account's, None for a new user."""

    login_name: str
    password: str
    name: str
    roles: tuple[str, ...]
    guest: Identity | None = None


def checked_login_name(text: str) -> str:
    """The name as it is kept and compared: NFKC, case folded. Raises BadInput(invalid_field)."""
    found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).strip().casefold())
    if _LOGIN_NAME.fullmatch(found) is None or not found.isprintable():
        raise BadInput("invalid_field", "login_name: 3 to 254 characters without blanks")
    return found


def checked_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """Roles in their order, each once, the player's always. Raises BadInput(invalid_field)."""
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise BadInput(
            "invalid_field", f"roles: there is no {', '.join(unknown)[:80]}; there are {', '.join(ROLES)}"
        )
    return tuple(role for role in ROLES if role in roles or role == PLAYER)


def wrong_login() -> BadInput:
    """The one reply to a log-in that fails, whatever is wrong: nobody learns which names there are."""
    return BadInput("wrong_login", "no account has this name and password", status=401, next_step="try again")


class Accounts:
    """Makes accounts and logs people in. passwords: None where no password is ever looked at (the command)."""

    def __init__(self, connections: Connections, logins: Logins, passwords: Passwords | None) -> None:
        self._connections = connections
        self._logins = logins
        self._passwords = passwords

    async def sign_up(self, wanted: NewAccount) -> Renewed:
        """Makes an account and its first log-in. Raises BadInput(login_name_taken, has_account, weak_password).

        The password is hashed first, so that a name that is taken takes as long as one that is not.
        """
        assert self._passwords is not None
        hashed = await self._passwords.hash(checked_password(wanted.password, wanted.login_name))
        async with self._connections.sql() as sql, self._transaction(sql, wanted):
            identity = await self._insert(sql, wanted, hashed)
            return await self._logins.open(sql, identity)

    def _transaction(
        self, sql: psycopg.AsyncConnection, wanted: NewAccount
    ) -> AbstractAsyncContextManager[Any]:
        """A guest's name may change with its account, so its profile does."""
        if wanted.guest is None:
            return sql.transaction()
        return self._connections.profiles.change(sql, wanted.guest.user_id)

    async def _insert(self, sql: psycopg.AsyncConnection, wanted: NewAccount, hashed: str | None) -> Identity:
        if wanted.guest is not None and wanted.guest.kind == SEAT:
            user_id, user_no = await self._guest(sql, wanted)
        else:
            user_id, user_no = uuid.uuid4().hex, 0
            found = await sql.execute(
                "insert into users (user_id, name, origin) values (%s, %s, 'live') returning user_no",
                [user_id, wanted.name],
            )
            user_no = ((await found.fetchone()) or (0,))[0]
        made = await sql.execute(
            "insert into accounts (user_id, login_name, password, password_at, roles) "
            "values (%s, %s, %s, case when %s::text is null then null else now() end, %s) on conflict do nothing",
            [user_id, wanted.login_name, hashed, hashed, list(wanted.roles)],
        )
        if made.rowcount == 0:
            taken = await sql.execute("select 1 from accounts where user_id = %s", [user_id])
            if await taken.fetchone():
                raise BadInput(
                    "has_account", "this player has an account already", status=409, next_step="log in"
                )
            raise BadInput(
                "login_name_taken", "somebody has this log-in name", status=409, next_step="take another"
            )
        return account_identity(user_id, user_no, wanted.roles)

    async def _guest(self, sql: psycopg.AsyncConnection, wanted: NewAccount) -> tuple[str, int]:
        """The guest's own id and number; its name changes to the wanted one."""
        assert wanted.guest is not None
        found = await sql.execute(
            "update users set name = %s where user_id = %s and origin = 'live' "
            "and deleted_at is null and not exists (select 1 from accounts a where a.user_id = users.user_id) "
            "returning user_id, user_no",
            [wanted.name, wanted.guest.user_id],
        )
        row = await found.fetchone()
        if row is None:
            raise BadInput(
                "has_account", "this player has an account already", status=409, next_step="log in"
            )
        return row[0], row[1]

    async def log_in(self, login_name: str, password: str) -> Renewed:
        """A new log-in. Raises BadInput(wrong_login), after the same work, whatever is wrong."""
        assert self._passwords is not None
        async with self._connections.sql() as sql:
            found = await sql.execute(
                "select a.user_id, u.user_no, a.password, a.roles, a.blocked_at is not null from accounts a "
                "join users u using (user_id) where a.login_name = %s",
                [login_name],
            )
            row = await found.fetchone()
        kept = row[2] if row else None
        if not await self._passwords.matches(kept, password) or row is None or kept is None or row[4]:
            raise wrong_login()
        renewed = await self._passwords.hash(normal(password)) if is_old(kept) else kept
        async with self._connections.sql() as sql, sql.transaction():
            # Nobody has set another password, blocked or deleted the account while this one was compared.
            still = await sql.execute(
                "update accounts set password = %s where user_id = %s and password = %s and blocked_at is null",
                [renewed, row[0], kept],
            )
            if still.rowcount == 0:
                raise wrong_login()
            return await self._logins.open(sql, account_identity(row[0], row[1], tuple(row[3])))

    async def confirm_password(self, user_id: str, password: str) -> None:
        """Whoever does what cannot be undone shows the password again. Raises BadInput(wrong_password, 403)."""
        assert self._passwords is not None
        async with self._connections.sql() as sql:
            found = await sql.execute("select password from accounts where user_id = %s", [user_id])
            row = await found.fetchone()
        if not await self._passwords.matches(row[0] if row else None, password):
            raise BadInput("wrong_password", "the password is not yours", status=403, next_step="try again")

    async def change_password(self, identity: Identity, old: str, new: str) -> Renewed:
        """Sets another password, ends every log-in, and opens a new one. Raises BadInput(wrong_password, weak_password)."""
        assert self._passwords is not None
        await self.confirm_password(identity.user_id, old)
        hashed = await self._passwords.hash(checked_password(new))
        async with self._connections.sql() as sql, sql.transaction():
            return await self._set_password(sql, identity.user_id, hashed, "the password was changed")

    async def redeem(self, ticket: str, password: str) -> Renewed:
        """Sets the password of a ticket's account, and logs in. Raises BadInput(wrong_ticket, weak_password)."""
        assert self._passwords is not None
        hashed = await self._passwords.hash(checked_password(password))
        async with self._connections.sql() as sql, sql.transaction():
            found = await sql.execute(
                "update tickets t set used_at = now() from accounts a where t.digest = %s and t.used_at is null "
                "and t.expires_at > now() and a.user_id = t.user_id and a.blocked_at is null returning t.user_id",
                [digest_of(ticket)],
            )
            row = await found.fetchone()
            if row is None:
                raise BadInput(
                    "wrong_ticket",
                    "this ticket was used, is too old or was never given out",
                    status=403,
                    next_step="ask for another",
                )
            return await self._set_password(sql, row[0], hashed, "the password was set by a ticket")

    async def _set_password(
        self, sql: psycopg.AsyncConnection, user_id: str, hashed: str, why: str
    ) -> Renewed:
        found = await sql.execute(
            "update accounts a set password = %s, password_at = now() from users u "
            "where a.user_id = %s and u.user_id = a.user_id returning u.user_no, a.roles",
            [hashed, user_id],
        )
        row = await found.fetchone()
        if row is None:
            raise wrong_login()
        await sql.execute("delete from tickets where user_id = %s and used_at is null", [user_id])
        await self._logins.end_all(sql, user_id, why)
        return await self._logins.open(sql, account_identity(user_id, row[0], tuple(row[1])))

    async def add(self, actor: str, wanted: NewAccount) -> tuple[str, str]:
        """An account without a password: (user_id, ticket). Raises BadInput(login_name_taken)."""
        async with self._connections.sql() as sql, sql.transaction():
            identity = await self._insert(sql, wanted, None)
            await note(sql, actor, "account.add", identity.user_id, roles=list(wanted.roles))
            return identity.user_id, await self._ticket(sql, identity.user_id)

    async def ticket_for(self, actor: str, user_id: str) -> str:
        """A ticket that sets a new password; earlier ones end. Raises BadInput(unknown_user, 404)."""
        async with self._connections.sql() as sql, sql.transaction():
            await one_of(sql, user_id)
            await note(sql, actor, "account.ticket", user_id)
            return await self._ticket(sql, user_id)

    async def _ticket(self, sql: psycopg.AsyncConnection, user_id: str) -> str:
        ticket = secrets.token_urlsafe(24)
        await sql.execute("delete from tickets where user_id = %s and used_at is null", [user_id])
        await sql.execute(
            "insert into tickets (digest, user_id, expires_at) values (%s, %s, now() + make_interval(hours => %s))",
            [digest_of(ticket), user_id, TICKET_LIFE_H],
        )
        return ticket

    async def set_roles(self, actor: str, user_id: str, roles: tuple[str, ...]) -> dict[str, Any]:
        """Gives an account these roles. Raises BadInput(unknown_user, last_admin)."""
        async with self._connections.sql() as sql, sql.transaction():
            before = await one_of(sql, user_id)
            await sql.execute("update accounts set roles = %s where user_id = %s", [list(roles), user_id])
            await _admins_left(sql)
            await note(sql, actor, "account.roles", user_id, before=before["roles"], after=list(roles))
            return await one_of(sql, user_id)

    async def set_blocked(self, actor: str, user_id: str, blocked: bool) -> dict[str, Any]:
        """Blocks an account and ends its log-ins, or lets it in again. Raises BadInput(unknown_user, last_admin)."""
        async with self._connections.sql() as sql, sql.transaction():
            await one_of(sql, user_id)
            await sql.execute(
                "update accounts set blocked_at = case when %s then coalesce(blocked_at, now()) end where user_id = %s",
                [blocked, user_id],
            )
            if blocked:
                await _admins_left(sql)
                await self._logins.end_all(sql, user_id, "the account was blocked")
            await note(sql, actor, "account.block" if blocked else "account.unblock", user_id)
            return await one_of(sql, user_id)

    async def delete(self, user_id: str) -> None:
        """Removes who a user is; the user's id and number stay, since answers have them and they are never given out again.

        What is outside Postgres is noted and goes later (serving/users/erasing.py). Raises BadInput(unknown_user, last_admin).
        """
        profiles = self._connections.profiles
        async with self._connections.sql() as sql, profiles.change(sql, user_id) as change:
            admin = ADMIN in (await one_of(sql, user_id))["roles"]
            await self._logins.end_all(sql, user_id, "the account was deleted")
            await sql.execute("delete from accounts where user_id = %s", [user_id])
            if admin:
                await _admins_left(sql)
            await sql.execute(
                "update users set name = '', avatar = null, anonymous = false, deleted_at = now() where user_id = %s",
                [user_id],
            )
            if change.before.avatar:
                await erasing.note(sql, erasing.PICTURE, change.before.avatar)
            await erasing.note(sql, erasing.PLAYER, user_id)
            await classes.forget(sql, user_id)
            await enrolments.forget(sql, user_id)


async def _admins_left(sql: psycopg.AsyncConnection) -> None:
    """Raises BadInput(last_admin), so that the transaction is undone, if nobody could administer any more.

    The lock makes two admins who take each other's role come one after the other.
    """
    await sql.execute("select pg_advisory_xact_lock(hashtext('accounts.admins'))")
    found = await sql.execute(
        "select 1 from accounts where %s = any(roles) and blocked_at is null limit 1", [ADMIN]
    )
    if await found.fetchone() is None:
        raise BadInput(
            "last_admin", "somebody must stay admin", status=409, next_step="make another admin first"
        )


async def one_of(sql: psycopg.AsyncConnection, user_id: str) -> dict[str, Any]:
    """An account as admins see it. Raises BadInput(unknown_user, 404)."""
    found = await sql.execute(_LIST + "where a.user_id = %s", [user_id])
    row = await found.fetchone()
    if row is None:
        raise BadInput("unknown_user", f"there is no account {user_id[:80]!r}", status=404)
    return told(dict(zip(LISTED, row, strict=True)))


async def by_login_name(sql: psycopg.AsyncConnection, login_name: str) -> dict[str, Any]:
    """The same by its log-in name. Raises BadInput(unknown_user, 404)."""
    found = await sql.execute(_LIST + "where a.login_name = %s", [login_name])
    row = await found.fetchone()
    if row is None:
        raise BadInput("unknown_user", "no account has this log-in name", status=404)
    return told(dict(zip(LISTED, row, strict=True)))


async def page_of(sql: psycopg.AsyncConnection, part: str, after: str, limit: int) -> list[dict[str, Any]]:
    """Accounts by log-in name, those with `part` in a name; `after`: the last log-in name of the page before."""
    # A search for % is a search for %.
    like = "%" + part.casefold().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    found = await sql.execute(
        _LIST + "where a.login_name > %s and (a.login_name like %s or lower(u.name) like %s) "
        "order by a.login_name limit %s",
        [after, like, like, limit],
    )
    return [told(dict(zip(LISTED, row, strict=True))) for row in await found.fetchall()]
