"""The audit log: what admins did to accounts, keys and address lists, written in the transaction that does it.

Rows are only ever added; triggers hold that (migration 0005). `detail` has ids, roles and networks, never a secret.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg

from serving.access.keys import told

# Who acts where no account does: the command on the machine itself.
OPERATOR = "operator"
_COLUMNS = ("id", "at", "actor", "action", "subject", "detail")


async def note(sql: psycopg.AsyncConnection, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Adds one row, in the caller's transaction."""
    await sql.execute(
        "insert into audit_log (actor, action, subject, detail) values (%s, %s, %s, %s)",
        [actor, action, subject, json.dumps(detail)],
    )


async def newest(sql: psycopg.AsyncConnection, before: int, limit: int) -> list[dict[str, Any]]:
    """Rows with an id below `before` (0: the newest), the newest first."""
    found = await sql.execute(
        f"select {', '.join(_COLUMNS)} from audit_log where %s = 0 or id < %s order by id desc limit %s",  # type: ignore[arg-type]
        [before, before, limit],
    )
    return [told(dict(zip(_COLUMNS, row, strict=True))) for row in await found.fetchall()]
