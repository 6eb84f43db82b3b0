"""Courses over HTTP: find one, enrol, leave; their authors make them, and see how many are enrolled.

A course's ETag is its revision (`"r7"`), as a quiz' draft has one: a change says with If-Match which one it was made to.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from contracts import names
from contracts.errors import BadInput, SystemMissing
from contracts.periods import parse_day
from serving.access.limits import UserLimit
from serving.access.roles import require_account
from serving.access.tokens import ADMIN, ANALYST, HOST, ROLES, Identity, unauthenticated
from serving.connections import Connections
from serving.courses import enrolments, store
from serving.courses.store import MOST_QUIZZES, Course, unknown_course
from serving.documented import documented
from serving.leaderboards import settled_boards
from serving.quizzes.author_routes import revision_in
from serving.quizzes.draft import PRIVATE, clean
from serving.quizzes.viewers import viewer_of

router = APIRouter(prefix="/v1/courses", tags=["courses"])
MOST_DAYS = 400
DEFAULT_DAYS = 30
Author = Annotated[Identity, Depends(require_account(HOST))]
Member = Annotated[Identity, Depends(require_account(*ROLES))]
IfMatch = Annotated[str, Header(alias="If-Match", description='the ETag that was read, like "r7"')]
_LIMITED = [Depends(UserLimit())]
_ROW = {
    "course_id": "starter-a1",
    "title": "First words (A1)",
    "description": "All words of A1, each asked in five ways.",
    "level": "A1",
    "quizzes": 20,
    "visibility": "public",
    "archived": False,
    "enrolled": False,
}
_QUIZ = {
    "quiz_id": "starter-a1",
    "title": "First words 1 (A1): find the word",
    "level": "A1",
    "types": ["definition_to_word"],
    "questions": 12,
    "playable": True,
}
_COURSE = {**_ROW, "own": False, "revision": 1, "quizzes": [_QUIZ]}
_DAY = {"day": "2026-03-02", "enrolled": 12, "departed": 1, "members": 412}


class CourseForm(BaseModel):
    """A course: quizzes in the order in which they are to be played, each once."""

    title: Annotated[str, AfterValidator(clean), Field(min_length=1, max_length=80)]
    description: Annotated[str, AfterValidator(clean), Field(max_length=400)] = ""
    level: Literal["", "A1", "A2", "B1", "B2", "C1", "C2"] = ""
    quizzes: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]],
        Field(min_length=1, max_length=MOST_QUIZZES),
    ]
    visibility: Literal["private", "unlisted", "public"] = "private"
    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={
            "examples": [{"title": "Fruit and more", "quizzes": ["starter-a1", "starter-a1-gap-1"]}]
        },
    )

    @field_validator("quizzes")
    @classmethod
    def _each_once(cls, quizzes: list[str]) -> list[str]:
        if len(set(quizzes)) < len(quizzes):
            raise ValueError("a quiz is in it twice")
        return quizzes

    def course(self) -> Course:
        return Course(self.title, self.description, self.level, tuple(self.quizzes), self.visibility)


async def _told(request: Request, response: Response, course_id: str, viewer: str) -> dict[str, Any]:
    shown = await store.show(request.app.state.connections, course_id, viewer)
    response.headers["ETag"] = f'"r{shown["revision"]}"'
    response.headers["Cache-Control"] = "no-store"
    return shown


@router.get(
    "",
    summary="Courses, or those that I made or am enrolled in",
    responses=documented(
        {"courses": [_ROW], "next": None}, s401="unauthenticated", s422="invalid_field", s503="system_missing"
    ),
)
async def courses(
    request: Request,
    mine: Annotated[bool, Query(description="the caller's own and those they are enrolled in")] = False,
    level: Annotated[Literal["", "A1", "A2", "B1", "B2", "C1", "C2"], Query()] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str, Query(max_length=400)] = "",
) -> dict[str, Any]:
    """The starter courses first, then by title. `next`, where there is one, goes into `cursor` for the page after it."""
    viewer = await viewer_of(request)
    if mine and not viewer:
        raise unauthenticated("whose courses?", "log in, or make an account")
    found, following = await store.page(request.app.state.connections, viewer, mine, level, limit, cursor)
    return {"courses": found, "next": following}


@router.post(
    "",
    status_code=201,
    summary="Make a course",
    responses=documented(
        {**_COURSE, "own": True},
        status=201,
        s400="malformed_body",
        s401="unauthenticated",
        s403="forbidden account_needed",
        s404="unknown_user",
        s409="too_many_courses",
        s422="unknown_field missing_field invalid_field unknown_quiz",
        s429="too_many_requests",
        s503="system_missing",
    ),
    dependencies=_LIMITED,
)
async def create(body: CourseForm, request: Request, response: Response, author: Author) -> dict[str, Any]:
    """Of published quizzes; for others than oneself, of those that others may play."""
    made = await store.create(request.app.state.connections, author.user_id, body.course())
    return await _told(request, response, made, author.user_id)


@router.get(
    "/{course_id}",
    summary="A course and its quizzes",
    responses=documented(_COURSE, s401="unauthenticated", s404="unknown_course", s503="system_missing"),
)
async def read(course_id: str, request: Request, response: Response) -> dict[str, Any]:
    """A private course is its author's alone to see, an archived one its members' too: `unknown_course` for others."""
    return await _told(request, response, course_id, await viewer_of(request))


_OWN: dict[str, Any] = {
    "s401": "unauthenticated",
    "s403": "forbidden account_needed",
    "s404": "unknown_course unknown_user",
    "s429": "too_many_requests",
    "s503": "system_missing",
}


@router.put(
    "/{course_id}",
    summary="Change my course",
    responses=documented(
        {**_COURSE, "own": True, "revision": 2},
        s400="malformed_body",
        s412="edit_conflict",
        s422="unknown_field missing_field invalid_field unknown_quiz",
        s428="precondition_required",
        **_OWN,
    ),
    dependencies=_LIMITED,
)
async def save(
    course_id: str,
    body: CourseForm,
    request: Request,
    response: Response,
    author: Author,
    if_match: IfMatch = "",
) -> dict[str, Any]:
    """The whole course at once; who is enrolled stays so."""
    connections, revision = request.app.state.connections, revision_in(if_match)
    await store.save(connections, course_id, author.user_id, body.course(), revision)
    return await _told(request, response, course_id, author.user_id)


@router.post(
    "/{course_id}/archive",
    summary="Take my course off the list",
    responses=documented({**_COURSE, "own": True, "archived": True}, **_OWN),
    dependencies=_LIMITED,
)
async def archive(course_id: str, request: Request, response: Response, author: Author) -> dict[str, Any]:
    """Nobody new enrols; who is enrolled keeps it, and may leave."""
    await store.archive(request.app.state.connections, course_id, author.user_id)
    return await _told(request, response, course_id, author.user_id)


@router.post(
    "/{course_id}/restore",
    summary="Put my archived course back",
    responses=documented({**_COURSE, "own": True}, **_OWN),
    dependencies=_LIMITED,
)
async def restore(course_id: str, request: Request, response: Response, author: Author) -> dict[str, Any]:
    await store.archive(request.app.state.connections, course_id, author.user_id, back=True)
    return await _told(request, response, course_id, author.user_id)


_ENROLLED = {"course_id": "starter-a1", "enrolled": True, "new": True}


@router.post(
    "/{course_id}/enrol",
    summary="Enrol in a course",
    responses=documented(_ENROLLED, s409="too_many_courses", **_OWN),
    dependencies=_LIMITED,
)
async def enrol(course_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """`new`: false where one was enrolled already."""
    new = await enrolments.enrol(request.app.state.connections, course_id, identity.user_id)
    return {"course_id": course_id, "enrolled": True, "new": new}


@router.post(
    "/{course_id}/leave",
    summary="Leave a course",
    responses=documented({**_ENROLLED, "enrolled": False}, **_OWN),
    dependencies=_LIMITED,
)
async def leave(course_id: str, request: Request, identity: Member) -> dict[str, Any]:
    """`new`: false where one was not enrolled."""
    new = await enrolments.leave(request.app.state.connections, course_id, identity.user_id)
    return {"course_id": course_id, "enrolled": False, "new": new}


Day = Annotated[str, Query(max_length=10, description="a UTC day, YYYY-MM-DD")]


@router.get(
    "/{course_id}/days",
    summary="How many enrolled in a course, day by day",
    responses=documented(
        {"course_id": "starter-a1", "days": [_DAY], "counted_through": "2026-03-02"},
        **{**_OWN, "s422": "invalid_field wrong_start"},
    ),
    dependencies=_LIMITED,
)
async def days(
    course_id: str,
    request: Request,
    identity: Member,
    from_: Annotated[Day, Query(alias="from")] = "",
    to: Day = "",
) -> dict[str, Any]:
    """For its author, analysts and admins: users who enrolled and left, and members at the end of each UTC day.

    Days that are not counted yet are left out: `counted_through` is the last one that is, null before the first. `to` is
    inclusive, by default yesterday; `from` 30 days before it.
    """
    connections = request.app.state.connections
    last = parse_day(to) if to else datetime.now(UTC).date() - timedelta(days=1)
    first = parse_day(from_) if from_ else last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise BadInput("invalid_field", f"from {first} to {last} must be 1 to {MOST_DAYS} days")
    async with connections.sql() as sql:
        owner_id, visibility = await store.row_of(sql, course_id, "owner_id, visibility")
        found = await sql.execute("select value from deployment where key = %s", [names.COURSES_COUNTED])
        row = await found.fetchone()
    if owner_id != identity.user_id and identity.acting((ANALYST, ADMIN)) is None:
        if visibility == PRIVATE:
            raise unknown_course(course_id)
        raise BadInput("forbidden", "a course's figures are its author's and analysts' to see", status=403)
    through = parse_day(row[0]) if row else None
    last = min(last, through or date.min)
    rows = await _from_lake(connections, course_id, first, last)
    return {
        "course_id": course_id,
        "days": day_by_day(rows, first, last),
        "counted_through": through and str(through),
    }


def day_by_day(rows: list[tuple[date, int, int, int]], first: date, last: date) -> list[dict[str, Any]]:
    """Every day of a span, none where it ends before it begins.

    Those without a row have nobody who came or went, and the members of the day before.
    """
    by_day = {row[0]: row[1:] for row in rows}
    members = next((row[3] for row in reversed(rows) if row[0] < first), 0)
    found = []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        enrolled, departed, members = by_day.get(day, (0, 0, members))
        found.append({"day": str(day), "enrolled": enrolled, "departed": departed, "members": members})
    return found


async def _from_lake(
    connections: Connections, course_id: str, first: date, last: date
) -> list[tuple[date, int, int, int]]:
    settings = connections.settings
    if not settled_boards.has_lake(settings):
        raise SystemMissing(
            "system_missing",
            f"enrolments are counted in the lake, and profile {settings.profile} has none",
            next_step="./lakeboard up --profile full",
        )
    lake = await settled_boards.opened(settings)

    def read() -> Any:
        return settled_boards.room("lake.courses").read_course_days(lake, course_id, first, last)

    found: list[tuple[date, int, int, int]] = await settled_boards.bounded(read)
    return found
