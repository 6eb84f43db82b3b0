"""Courses in a real Chromium: found as a guest, made by a teacher, enrolled in and left by a learner, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from contracts import names
from tests.serving.access.people import signed_up
from tests.serving.api_process import ApiProcess
from tests.serving.web.pages import PHONE, PROJECTOR, Complaints, assert_accessible, context_of, page_of, shot
from tests.serving.web.test_own_screens import as_person
from tests.small_lake import SmallLake

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def with_lake(
    valkey_urls: list[str], new_postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiProcess, SmallLake]]:
    folder, url = tmp_path_factory.mktemp("courses"), new_postgres_url()
    lake = SmallLake(url, folder / "lake")
    process = ApiProcess(folder / "api", valkey_urls, url, lake.warehouse)
    yield process, lake
    process.stop()


def test_a_guest_finds_a_course(browser: Browser, with_lake: tuple[ApiProcess, SmallLake]) -> None:
    api, _ = with_lake
    complaints = Complaints()
    guest = page_of(context_of(browser, PHONE), f"{api.url}/#/library", complaints)
    guest.get_by_role("link", name="Courses").click()
    expect(guest.locator("#courses li").first).to_contain_text("First words (A1)")
    assert_accessible(guest, "courses_phone")
    guest.get_by_role("link", name="Open: First words (A1)").click()
    expect(guest.locator("#path li").first).to_contain_text("find the word")
    expect(guest.get_by_text("Enrolling takes an account")).to_be_visible()
    assert_accessible(guest, "course_guest_phone")
    guest.goto(f"{api.url}/#/courses/nobody-made-this")
    expect(guest.locator(".error")).to_contain_text("There is no such course")
    assert [] == [one for one in complaints if "404" not in one]


def test_a_course_is_made_enrolled_in_and_left(
    browser: Browser, with_lake: tuple[ApiProcess, SmallLake]
) -> None:
    api, _ = with_lake
    complaints = Complaints()
    teacher, ada = signed_up(api, "Teacher"), signed_up(api, "Ada")
    host = as_person(browser, teacher, PROJECTOR, complaints)
    host.goto(f"{api.url}/#/courses")
    host.get_by_role("link", name="New course").click()
    host.get_by_role("button", name="Save the course").click()
    expect(host.locator("#course-error")).to_contain_text("Give the course a title first")
    host.get_by_label("Title").fill("Fruit, then more")
    host.get_by_label("What one learns").fill("Ten minutes a day.")
    host.get_by_label("Who may enrol").select_option("public")
    host.get_by_label("Search").fill("First words 1 gap")
    expect(host.locator("#found li")).to_have_count(1)
    host.get_by_role("button", name="Add: First words 1 (A1): fill the gap").click()
    host.get_by_label("Search").fill("First words 1 find")
    host.get_by_role("button", name="Add: First words 1 (A1): find the word").click()
    expect(host.locator("#steps li")).to_have_count(2)
    host.get_by_role("button", name="Earlier: First words 1 (A1): find the word").click()
    expect(host.locator("#steps li").first).to_contain_text("find the word")
    assert_accessible(host, "course_editor_projector")
    shot(host, "course_editor")
    host.get_by_role("button", name="Save the course").click()
    expect(host.get_by_role("heading", name="Fruit, then more")).to_be_visible()
    expect(host.locator("#figures")).to_contain_text("Not counted yet")
    course_id = host.url.rpartition("/")[2]

    phone = as_person(browser, ada, PHONE, complaints)
    phone.goto(f"{api.url}/#/courses/{course_id}")
    steps = phone.locator("#path li")
    expect(steps).to_have_count(2)
    assert ["starter-a1", "starter-a1-gap-1"] == steps.evaluate_all(
        "all => all.map((one) => one.dataset.quiz)"
    )
    phone.get_by_role("button", name="Enrol").click()
    expect(phone.locator("#enrolled")).to_be_visible()
    assert_accessible(phone, "course_phone")
    shot(phone, "course")
    phone.goto(f"{api.url}/#/courses?mine=1")
    expect(phone.locator("#courses li")).to_have_count(1)
    expect(phone.locator("#courses li")).to_contain_text("Enrolled")
    phone.get_by_role("link", name="Open: Fruit, then more").click()
    phone.get_by_role("button", name="Leave the course").click()
    phone.get_by_role("dialog").get_by_role("button", name="Leave the course").click()
    expect(phone.get_by_role("button", name="Enrol")).to_be_visible()
    assert [] == complaints


def test_its_author_sees_figures_and_whoever_saves_second_is_told(
    browser: Browser, with_lake: tuple[ApiProcess, SmallLake]
) -> None:
    api, lake = with_lake
    complaints = Complaints()
    teacher = signed_up(api, "Teacher")
    body = {"title": "Fruit, then more", "quizzes": ["starter-a1"], "visibility": "public"}
    course_id = teacher.ask("POST", "/v1/courses", json=body).raise_for_status().json()["course_id"]
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for back, enrolled, departed, members in ((9, 12, 0, 12), (4, 5, 2, 15), (0, 1, 0, 16)):
        lake.append(
            "course_days",
            [
                {
                    "course_id": course_id,
                    "day": yesterday - timedelta(days=back),
                    "enrolled": enrolled,
                    "departed": departed,
                    "members": members,
                }
            ],
        )
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute(
            "INSERT INTO deployment (key, value) VALUES (%s, %s)", (names.COURSES_COUNTED, str(yesterday))
        )
    host = as_person(browser, teacher, PROJECTOR, complaints)
    host.goto(f"{api.url}/#/courses/{course_id}")
    expect(host.locator("#enrolments canvas")).to_be_visible()
    expect(host.locator("#enrolments .plot")).to_have_attribute(
        "aria-label", "Chart: Day by day. Newest: members 16, enrolled 1, left 0."
    )
    assert_accessible(host, "course_figures_projector")
    shot(host, "course_figures")

    # Two who change it at once: the second is told.
    host.get_by_role("link", name="Edit").click()
    expect(host.get_by_label("Title")).to_have_value("Fruit, then more")
    now = teacher.ask("GET", f"/v1/courses/{course_id}").json()
    body["title"] = "Another"
    etag = {"If-Match": f'"r{now["revision"]}"'}
    teacher.ask("PUT", f"/v1/courses/{course_id}", json=body, headers=etag).raise_for_status()
    host.get_by_role("button", name="Save the course").click()
    expect(host.locator("#course-conflict")).to_contain_text("Somebody has changed this course meanwhile")
    host.get_by_role("button", name="Look at the newest").click()
    expect(host.get_by_label("Title")).to_have_value("Another")
    assert [] == [one for one in complaints if "412" not in one]
