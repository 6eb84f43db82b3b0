"""Published quizzes as others find and play them: lists by page, one quiz, and its questions for a session.

Questions go to nobody but a session: what others see of a quiz has no prompt and no answer in it.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from contracts.errors import BadInput
from contracts.identity import valid_id
from serving.connections import Connections
from serving.quizzes.draft import PRIVATE, PUBLIC, questions_of
from serving.quizzes.shown import COLUMNS, SHOWN, body_of
from serving.quizzes.starter import starter_quizzes
from serving.quizzes.store import digest_of, put_version, unknown_quiz
from serving.sessions.session import Question

MOST_ROWS = 500
# Words of a search that are looked at; a longer one is a text.
_SEARCH_WORDS = 8
# An author has so few that no index is needed; an instant as text would be anybody's to forge.
_CHANGED = "(extract(epoch from updated_at) * 1000000)::bigint"
# CRC-32 of "lakeboard.quizzes.starter": api processes start together.
_STARTER_LOCK = 0x9D1F43B2


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is asked for. mine: the caller's own, drafts and archived ones too, newest change first."""

    viewer: str = ""
    mine: bool = False
    words: str = ""
    level: str = ""
    type: str = ""
    origin: str = ""
    limit: int = 100
    cursor: str = ""


def encode_cursor(key: str, quiz_id: str) -> str:
    """Where the next page begins: after this quiz."""
    return base64.urlsafe_b64encode(f"{quiz_id}/{key}".encode()).decode()


def decode_cursor(text: str) -> tuple[str, str]:
    """(sort key, quiz id) in a cursor. Raises BadInput(invalid_field)."""
    try:
        quiz_id, slash, key = base64.urlsafe_b64decode(text.encode()).decode().partition("/")
    except (ValueError, binascii.Error) as error:
        raise BadInput("invalid_field", f"cursor {text[:40]!r} is not one of ours") from error
    if not slash or not valid_id(quiz_id) or "\0" in key:
        raise BadInput("invalid_field", f"cursor {text[:40]!r} is not one of ours")
    return key, quiz_id


def search_query(words: str) -> str:
    """A search as Postgres' tsquery: every word must begin one of the quiz'. Only letters and digits come through."""
    return " & ".join(f"{word}:*" for word in re.findall(r"[^\W_]+", words.casefold())[:_SEARCH_WORDS])


async def page(connections: Connections, asked: Asked) -> tuple[list[dict[str, Any]], str | None]:
    """One page of quizzes and the next one's cursor. Raises BadInput(invalid_field) for a cursor that is none."""
    values: list[Any] = []
    if asked.mine:
        where, order, key = ["owner_id = %s"], f"{_CHANGED} desc, quiz_id desc", f"{_CHANGED}::text"
        values.append(asked.viewer)
    else:
        where, order, key = (
            ["version is not null", "archived_at is null", "visibility = 'public'"],
            "sort_key, quiz_id",
            "sort_key",
        )
    query = search_query(asked.words)
    if asked.words and not query:
        return [], None
    if query:
        where.append("to_tsvector('simple', title || ' ' || description) @@ to_tsquery('simple', %s)")
        values.append(query)
    for column, value in (("level", asked.level), ("origin", asked.origin)):
        if value:
            where.append(f"{column} = %s")
            values.append(value)
    if asked.type:
        where.append("%s = any(types)")
        values.append(asked.type)
    if asked.cursor:
        after, quiz_id = decode_cursor(asked.cursor)
        if asked.mine and not re.fullmatch("[0-9]{1,18}", after):
            raise BadInput("invalid_field", f"cursor {asked.cursor[:40]!r} is not one of ours")
        where.append(f"({_CHANGED}, quiz_id) < (%s, %s)" if asked.mine else "(sort_key, quiz_id) > (%s, %s)")
        values += [int(after) if asked.mine else after, quiz_id]
    async with connections.sql() as sql:
        found = await sql.execute(
            f"select {COLUMNS}, {key} from quizzes where {' and '.join(where)} order by {order} limit %s",
            [*values, asked.limit + 1],
        )
        rows = await found.fetchall()
    shown = [dict(zip(SHOWN, row[:-1], strict=True)) for row in rows[: asked.limit]]
    last = rows[asked.limit - 1] if len(rows) > asked.limit else None
    return shown, encode_cursor(last[-1], last[0]) if last else None


