"""A quiz as others see it, without a word of its questions; cached, and never older than a change (serving/cached.py).

Only what was published is cached: an unpublished quiz is its author's alone, may change with each save and may be deleted.
Who may see it is asked of each caller anew (`library.show`), so nothing here depends on one. What changes a quiz that is
published begins with `Quizzes.writing`: publishing, visibility, archiving, new starter words.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import psycopg

from contracts import names
from contracts.periods import iso_ms
from serving.boards.acknowledged import ScriptRunner
from serving.cached import Cached, Kind, Sql, told

# About 15 MB a process; more than are looked at in an hour only cost reading the same bytes again.
REMEMBERED = 10_000
# What is shown of a quiz, and where its row has it.
SHOWN = (
    "quiz_id", "title", "description", "level", "zone", "origin", "types", "questions", "version", "visibility",
    "archived",
)  # fmt: skip
COLUMNS = "quiz_id, title, description, level, zone, origin, types, question_count, version, visibility, archived_at is not null"
_COUNT = "update quizzes set changes = greatest(changes, %s) + 1 where quiz_id = any(%s) returning quiz_id, changes"
# What `reply` begins with: other bytes than ours are looked up again.
_BEGINS = b'{"quiz_id":'


class ShownQuiz(NamedTuple):
    """A quiz' row as others see it.

    version: how often what is shown has changed, for the cache. published: the version that is played, None before the first.
    reply: the JSON of all that is told of it but whether it is the caller's own.
    """

    version: int
    owner_id: str
    visibility: str
    published: int | None
    reply: bytes


_JSON = msgspec.json.Encoder()
_PARTS = msgspec.json.Decoder(tuple[str, str, int | None, msgspec.Raw])


def encoded(quiz: ShownQuiz) -> str:
    """A quiz' JSON, as Redis has it after `version|`."""
    return _JSON.encode((quiz.owner_id, quiz.visibility, quiz.published, msgspec.Raw(quiz.reply))).decode()


def decoded(text: str | None) -> ShownQuiz | None:
    """What Redis has, None for nothing, a mark or what is none of ours."""
    return told(text, _decode)


def _decode(version: int, rest: str) -> ShownQuiz:
    owner_id, visibility, published, raw = _PARTS.decode(rest)
    reply = bytes(raw)
    if not reply.startswith(_BEGINS):
        raise ValueError("no quiz")
    return ShownQuiz(version, owner_id, visibility, published, reply)


def body_of(quiz: ShownQuiz, own: bool) -> bytes:
    """The reply's bytes for a caller who may see it."""
    return quiz.reply[:-1] + (b',"own":true}' if own else b',"own":false}')


def quiz_of(changes: int, owner_id: str, published_at: datetime | None, *shown: Any) -> ShownQuiz:
    """A row: shown are `COLUMNS`."""
    quiz = dict(zip(SHOWN, shown, strict=True))
    at = published_at and iso_ms(int(published_at.timestamp() * 1e6))
    reply = _JSON.encode({**quiz, "published_at": at})
    return ShownQuiz(changes, owner_id, quiz["visibility"], quiz["version"], reply)


async def _rows(sql: psycopg.AsyncConnection, ids: list[str]) -> dict[str, ShownQuiz]:
    found = await sql.execute(
        f"select quiz_id, changes, owner_id, published_at, {COLUMNS} from quizzes"
        " where quiz_id = any(%s) and origin <> 'import'",
        [ids],
    )
    return {row[0]: quiz_of(*row[1:]) for row in await found.fetchall()}


class Quizzes(Cached[ShownQuiz]):
    """One process' way to quizzes as others see them. shard_of: by quiz id.

    While nobody can say, it says so: what it last read may have been made private since.
    """

    def __init__(self, scripts: list[ScriptRunner], sql: Sql, shard_of: Callable[[str], int]) -> None:
        kind = Kind(
            key_of=names.shown_quiz,
            shard_of=shard_of,
            encoded=encoded,
            decoded=decoded,
            rows=_rows,
            count=_COUNT,
            lasts=lambda quiz: quiz.published is not None,
            most=REMEMBERED,
            old_is_told=False,
        )
        super().__init__(kind, scripts, sql)
