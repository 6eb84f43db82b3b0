"""Courses over HTTP: made of published quizzes, found, enrolled in and left; each enrolment an event, once, in order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import httpx
import psycopg
import pytest

from contracts import names
from contracts.enrolments import ENROLLED, LEFT, Enrolment, decode
from serving.courses.enrolments import MOST_ENROLMENTS
from serving.courses.routes import day_by_day
from serving.courses.store import MOST_COURSES
from tests.serving.access.people import PASSWORD, Person, made, signed_up
from tests.serving.api_process import ApiProcess
from tests.small_lake import SmallLake

STARTER = ["starter-a1", "starter-a1-gap-1"]


def wanted(**more: Any) -> dict[str, Any]:
    return {"title": f"Course {uuid.uuid4().hex[:8]}", "quizzes": STARTER, "visibility": "public", **more}


def code(reply: httpx.Response) -> str:
    return str(reply.json()["code"])


def create(who: Person, **more: Any) -> dict[str, Any]:
    reply = who.ask("POST", "/v1/courses", json=wanted(**more))
    assert 201 == reply.status_code, reply.text
    found: dict[str, Any] = reply.json()
    return found


def recorded(api: ApiProcess, course_id: str) -> list[Enrolment]:
    """A course's events, in the order of ids; of all, the ids are 1, 2, 3 … and the instants rise."""
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        rows = sql.execute("SELECT id, event FROM enrolments ORDER BY id").fetchall()
    events = [decode(bytes(event)) for _, event in rows]
    assert list(range(1, len(rows) + 1)) == [row[0] for row in rows] == [one.enrolment_id for one in events]
    instants = [one.occurred_at_us for one in events]
    assert sorted(set(instants)) == instants
    return [one for one in events if one.course_id == course_id]


@pytest.mark.service
def test_a_course_is_made_found_and_changed(api: ApiProcess) -> None:
    author, reader = signed_up(api), signed_up(api)
    course = create(author, title="  Fruit and more ", level="A1")
    assert ("Fruit and more", True, False, 1) == tuple(
        course[name] for name in ("title", "own", "enrolled", "revision")
    )
    assert STARTER == [quiz["quiz_id"] for quiz in course["quizzes"]]
    path = f"/v1/courses/{course['course_id']}"
    seen = httpx.get(f"{api.url}{path}").json()
    assert (False, STARTER) == (seen["own"], [quiz["quiz_id"] for quiz in seen["quizzes"]])

    change = wanted(quizzes=STARTER[::-1], visibility="private")
    lacking = author.ask("PUT", path, json=change)
    assert (428, "precondition_required") == (lacking.status_code, code(lacking))
    assert "forbidden" == code(reader.ask("PUT", path, json=change, headers={"If-Match": '"r1"'}))
    saved = author.ask("PUT", path, json=change, headers={"If-Match": '"r1"'})
    assert (200, '"r2"', STARTER[::-1]) == (
        saved.status_code,
        saved.headers["etag"],
        [quiz["quiz_id"] for quiz in saved.json()["quizzes"]],
    )
    stale = author.ask("PUT", path, json=change, headers={"If-Match": '"r1"'})
    assert (412, "edit_conflict") == (stale.status_code, code(stale))
    assert "unknown_course" == code(reader.ask("GET", path))
    assert "unknown_course" == code(reader.ask("POST", f"{path}/enrol"))
    assert "unknown_course" == code(reader.ask("PUT", path, json=change, headers={"If-Match": '"r2"'}))


@pytest.mark.service
def test_the_list_goes_page_by_page_and_mine_has_what_i_am_enrolled_in(api: ApiProcess) -> None:
    author, reader = signed_up(api), signed_up(api)
    ids = [create(author, title=f"zz {n} {uuid.uuid4().hex[:6]}")["course_id"] for n in range(3)]
    found, cursor = [], ""
    while True:
        page = httpx.get(f"{api.url}/v1/courses", params={"limit": 2, "cursor": cursor}).json()
        found += [one["course_id"] for one in page["courses"]]
        cursor = page["next"] or ""
        if not cursor:
            break
    assert "starter-a1" == found[0]
    assert len(found) == len(set(found))
    assert ids == [one for one in found if one in ids]
    assert "starter-a1" not in {
        one["course_id"] for one in httpx.get(f"{api.url}/v1/courses?level=B1").json()["courses"]
    }
    reader.ask("POST", f"/v1/courses/{ids[1]}/enrol").raise_for_status()
    mine = reader.ask("GET", "/v1/courses?mine=true").json()["courses"]
    assert [(ids[1], True)] == [(one["course_id"], one["enrolled"]) for one in mine]
    assert "unauthenticated" == code(httpx.get(f"{api.url}/v1/courses?mine=true"))
    assert "invalid_field" == code(httpx.get(f"{api.url}/v1/courses?cursor=x"))


