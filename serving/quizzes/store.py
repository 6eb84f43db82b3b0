"""Authors' quizzes in Postgres: drafts that are saved against a revision, and versions that are published from them.

Every change is one statement or one transaction that compares the revision: of two editors the second is told
(`edit_conflict`), and what the first one saved stays. Who may do what is asked here, with the row in hand. What changes a
published quiz for others goes through `connections.quizzes.writing`, so that no cache shows what was (serving/cached.py);
it needs the quiz' shard.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

import psycopg

from contracts.errors import BadInput
from contracts.identity import valid_id
from contracts.periods import zone_of
from serving.connections import Connections
from serving.quizzes.draft import PRIVATE, QuizDraft, problems

# Of one author, archived ones too. Nobody writes more by hand; a script would fill the table.
MOST_QUIZZES = 1_000
_ID_BYTES = 9
_CONFLICT_STEP = "look at the newest draft, put your change into it, and save again"
_COLUMNS = "owner_id, title, zone, origin, visibility, draft, revision, version, archived_at"


@dataclass(frozen=True, slots=True)
class Owned:
    """An author's quiz as its row has it. version: the published one, None before the first."""

    quiz_id: str
    owner_id: str
    title: str
    zone: str
    origin: str
    visibility: str
    draft: QuizDraft
    revision: int
    version: int | None
    archived: bool


def unknown_quiz(quiz_id: str) -> BadInput:
    return BadInput("unknown_quiz", f"there is no quiz {quiz_id[:80]!r} to play", status=404)