async def show(connections: Connections, quiz_id: str, viewer: str) -> bytes:
    """One quiz as `page` shows it, when it was published and whether it is the caller's own, as JSON; from the cache.

    Raises BadInput(unknown_quiz, 404), and SystemMissing while neither the cache nor Postgres can say.
    """
    quiz = await connections.quizzes.one(quiz_id) if valid_id(quiz_id) else None
    if quiz is None:
        raise unknown_quiz(quiz_id)
    check_seen(quiz_id, quiz.owner_id, quiz.visibility, quiz.published, viewer)
    return body_of(quiz, own=bool(viewer) and quiz.owner_id == viewer)


def check_seen(quiz_id: str, owner_id: str, visibility: str, version: int | None, viewer: str) -> None:
    """Raises BadInput(unknown_quiz, 404) for a quiz that this caller does not get to see."""
    if (version is None or visibility == PRIVATE) and not (viewer and viewer == owner_id):
        raise unknown_quiz(quiz_id)


async def _row(connections: Connections, quiz_id: str, columns: str) -> Any:
    if not valid_id(quiz_id):
        raise unknown_quiz(quiz_id)
    async with connections.sql() as sql:
        found = await sql.execute(
            f"select {columns} from quizzes where quiz_id = %s and origin <> 'import'", [quiz_id]
        )
        row = await found.fetchone()
    if row is None:
        raise unknown_quiz(quiz_id)
    return row


async def load_quiz(
    connections: Connections, quiz_id: str, viewer: str = ""
) -> tuple[dict[str, Any], list[Question]]:
    """A quiz to play (quiz_id, title, zone, version) and its questions in order, right answers in them.

    Raises BadInput: unknown_quiz (404), quiz_archived (409).
    """
    row = await _row(
        connections, quiz_id, "title, zone, version, visibility, owner_id, archived_at is not null"
    )
    title, zone, version, visibility, owner_id, archived = row
    check_seen(quiz_id, owner_id, visibility, version, viewer)
    if version is None:
        raise BadInput(
            "quiz_incomplete", f"quiz {quiz_id} is not published", status=409, next_step="publish it"
        )
    if archived:
        raise BadInput(
            "quiz_archived", f"quiz {quiz_id} is archived", status=409, next_step="take another one"
        )
    questions = await questions_at(connections, quiz_id, version)
    return {"quiz_id": quiz_id, "title": title, "zone": zone, "version": version}, questions


async def questions_at(connections: Connections, quiz_id: str, version: int) -> list[Question]:
    """The questions of one version; none if there is no such version."""
    async with connections.sql() as sql:
        found = await sql.execute(
            "select document from quiz_versions where quiz_id = %s and version = %s", [quiz_id, version]
        )
        row = await found.fetchone()
    return [] if row is None else questions_of(row[0])


async def load_starter(connections: Connections) -> int:
    """Publishes the starter quizzes as they are now; how many versions are new. A repeat changes nothing.

    A quiz whose words have changed gets its next version; what was played before keeps its own.
    """
    async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
        await sql.execute("select pg_advisory_xact_lock(%s)", [_STARTER_LOCK])
        found = await sql.execute(
            "select quiz_id, digest from quizzes join quiz_versions using (quiz_id, version) where origin = 'starter'"
        )
        known = dict(await found.fetchall())
        changed = {
            place: quiz
            for place, quiz in enumerate(starter_quizzes())
            if known.get(quiz.quiz_id) != digest_of(quiz.draft)
        }
        if not changed:
            return 0
        for quiz in changed.values():
            await sql.execute(
                "insert into quizzes (quiz_id, title, zone, origin, visibility) values (%s, '', 'UTC', 'starter', %s)"
                " on conflict (quiz_id) do nothing",
                [quiz.quiz_id, PUBLIC],
            )
        await begin(*(quiz.quiz_id for quiz in changed.values()))
        new = [
            await put_version(sql, quiz.quiz_id, quiz.draft, "", f"0 {place:04}")
            for place, quiz in changed.items()
        ]
    return sum(new)
