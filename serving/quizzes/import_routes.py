"""Lists brought in and taken out over HTTP: a look at what a text holds, and a draft's questions as CSV.

Nothing is stored by a look: its questions are put into a draft, and saved with it or not at all.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from contracts.errors import BadInput
from serving.access.limits import UserLimit
from serving.documented import documented
from serving.quizzes import importing, store
from serving.quizzes.author_routes import Author
from serving.quizzes.sheets import text_of
from serving.quizzes.word_lists import TYPES

router = APIRouter(prefix="/v1", tags=["quizzes"])
_EXAMPLE: dict[str, Any] = {
    "format": "words",
    "separator": "\t",
    "words": 2,
    "complete": False,
    "questions": [
        {
            "line": 1,
            "question": {
                "question_id": "",
                "type": "definition_to_word",
                "prompt": "a round fruit that grows on trees",
                "answer": "apple",
                "wrong": ["bread"],
                "also": [],
                "word": "apple",
                "part": "",
                "tags": [],
                "media": None,
                "time_limit_s": 20,
            },
        }
    ],
    "errors": [{"line": 3, "code": "definition_missing", "detail": "'pear' has no definition"}],
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            name: {
                "schema": {"type": "string"},
                "example": "apple\ta round fruit that grows on trees\nbread\tbaked food\n",
            }
            for name in ("text/plain", "text/csv")
        },
    }
}


@router.post(
    "/quizzes/import",
    summary="Look at a list of words or questions before it is brought in",
    openapi_extra=_BODY,
    responses=documented(
        _EXAMPLE,
        s401="unauthenticated",
        s403="forbidden account_needed",
        s413="body_too_large",
        s422="invalid_field bad_encoding nothing_to_import",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=[Depends(UserLimit())],
)
async def look(
    request: Request,
    author: Author,
    format: Annotated[Literal["", "words", "questions", "anki"], Query(description="empty: found out")] = "",
    types: Annotated[str, Query(max_length=200, description="how words are asked, with commas")] = TYPES[0],
    swapped: Annotated[bool, Query(description="the definition comes before the word")] = False,
) -> dict[str, Any]:
    """The body is the text itself, or a file's bytes: UTF-8, or UTF-16 with its mark; columns by tab, comma, semicolon, dash.

    Words: word, definition, example, or a header that names the columns. Questions: as `draft.csv` writes them. Anki: notes
    as text. `errors` has every line that cannot be asked; `complete` is true without any. `questions`: of the other lines.
    """
    wanted = tuple(dict.fromkeys(name for name in types.split(",") if name))
    if not wanted or not set(wanted) <= set(TYPES):
        raise BadInput("invalid_field", f"types: some of {', '.join(TYPES)}")
    text = text_of(await request.body())
    # On a thread: thousands of lines take a while, and this process has sockets to serve.
    found = await asyncio.to_thread(importing.preview, text, importing.Wanted(format, "", wanted, swapped))
    bad = {error.line for error in found.errors}
    return {
        "format": found.format,
        "separator": found.separator,
        "words": found.words,
        "complete": not bad,
        "questions": [
            {"line": line, "question": question.model_dump()}
            for line, question in found.questions
            if line not in bad
        ],
        "errors": [{"line": one.line, "code": one.code, "detail": one.detail} for one in found.errors],
    }


_CSV: Any = documented(
    {},
    s401="unauthenticated",
    s403="forbidden account_needed",
    s404="unknown_quiz",
    s429="too_many_requests",
    s503="system_missing",
)
_CSV[200]["content"] = {"text/csv": {"example": "type,prompt,answer\r\n"}}


@router.get(
    "/quizzes/{quiz_id}/draft.csv",
    summary="My draft's questions as CSV",
    responses=_CSV,
    response_class=Response,
    dependencies=[Depends(UserLimit())],
)
async def export(quiz_id: str, request: Request, author: Author) -> Response:
    """Brought in again it is the same. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    quiz = await store.own(request.app.state.connections, quiz_id, author.user_id)
    headers = {
        "Content-Disposition": f'attachment; filename="lakeboard-{quiz_id}.csv"',
        "Cache-Control": "no-store",
    }
    return Response(
        importing.questions_csv(quiz.draft), media_type="text/csv; charset=utf-8", headers=headers
    )