@pytest.mark.service
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"quizzes": ["no-such-quiz"]}, "unknown_quiz"),
        ({"quizzes": ["starter-a1", "starter-a1"]}, "invalid_field"),
        ({"quizzes": []}, "invalid_field"),
        ({"quizzes": ["a/b"]}, "invalid_field"),
        ({"title": " "}, "invalid_field"),
        ({"title": "\0\u202e "}, "invalid_field"),
        ({"visibility": "mine"}, "invalid_field"),
        ({"more": 1}, "unknown_field"),
    ],
)
def test_what_is_wrong_is_refused_whole(api: ApiProcess, wrong: dict[str, Any], told: str) -> None:
    author = signed_up(api)
    reply = author.ask("POST", "/v1/courses", json=wanted(**wrong))
    assert (422, told) == (reply.status_code, code(reply))
    assert [] == author.ask("GET", "/v1/courses?mine=true").json()["courses"]


def published(who: Person, visibility: str) -> str:
    """A quiz of one question that anybody, or nobody else, may play."""
    draft = {
        "title": "Mine",
        "questions": [
            {
                "type": "definition_to_word",
                "prompt": "a round fruit that grows on trees",
                "answer": "apple",
                "wrong": ["bread", "water", "chair"],
            }
        ],
    }
    made_ = who.ask("POST", "/v1/quizzes", json=draft).raise_for_status()
    path, etag = f"/v1/quizzes/{made_.json()['quiz_id']}", {"If-Match": made_.headers["etag"]}
    who.ask("POST", f"{path}/publish", headers=etag).raise_for_status()
    who.ask("PUT", f"{path}/visibility", json={"visibility": visibility}).raise_for_status()
    return str(made_.json()["quiz_id"])


@pytest.mark.service
def test_a_course_has_only_quizzes_that_its_members_can_play(api: ApiProcess) -> None:
    author, other = signed_up(api), signed_up(api)
    own, open_, foreign = (
        published(author, "private"),
        published(author, "public"),
        published(other, "private"),
    )
    draft = author.ask("POST", "/v1/quizzes", json={"title": "Draft"}).json()["quiz_id"]
    for quizzes, visibility in (([own], "public"), ([foreign], "private"), ([draft], "private")):
        refused = author.ask("POST", "/v1/courses", json=wanted(quizzes=quizzes, visibility=visibility))
        assert (422, "unknown_quiz") == (refused.status_code, code(refused))
    assert [own] == [one["quiz_id"] for one in create(author, quizzes=[own], visibility="private")["quizzes"]]

    # Hidden later: members see it no more, the author does, and a change of the title does not lose it.
    course = create(author, quizzes=[open_, "starter-a1"])
    path = f"/v1/courses/{course['course_id']}"
    author.ask("POST", f"/v1/quizzes/{open_}/archive").raise_for_status()
    assert ["starter-a1"] == [one["quiz_id"] for one in other.ask("GET", path).json()["quizzes"]]
    assert [(open_, False), ("starter-a1", True)] == [
        (one["quiz_id"], one["playable"]) for one in author.ask("GET", path).json()["quizzes"]
    ]
    change = wanted(quizzes=[open_, "starter-a1"], title="Another title")
    author.ask("PUT", path, json=change, headers={"If-Match": '"r1"'}).raise_for_status()
    assert "unknown_quiz" == code(author.ask("POST", "/v1/courses", json=wanted(quizzes=[open_])))

    # Another's, private since: nobody else reads its title here.
    theirs = published(other, "public")
    course = create(author, quizzes=[theirs])
    other.ask("PUT", f"/v1/quizzes/{theirs}/visibility", json={"visibility": "private"}).raise_for_status()
    shown = author.ask("GET", f"/v1/courses/{course['course_id']}").json()["quizzes"]
    assert [(theirs, theirs, False)] == [(one["quiz_id"], one["title"], one["playable"]) for one in shown]


@pytest.mark.service
def test_a_course_that_is_private_now_is_its_members_no_more_but_they_may_leave(api: ApiProcess) -> None:
    author, learner = signed_up(api), signed_up(api)
    course_id = create(author)["course_id"]
    path = f"/v1/courses/{course_id}"
    learner.ask("POST", f"{path}/enrol").raise_for_status()
    hidden = wanted(visibility="private")
    author.ask("PUT", path, json=hidden, headers={"If-Match": '"r1"'}).raise_for_status()
    assert "unknown_course" == code(learner.ask("GET", path))
    assert [] == learner.ask("GET", "/v1/courses?mine=true").json()["courses"]
    assert learner.ask("POST", f"{path}/leave").json()["new"]
    assert "unknown_course" == code(learner.ask("POST", f"{path}/leave"))


