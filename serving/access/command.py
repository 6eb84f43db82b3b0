"""Accounts from the machine itself, beside the api: `python -m serving.access.command add|ticket|list …`.

Settings come from LAKEBOARD_*. Whoever may run it reads the deployment's secrets anyway. It is how the first admin is
made: no account exists until then, and none ever has a password that was not set by its owner, with the ticket that is
printed here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

import psycopg

from contracts.errors import LakeboardError, SystemMissing
from contracts.settings import from_mapping
from serving.access.accounts import (
    LISTED,
    TICKET_LIFE_H,
    Accounts,
    NewAccount,
    by_login_name,
    checked_login_name,
    checked_roles,
    page_of,
)
from serving.access.audit import OPERATOR
from serving.access.logins import Logins
from serving.access.tokens import ROLES
from serving.connections import Connections
from serving.migrations.upgrade import upgrade
from serving.users.display_names import NAME_LENGTH, clean_name

LISTED_MOST = 1_000


async def run(asked: argparse.Namespace, connections: Connections) -> dict[str, Any]:
    """The result of one command, as JSON takes it. Raises LakeboardError."""
    accounts = Accounts(connections, Logins(connections, ""), None)
    if asked.do == "list":
        async with connections.sql() as sql:
            return {"users": await page_of(sql, asked.part, "", LISTED_MOST)}
    login_name = checked_login_name(asked.login_name)
    if asked.do == "add":
        name = clean_name(asked.name or asked.login_name)[:NAME_LENGTH]
        wanted = NewAccount(login_name, "", name, checked_roles(asked.role))
        user_id, ticket = await accounts.add(OPERATOR, wanted)
    else:
        async with connections.sql() as sql:
            user_id = (await by_login_name(sql, login_name))["user_id"]
        ticket = await accounts.ticket_for(OPERATOR, user_id)
    address = f"{connections.settings.public_url}/#/ticket/{ticket}"
    return {"user_id": user_id, "ticket": ticket, "ticket_hours": TICKET_LIFE_H, "address": address}


def told(asked: argparse.Namespace, found: dict[str, Any]) -> str:
    """The result for a person."""
    if asked.do == "list":
        rows = [
            [
                row["login_name"],
                ",".join(row["roles"]),
                row["user_id"],
                "blocked" if row["blocked_at"] else "",
            ]
            for row in found["users"]
        ]
        return "\n".join("  ".join(cell for cell in row if cell) for row in rows) or "no accounts"
    return (
        f"Set the password within {found['ticket_hours']} hours, once, at\n  {found['address']}\n"
        f"or anywhere else that this page is reached, with the ticket {found['ticket']}"
    )


async def _main(asked: argparse.Namespace) -> dict[str, Any]:
    settings = from_mapping(os.environ)
    connections = Connections.of(settings)
    try:
        await asyncio.to_thread(upgrade, settings.postgres_url)
        await connections.postgres.open(wait=False)
        return await run(asked, connections)
    finally:
        await connections.close()


def main() -> int:
    """The command. Exit 2: wrong use; 3: Postgres is away."""
    parser = argparse.ArgumentParser(prog="lakeboard user", description=__doc__)
    commands = parser.add_subparsers(dest="do", required=True)
    add = commands.add_parser("add")
    add.add_argument("login_name")
    add.add_argument("--role", action="append", default=[], choices=ROLES)
    add.add_argument("--name", default="")
    commands.add_parser("ticket").add_argument("login_name")
    commands.add_parser("list").add_argument("part", nargs="?", default="")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    try:
        found = asyncio.run(_main(asked))
    except LakeboardError as error:
        print(error.told, file=sys.stderr)
        return error.exit_code
    except (psycopg.OperationalError, OSError) as error:
        print(SystemMissing("system_missing", f"Postgres does not answer: {error}").told, file=sys.stderr)
        return SystemMissing.exit_code
    except Exception as error:
        if type(error).__module__.startswith("sqlalchemy"):
            print(SystemMissing("system_missing", "Postgres does not answer").told, file=sys.stderr)
            return SystemMissing.exit_code
        raise
    print(json.dumps(found) if asked.json else told(asked, found))
    return 0


assert set(LISTED) >= {"login_name", "roles", "user_id", "blocked_at"}

if __name__ == "__main__":
    sys.exit(main())
