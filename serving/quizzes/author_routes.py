"""What authors do with their quizzes over HTTP: write, save against a revision, publish, hide, archive, delete, export.

A draft's ETag is its revision (`"r7"`). Every change of a draft says with If-Match which one it was made to; if
somebody has saved since, it is refused (412 `edit_conflict`) and nothing is lost: theirs is stored, the caller has its own.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict

from contracts.errors import BadInput
from contracts.periods import iso_ms
from serving.access.limits import UserLimit
from serving.access.roles import require_account
from serving.access.tokens import HOST, Identity
from serving.documented import documented
from serving.quizzes import store
from serving.quizzes.draft import QuizDraft, problems
from serving.quizzes.store import Owned

router = APIRouter(prefix="/v1", tags=["quizzes"])
Author = Annotated[Identity, Depends(require_account(HOST))]
IfMatch = Annotated[str, Header(alias="If-Match", description='the ETag that was read, like "r7"')]
_EXAMPLE_DRAFT: dict[str, Any] = {
    "title": "Fruit",
    "description": "",
    "level": "A1",
    "language": "en",
    "questions": [
        {
            "question_id": "q1f0c6a2b9d3e",
            "type": "definition_to_word",
            "prompt": "a round fruit that grows on trees",
            "answer": "apple",
            "wrong": ["bread", "water", "chair"],
            "also": [],
            "word": "apple",
            "part": "noun",
            "tags": [],
            "media": None,
            "time_limit_s": 20,
        }
    ],
}
_EXAMPLE = {
    "quiz_id": "q_3xV0aZ9kPq",
    "title": "Fruit",
    "zone": "UTC",
    "origin": "author",
    "visibility": "private",
    "revision": 7,
    "version": None,
    "archived": False,
    "draft": _EXAMPLE_DRAFT,
    "problems": [],
}
_OWN: dict[str, Any] = {
    "s401": "unauthenticated",
    "s403": "forbidden account_needed",
    "s404": "unknown_quiz",
    "s429": "too_many_requests",
    "s503": "system_missing",
}
_LIMITED = [Depends(UserLimit())]
_REVISION = re.compile(r'"r([0-9]{1,15})"')


class NewQuiz(QuizDraft):
    """A first draft. `zone`: of its boards' days, fixed for ever."""

    zone: str = "UTC"
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE_DRAFT]})


class Visibility(BaseModel):
    """private: its owner's alone; unlisted: whoever knows its id; public: in the library."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"visibility": "public"}]})
    visibility: Literal["private", "unlisted", "public"]


def revision_in(if_match: str) -> int:
    """The revision that a change was made to. Raises BadInput(precondition_required, 428) without one of ours."""
    found = _REVISION.fullmatch(if_match.strip())
    if found is None:
        raise BadInput(
            "precondition_required",
            'If-Match must have the ETag of the draft that was read, like "r7"',
            status=428,
            next_step="read the draft first",
        )
    return int(found[1])


def told(quiz: Owned, response: Response) -> dict[str, Any]:
    """An author's quiz with its draft and what keeps it from being published; its ETag goes into the headers."""
    response.headers["ETag"] = f'"r{quiz.revision}"'
    response.headers["Cache-Control"] = "no-store"
    return {
        "quiz_id": quiz.quiz_id,
        "title": quiz.draft.title or quiz.title,
        "zone": quiz.zone,
        "origin": quiz.origin,
        "visibility": quiz.visibility,
        "revision": quiz.revision,
        "version": quiz.version,
        "archived": quiz.archived,
        "draft": quiz.draft.model_dump(),
        "problems": [problem._asdict() for problem in problems(quiz.draft)],
    }