@pytest.mark.service
def test_limits_hold_and_a_repeat_is_no_refusal(api: ApiProcess) -> None:
    author, learner = signed_up(api), signed_up(api)
    first = create(author)["course_id"]
    learner.ask("POST", f"/v1/courses/{first}/enrol").raise_for_status()
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute(
            "INSERT INTO courses (course_id, owner_id, title, quizzes, visibility, sort_key) SELECT"
            " %s || n, %s, 'T', '{starter-a1}', 'unlisted', '1 t' FROM generate_series(2, %s) n",
            (f"{author.user_id}-", author.user_id, MOST_COURSES),
        )
        sql.execute(
            "INSERT INTO course_members (course_id, user_id) SELECT %s || n, %s FROM generate_series(2, %s) n",
            (f"{author.user_id}-", learner.user_id, MOST_ENROLMENTS),
        )
    assert MOST_COURSES == MOST_ENROLMENTS
    one_more = author.ask("POST", "/v1/courses", json=wanted())
    assert (409, "too_many_courses") == (one_more.status_code, code(one_more))
    again = learner.ask("POST", f"/v1/courses/{first}/enrol")
    assert (200, False) == (again.status_code, again.json()["new"])
    refused = learner.ask("POST", "/v1/courses/starter-a1/enrol")
    assert (409, "too_many_courses") == (refused.status_code, code(refused))
    assert not learner.ask("GET", "/v1/courses/starter-a1").json()["enrolled"]


@pytest.mark.service
def test_enrolling_twice_is_one_event_and_leaving_another(api: ApiProcess) -> None:
    author, learner = signed_up(api), signed_up(api)
    course_id = create(author)["course_id"]
    path = f"/v1/courses/{course_id}"
    said = [
        learner.ask("POST", f"{path}/{what}").json() for what in ("enrol", "enrol", "leave", "leave", "enrol")
    ]
    assert [(True, True), (True, False), (False, True), (False, False), (True, True)] == [
        (one["enrolled"], one["new"]) for one in said
    ]
    assert learner.ask("GET", path).json()["enrolled"]
    assert [ENROLLED, LEFT, ENROLLED] == [one.kind for one in recorded(api, course_id)]
    author.ask("POST", f"{path}/archive").raise_for_status()
    # Who is enrolled keeps it; nobody new finds it.
    assert learner.ask("GET", path).json()["archived"]
    assert "unknown_course" == code(signed_up(api).ask("POST", f"{path}/enrol"))
    assert learner.ask("POST", f"{path}/leave").json()["new"]
    author.ask("POST", f"{path}/restore").raise_for_status()
    assert signed_up(api).ask("POST", f"{path}/enrol").json()["new"]


@pytest.mark.service
def test_many_at_once_get_dense_ids_and_one_event_each(api: ApiProcess) -> None:
    author = signed_up(api)
    course_id = create(author)["course_id"]
    learners = [signed_up(api) for _ in range(6)]
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda who: who.ask("POST", f"/v1/courses/{course_id}/enrol"), learners * 4))
    assert {200} == {reply.status_code for reply in replies}
    assert len(learners) == sum(reply.json()["new"] for reply in replies)
    events = recorded(api, course_id)
    assert [ENROLLED] * len(learners) == [one.kind for one in events]
    assert len(learners) == len({one.user_id for one in events})


@pytest.mark.service
def test_an_event_that_cannot_be_written_leaves_no_member(api: ApiProcess) -> None:
    author, learner = signed_up(api), signed_up(api)
    course_id = create(author)["course_id"]
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'gone'; END $$"
        )
        sql.execute("CREATE TRIGGER die BEFORE INSERT ON enrolments EXECUTE FUNCTION die()")
        try:
            # On a connection of its own: after an error that nobody expected the server closes it.
            failed = httpx.post(f"{api.url}/v1/courses/{course_id}/enrol", headers=learner.headers)
            assert 500 <= failed.status_code
        finally:
            sql.execute("DROP FUNCTION die CASCADE")
    assert not learner.ask("GET", f"/v1/courses/{course_id}").json()["enrolled"]
    assert [] == recorded(api, course_id)
    assert learner.ask("POST", f"/v1/courses/{course_id}/enrol").json()["new"]
    assert 1 == len(recorded(api, course_id))


