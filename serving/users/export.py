"""What we keep of a user, as one ZIP of JSON files: profile, keys, sessions that were hosted, answers (history and archive).

Written to a temporary file page by page, so that a long history takes no memory.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from typing import IO, Any

import psycopg

from contracts.periods import iso_ms
from serving.access.accounts import one_of
from serving.access.keys import listed, told
from serving.connections import Connections
from serving.history.pages import page_of

# Answers a query: well within a second each.
_PAGE_ROWS = 1_000
# In memory up to this, on disk beyond.
_SPOOL_BYTES = 1_000_000
# Tables of other rooms with rows of a user: file → query by user_id. A table that is not there is left out.
_ROWS = {
    "sessions_hosted": (
        "sessions",
        "select session_id, quiz_id, created_at, ended_at from sessions where host_id = %s",
    ),
    "classes_taught": ("classes", "select * from classes where owner_id = %s"),
    "classes_joined": ("class_members", "select * from class_members where user_id = %s"),
    "courses_owned": ("courses", "select * from courses where owner_id = %s"),
    "courses_enrolled": ("course_members", "select * from course_members where user_id = %s"),
    "quizzes_owned": ("quizzes", "select * from quizzes where owner_id = %s"),
}


async def written(connections: Connections, user_id: str) -> IO[bytes]:
    """The ZIP, at its beginning; whoever reads it closes it. Raises BadInput(unknown_user), SystemMissing."""
    # Not a with: it is closed by whoever sends it.
    out = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        async with connections.sql() as sql:
            account = await one_of(sql, user_id)
            keys = await listed(sql, user_id=user_id)
            rows = {name: await _rows(sql, *how, user_id) for name, how in _ROWS.items()}
        profile = (await connections.profiles.of([user_id])).get(user_id)
        account["anonymous"] = bool(profile and profile.anonymous)
        account["avatar_url"] = connections.profiles.address(profile.avatar) if profile else None
        for name, found in {"profile": account, "keys": keys, **rows}.items():
            if found is not None:
                archive.writestr(f"{name}.json", json.dumps(found, ensure_ascii=False, indent=1, default=str))
        with archive.open("answers.ndjson", "w") as lines:
            await _answers(connections, user_id, lines)
    out.seek(0)
    return out


async def _rows(
    sql: psycopg.AsyncConnection, table: str, query: str, user_id: str
) -> list[dict[str, Any]] | None:
    """Rows as JSON takes them; None where there is no such table or column yet."""
    try:
        async with sql.transaction():
            found = await sql.execute(query, [user_id])  # type: ignore[arg-type]
            names = [column.name for column in found.description or ()]
            return [told(dict(zip(names, row, strict=True))) for row in await found.fetchall()]
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return None


async def _answers(connections: Connections, user_id: str, lines: IO[bytes]) -> None:
    """One answer a line, the newest first."""
    before: tuple[int, str] | None = None
    while True:
        page = await page_of(connections, user_id, before, _PAGE_ROWS)
        for row in page:
            answer = {**row, "occurred_at": iso_ms(row["occurred_at_us"])}
            lines.write(json.dumps(answer, ensure_ascii=False, default=str).encode() + b"\n")
        if len(page) < _PAGE_ROWS:
            return
        before = (page[-1]["occurred_at_us"], page[-1]["event_id"])