@router.post(
    "/quizzes",
    status_code=201,
    summary="Make a quiz: a private draft",
    responses=documented(
        _EXAMPLE,
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden account_needed",
        s409="too_many_quizzes",
        s413="body_too_large",
        s422="unknown_field missing_field invalid_field unknown_zone",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=_LIMITED,
)
async def create(body: NewQuiz, request: Request, response: Response, author: Author) -> dict[str, Any]:
    """A draft may be unfinished; `problems` says what it needs before it can be published."""
    draft = QuizDraft(**{name: getattr(body, name) for name in QuizDraft.model_fields})
    return told(await store.create(request.app.state.connections, author.user_id, draft, body.zone), response)


@router.get(
    "/quizzes/{quiz_id}/draft",
    summary="My quiz as I edit it, right answers in it",
    responses=documented(_EXAMPLE, **_OWN),
    dependencies=_LIMITED,
)
async def read(quiz_id: str, request: Request, response: Response, author: Author) -> dict[str, Any]:
    """Its ETag goes back with the next change."""
    return told(await store.own(request.app.state.connections, quiz_id, author.user_id), response)


_CHANGED = documented(
    _EXAMPLE,
    s400="malformed_body",
    s412="edit_conflict",
    s413="body_too_large",
    s422="unknown_field missing_field invalid_field",
    s428="precondition_required",
    **_OWN,
)


@router.put("/quizzes/{quiz_id}/draft", summary="Save my draft", responses=_CHANGED, dependencies=_LIMITED)
async def save(
    quiz_id: str,
    body: QuizDraft,
    request: Request,
    response: Response,
    author: Author,
    if_match: IfMatch = "",
) -> dict[str, Any]:
    """The whole draft at once. Nobody plays it before it is published."""
    revision = revision_in(if_match)
    return told(
        await store.save(request.app.state.connections, quiz_id, author.user_id, body, revision), response
    )


@router.post(
    "/quizzes/{quiz_id}/publish",
    summary="Publish my draft as the next version",
    responses=documented(
        {**_EXAMPLE, "version": 2, "new": True},
        s412="edit_conflict",
        s422="quiz_incomplete",
        s428="precondition_required",
        **_OWN,
    ),
    dependencies=_LIMITED,
)
async def publish(
    quiz_id: str, request: Request, response: Response, author: Author, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Sessions that run keep the version they began with. `new`: false if the draft is what is played already."""
    revision = revision_in(if_match)
    quiz, new = await store.publish(request.app.state.connections, quiz_id, author.user_id, revision)
    return {**told(quiz, response), "new": new}


@router.put(
    "/quizzes/{quiz_id}/visibility",
    summary="Say who may find and play my quiz",
    responses=documented(
        _EXAMPLE, s400="malformed_body", s422="unknown_field missing_field invalid_field", **_OWN
    ),
    dependencies=_LIMITED,
)
async def visibility(
    quiz_id: str, body: Visibility, request: Request, response: Response, author: Author
) -> dict[str, Any]:
    return told(
        await store.set_visibility(request.app.state.connections, quiz_id, author.user_id, body.visibility),
        response,
    )


@router.post(
    "/quizzes/{quiz_id}/archive",
    summary="Take my quiz off the library and off play",
    responses=documented({**_EXAMPLE, "archived": True}, **_OWN),
    dependencies=_LIMITED,
)
async def archive(quiz_id: str, request: Request, response: Response, author: Author) -> dict[str, Any]:
    """Sessions that run go on; what was played stays on its boards."""
    return told(await store.archive(request.app.state.connections, quiz_id, author.user_id), response)


@router.post(
    "/quizzes/{quiz_id}/restore",
    summary="Put my archived quiz back",
    responses=documented(_EXAMPLE, **_OWN),
    dependencies=_LIMITED,
)
async def restore(quiz_id: str, request: Request, response: Response, author: Author) -> dict[str, Any]:
    return told(
        await store.archive(request.app.state.connections, quiz_id, author.user_id, back=True), response
    )


@router.delete(
    "/quizzes/{quiz_id}",
    summary="Delete my quiz that was never published",
    responses=documented({"deleted": "q_3xV0aZ9kPq"}, s409="quiz_published", **_OWN),
    dependencies=_LIMITED,
)
async def delete(quiz_id: str, request: Request, author: Author) -> dict[str, Any]:
    """A published one can be archived alone: answers, boards and sessions name it."""
    await store.delete(request.app.state.connections, quiz_id, author.user_id)
    return {"deleted": quiz_id}


@router.get(
    "/quizzes/{quiz_id}/versions",
    summary="The versions of my quiz, newest first",
    responses=documented(
        {"versions": [{"version": 1, "published_at": "2026-03-02T18:00:01.204Z", "questions": 12}]}, **_OWN
    ),
    dependencies=_LIMITED,
)
async def list_versions(quiz_id: str, request: Request, author: Author) -> dict[str, Any]:
    rows = await store.versions(request.app.state.connections, quiz_id, author.user_id)
    return {
        "versions": [
            {**row, "published_at": iso_ms(int(row["published_at"].timestamp() * 1e6))} for row in rows
        ]
    }


@router.get(
    "/quizzes/{quiz_id}/versions/{version}",
    summary="One version of my quiz, right answers in it",
    responses=documented(
        {"quiz_id": "q_3xV0aZ9kPq", "version": 1, "draft": _EXAMPLE_DRAFT},
        **{**_OWN, "s404": "unknown_quiz unknown_version"},
    ),
    dependencies=_LIMITED,
)
async def one_version(quiz_id: str, version: int, request: Request, author: Author) -> dict[str, Any]:
    """It never changes; saved as the draft it can be taken up again."""
    if not 0 < version < 2**31:
        raise BadInput("unknown_version", f"quiz {quiz_id[:80]} has no version {version}", status=404)
    draft = await store.version_of(request.app.state.connections, quiz_id, author.user_id, version)
    return {"quiz_id": quiz_id, "version": version, "draft": draft.model_dump()}