@pytest.mark.service
def test_who_deletes_the_account_is_enrolled_nowhere(api: ApiProcess) -> None:
    author, learner = signed_up(api), signed_up(api)
    theirs, own = create(author)["course_id"], create(learner)["course_id"]
    learner.ask("POST", f"/v1/courses/{theirs}/enrol").raise_for_status()
    learner.ask("POST", "/v1/me/delete", json={"password": PASSWORD}).raise_for_status()
    assert [ENROLLED, LEFT] == [one.kind for one in recorded(api, theirs)]
    assert "unknown_course" == code(author.ask("GET", f"/v1/courses/{own}"))


@pytest.mark.service
def test_who_was_deleted_meanwhile_enrols_and_makes_nothing(api: ApiProcess) -> None:
    """A token is believed for some seconds after the account has gone: the row is asked."""
    author, learner = signed_up(api), signed_up(api)
    course_id = create(author)["course_id"]
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute("UPDATE users SET deleted_at = now() WHERE user_id = %s", (learner.user_id,))
    for path, body in ((f"/v1/courses/{course_id}/enrol", None), ("/v1/courses", wanted())):
        assert "unknown_user" == code(learner.ask("POST", path, json=body))
    assert [] == recorded(api, course_id)


@pytest.mark.unit
def test_days_without_a_row_keep_the_members_of_the_day_before() -> None:
    first, last = date(2026, 3, 1), date(2026, 3, 4)
    rows = [(date(2026, 2, 20), 5, 0, 5), (date(2026, 3, 2), 3, 1, 7)]
    found = [tuple(one.values()) for one in day_by_day(rows, first, last)]
    assert [
        ("2026-03-01", 0, 0, 5),
        ("2026-03-02", 3, 1, 7),
        ("2026-03-03", 0, 0, 7),
        ("2026-03-04", 0, 0, 7),
    ] == found
    assert [{"day": "2026-03-01", "enrolled": 0, "departed": 0, "members": 0}] == day_by_day([], first, first)


@pytest.fixture(scope="module")
def with_lake(
    valkey_urls: list[str], new_postgres_url: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiProcess, SmallLake]]:
    folder, url = tmp_path_factory.mktemp("courses"), new_postgres_url()
    lake = SmallLake(url, folder / "lake")
    process = ApiProcess(folder / "api", valkey_urls, url, lake.warehouse)
    yield process, lake
    process.stop()


@pytest.mark.service
def test_days_are_read_from_the_lake_by_whom_they_are_for(with_lake: tuple[ApiProcess, SmallLake]) -> None:
    api, lake = with_lake
    author, analyst, other = signed_up(api), made(api, "analyst"), signed_up(api)
    course_id = create(author)["course_id"]
    path = f"/v1/courses/{course_id}/days?from=2026-03-01&to=2026-03-09"
    empty = author.ask("GET", path).json()
    assert (None, []) == (empty["counted_through"], empty["days"])
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute("INSERT INTO deployment (key, value) VALUES (%s, '2026-03-02')", (names.COURSES_COUNTED,))
    row = {"course_id": course_id, "day": date(2026, 3, 1), "enrolled": 9, "departed": 2, "members": 7}
    lake.append("course_days", [row])
    for who in (author, analyst):
        found = who.ask("GET", path).json()
        assert [("2026-03-01", 9, 2, 7), ("2026-03-02", 0, 0, 7)] == [
            tuple(one.values()) for one in found["days"]
        ]
        assert "2026-03-02" == found["counted_through"]
    assert "forbidden" == code(other.ask("GET", path))
    assert "invalid_field" == code(author.ask("GET", path.replace("2026-03-01", "2024-03-01")))
    assert "wrong_start" == code(author.ask("GET", path.replace("2026-03-01", "1")))


@pytest.mark.service
def test_without_a_lake_the_profile_is_named(api: ApiProcess) -> None:
    author = signed_up(api)
    reply = author.ask("GET", f"/v1/courses/{create(author)['course_id']}/days")
    assert (503, "system_missing") == (reply.status_code, code(reply))
    assert "profile live" in reply.json()["detail"]


@pytest.mark.service
def test_a_table_that_is_not_there_yet_is_a_system_that_is_missing(api: ApiProcess) -> None:
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute("ALTER TABLE courses RENAME TO not_yet")
        try:
            reply = httpx.get(f"{api.url}/v1/courses")
        finally:
            sql.execute("ALTER TABLE not_yet RENAME TO courses")
    assert (503, "system_missing") == (reply.status_code, code(reply))
    assert 200 == httpx.get(f"{api.url}/v1/courses").status_code