def digest_of(draft: QuizDraft) -> str:
    """Names a version's content: SHA-256 of its JSON."""
    text = json.dumps(draft.model_dump(), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def with_ids(draft: QuizDraft) -> QuizDraft:
    """The draft with an id on each question; one that is given twice stays with the first."""
    taken: set[str] = set()
    for question in draft.questions:
        while not question.question_id or question.question_id in taken:
            question.question_id = f"q{secrets.token_hex(6)}"
        taken.add(question.question_id)
    return draft


async def create(connections: Connections, owner_id: str, draft: QuizDraft, zone: str = "UTC") -> Owned:
    """A new private quiz with its first draft. Raises BadInput(unknown_zone, too_many_quizzes)."""
    zone_of(zone)
    quiz_id = f"q_{secrets.token_urlsafe(_ID_BYTES)}"
    draft = with_ids(draft)
    async with connections.sql() as sql:
        made = await sql.execute(
            "insert into quizzes (quiz_id, owner_id, title, zone, origin, visibility, draft, revision)"
            " select %s, %s, %s, %s, 'author', %s, %s, 1 where"
            " (select count(*) from quizzes where owner_id = %s) < %s",
            [quiz_id, owner_id, draft.title, zone, PRIVATE, _json(draft), owner_id, MOST_QUIZZES],
        )
    if made.rowcount == 0:
        raise BadInput(
            "too_many_quizzes", f"at most {MOST_QUIZZES} quizzes", status=409, next_step="delete some"
        )
    return Owned(quiz_id, owner_id, draft.title, zone, "author", PRIVATE, draft, 1, None, False)


def _json(draft: QuizDraft) -> str:
    return json.dumps(draft.model_dump(), ensure_ascii=False)


async def own(connections: Connections, quiz_id: str, owner_id: str) -> Owned:
    """The quiz, for its owner. Raises BadInput: unknown_quiz (404; also for another's private one), forbidden (403)."""
    async with connections.sql() as sql:
        return await _own(sql, quiz_id, owner_id)


async def _own(sql: psycopg.AsyncConnection, quiz_id: str, owner_id: str, lock: str = "") -> Owned:
    if not valid_id(quiz_id):
        raise unknown_quiz(quiz_id)
    found = await sql.execute(f"select {_COLUMNS} from quizzes where quiz_id = %s {lock}", [quiz_id])
    row = await found.fetchone()
    if row is None or row[3] == "import":
        raise unknown_quiz(quiz_id)
    owner, title, zone, origin, visibility, draft, revision, version, archived_at = row
    if not owner_id or owner != owner_id:
        if visibility == PRIVATE:
            raise unknown_quiz(quiz_id)
        raise BadInput("forbidden", f"quiz {quiz_id} belongs to another author", status=403)
    held = QuizDraft.model_validate(draft or {})
    return Owned(
        quiz_id, owner, title, zone, origin, visibility, held, revision, version, archived_at is not None
    )


def _check(quiz: Owned, revision: int) -> None:
    if quiz.revision != revision:
        raise BadInput(
            "edit_conflict",
            f"quiz {quiz.quiz_id} is at revision {quiz.revision}, the change was made to {revision}",
            status=412,
            next_step=_CONFLICT_STEP,
        )


async def save(
    connections: Connections, quiz_id: str, owner_id: str, draft: QuizDraft, revision: int
) -> Owned:
    """Replaces the draft that had this revision; the quiz after it. Raises as `own`, and BadInput(edit_conflict, 412)."""
    draft = with_ids(draft)
    async with connections.sql() as sql, sql.transaction():
        quiz = await _own(sql, quiz_id, owner_id, "for update")
        _check(quiz, revision)
        # The row is locked: nobody has changed it since it was compared. Others see no change: what is published keeps its
        # title, and what is not is in no cache.
        await sql.execute(
            "update quizzes set draft = %s, revision = revision + 1, updated_at = now(),"
            " title = case when version is null then %s else title end where quiz_id = %s",
            [_json(draft), draft.title, quiz_id],
        )
        return await _own(sql, quiz_id, owner_id)


async def publish(connections: Connections, quiz_id: str, owner_id: str, revision: int) -> tuple[Owned, bool]:
    """Makes the draft of this revision the version that is played from now on; (the quiz, whether it is a new version).

    A draft that is what is played already makes none, so a request that is sent again makes one version. Sessions that
    run have a copy of theirs. Raises as `save`, and BadInput(quiz_incomplete).
    """
    async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
        quiz = await _own(sql, quiz_id, owner_id, "for update")
        _check(quiz, revision)
        wrong = problems(quiz.draft)
        if wrong:
            first = wrong[0]
            place = f"question {first.question}: " if first.question else ""
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise BadInput("quiz_incomplete", f"{place}{first.detail}{more}", next_step="mend the draft")
        await begin(quiz_id)
        new = await put_version(sql, quiz_id, quiz.draft, owner_id, f"1 {quiz.draft.title.casefold()}")
        return await _own(sql, quiz_id, owner_id), new


async def put_version(
    sql: psycopg.AsyncConnection, quiz_id: str, draft: QuizDraft, published_by: str, sort_key: str
) -> bool:
    """Publishes a complete draft of a quiz that the caller has begun to write; False if its last version says the same."""
    digest = digest_of(draft)
    found = await sql.execute(
        "select version, digest from quiz_versions where quiz_id = %s order by version desc limit 1",
        [quiz_id],
    )
    last = await found.fetchone()
    if last is not None and last[1] == digest:
        return False
    version = last[0] + 1 if last else 1
    await sql.execute(
        "insert into quiz_versions (quiz_id, version, document, digest, published_by) values (%s, %s, %s, %s, %s)",
        [quiz_id, version, _json(draft), digest, published_by],
    )
    await sql.execute(
        "update quizzes set version = %s, title = %s, description = %s, level = %s, types = %s, question_count = %s,"
        " sort_key = %s, published_at = now(), updated_at = now() where quiz_id = %s",
        [
            version, draft.title, draft.description, draft.level, draft.types, len(draft.questions), sort_key, quiz_id,
        ],
    )  # fmt: skip
    return True


async def set_visibility(connections: Connections, quiz_id: str, owner_id: str, visibility: str) -> Owned:
    """Who may find and play it: nobody else, who knows its id, or everybody."""
    async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
        await _own(sql, quiz_id, owner_id, "for update")
        await begin(quiz_id)
        await sql.execute("update quizzes set visibility = %s where quiz_id = %s", [visibility, quiz_id])
        return await _own(sql, quiz_id, owner_id)


async def archive(connections: Connections, quiz_id: str, owner_id: str, back: bool = False) -> Owned:
    """Takes a quiz out of the library and off play, or puts it back; sessions that run go on."""
    async with connections.sql() as sql, connections.quizzes.writing(sql) as begin:
        await _own(sql, quiz_id, owner_id, "for update")
        await begin(quiz_id)
        at = "null" if back else "coalesce(archived_at, now())"
        await sql.execute(f"update quizzes set archived_at = {at} where quiz_id = %s", [quiz_id])
        return await _own(sql, quiz_id, owner_id)


async def delete(connections: Connections, quiz_id: str, owner_id: str) -> None:
    """Deletes a quiz that was never published, so that no cache has it.

    Raises BadInput(quiz_published, 409): answers may refer to it.
    """
    async with connections.sql() as sql, sql.transaction():
        quiz = await _own(sql, quiz_id, owner_id, "for update")
        if quiz.version is not None:
            raise BadInput(
                "quiz_published",
                f"quiz {quiz_id} has {quiz.version} versions",
                status=409,
                next_step="archive it",
            )
        await sql.execute("delete from quizzes where quiz_id = %s", [quiz_id])


async def versions(connections: Connections, quiz_id: str, owner_id: str) -> list[dict[str, Any]]:
    """(version, published_at, questions) of each version, newest first, for the owner."""
    async with connections.sql() as sql:
        await _own(sql, quiz_id, owner_id)
        found = await sql.execute(
            "select version, published_at, jsonb_array_length(document -> 'questions') from quiz_versions"
            " where quiz_id = %s order by version desc",
            [quiz_id],
        )
        rows = await found.fetchall()
    return [{"version": row[0], "published_at": row[1], "questions": row[2]} for row in rows]


async def version_of(connections: Connections, quiz_id: str, owner_id: str, version: int) -> QuizDraft:
    """A version with its answers, for the owner. Raises BadInput(unknown_version, 404)."""
    async with connections.sql() as sql:
        await _own(sql, quiz_id, owner_id)
        found = await sql.execute(
            "select document from quiz_versions where quiz_id = %s and version = %s", [quiz_id, version]
        )
        row = await found.fetchone()
    if row is None:
        raise BadInput("unknown_version", f"quiz {quiz_id} has no version {version}", status=404)
    return QuizDraft.model_validate(row[0])
