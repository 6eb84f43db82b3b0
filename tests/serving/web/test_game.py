"""A led game in a real Chromium: a host and two players to the podium, both lose their line, all see the same at the end."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.api_process import ApiProcess
from tests.serving.web.pages import (
    PHONE,
    PROJECTOR,
    Complaints,
    Robot,
    assert_accessible,
    context_of,
    current,
    host_game,
    join,
    page_of,
    right_choice,
    seat_of,
    shot,
)

pytestmark = pytest.mark.browser
ROBOTS = ("Noor", "Kofi", "Mia", "Linus", "Yuki")


class Room:
    """A host on a projector, two players on phones, and robots; what each answered, counted beside the page."""

    def __init__(self, browser: Browser, api: ApiProcess) -> None:
        self.api = api
        self.complaints = Complaints()
        self.host = page_of(context_of(browser, PROJECTOR), api.url, self.complaints)
        self.phone, self.tablet = context_of(browser, PHONE, "dark"), context_of(browser, PHONE)
        self.seat = host_game(self.host)
        door = f"{api.url}/?pin={self.seat['pin']}"
        self.ada = page_of(self.phone, door, self.complaints)
        self.grace = page_of(self.tablet, door, self.complaints)
        self.right: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.wrong: dict[str, Counter[str]] = {}

    def question(self) -> dict[str, Any]:
        return current(self.api.url, self.seat["session_id"])

    def count(self, question: dict[str, Any], choice: str) -> None:
        ident = question["question_id"]
        self.answered[ident] += 1
        self.right[ident] += choice == right_choice(question)
        if choice != right_choice(question):
            self.wrong.setdefault(ident, Counter())[choice] += 1

    def robots_answer(self, question: dict[str, Any], robots: list[Robot], right: int) -> None:
        wrong = [choice for choice in question["choices"] if choice != right_choice(question)]
        for place, robot in enumerate(robots):
            choice = right_choice(question) if place < right else wrong[place % 2]
            robot.answer(question, choice)
            self.count(question, choice)

    def next(self) -> None:
        self.host.keyboard.press("ArrowRight")


def choose(page: Page, choice: str) -> None:
    page.locator(f'#choices [data-choice="{choice}"]').click()


def rows_of(page: Page) -> list[tuple[str, int]]:
    """(user_id, points) of the final screen: the podium's steps and the rows below."""
    found = page.locator("#final [data-user]").evaluate_all(
        "all => all.map((one) => [one.dataset.user, one.querySelector('.points').textContent])"
    )
    return [(user, int("".join(c for c in points if c.isdigit()))) for user, points in found]


def test_a_game_to_the_podium(browser: Browser, api: ApiProcess, tmp_path: Path) -> None:
    room = Room(browser, api)
    host, ada, grace = room.host, room.ada, room.grace
    assert_accessible(ada, "join_phone")
    expect(ada.get_by_label("Your name")).to_be_focused()
    join(ada, "Ada")
    join(grace, "Grace")
    robots = [Robot(api.url, room.seat["pin"], name) for name in ROBOTS]
    expect(host.locator("#names")).to_contain_text("Grace")
    expect(host.locator("#names li:not(.away)")).to_have_count(7)
    host.wait_for_function("document.getElementById('qr').naturalWidth > 0")
    assert_accessible(host, "lobby_projector")
    assert_accessible(ada, "lobby_phone")
    shot(host, "lobby")
    for robot in robots:
        robot.hang_up()
    host.get_by_role("button", name="Start").click()
    first_question(room, robots)
    second_question(room, robots)
    third_question(room, robots)
    for number in range(3, 13):
        expect(host.locator("#count")).to_have_text(f"Question {number} of 12")
        host.get_by_role("button", name="Skip").click()
    at_the_podium(room)
    report_is_right(room, tmp_path)
    assert [] == [one for one in room.complaints if "ERR_INTERNET_DISCONNECTED" not in one]


def first_question(room: Room, robots: list[Robot]) -> None:
    host, ada, grace = room.host, room.ada, room.grace
    expect(ada.locator("#count")).to_have_text("Question 1 of 12")
    expect(ada.locator("#prompt")).to_be_focused()
    question = room.question()
    right = right_choice(question)
    room.robots_answer(question, robots, 3)
    assert_accessible(grace, "question_phone")
    assert_accessible(host, "question_projector")
    ada.keyboard.press(str(question["choices"].index(right) + 1))
    expect(ada.locator("#result")).to_contain_text("Right! +")
    room.count(question, right)
    expect(host.locator("#answered")).to_have_text("6 of 7 answered")
    shot(host, "question_projector")
    wrong = next(choice for choice in question["choices"] if choice != right)
    choose(grace, wrong)
    room.count(question, wrong)
    expect(grace.locator("#result")).to_contain_text("Not this time")
    expect(host.locator("#answered")).to_have_text("Everybody has answered")
    assert_accessible(ada, "answered_phone")
    host.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert_accessible(host, "question_host_on_a_phone")
    host.set_viewport_size(PROJECTOR)  # type: ignore[arg-type]
    room.next()
    expect(grace.locator("#choices .wrong.chosen")).to_contain_text("your answer")
    expect(grace.locator("#choices .right")).to_contain_text("right answer")
    expect(host.locator("#choices .right .mark")).to_contain_text("4 answers")
    assert_accessible(host, "reveal_projector")
    assert_accessible(grace, "reveal_phone")
    room.next()
    expect(host.get_by_role("heading", name="Standings")).to_be_focused()
    expect(ada.locator("#place")).to_contain_text("of 7")
    room.next()


def second_question(room: Room, robots: list[Robot]) -> None:
    """Grace's tab goes in mid-question and she comes back by the door; Ada's line goes after she has answered."""
    host, ada = room.host, room.ada
    expect(ada.locator("#count")).to_have_text("Question 2 of 12")
    expect(room.grace.locator("#count")).to_have_text("Question 2 of 12")
    question = room.question()
    right = right_choice(question)
    shot(ada, "question_phone")
    room.grace.close()
    choose(ada, right)
    room.count(question, right)
    expect(ada.locator("#result")).to_contain_text("Right! +")
    room.phone.set_offline(True)
    ada.evaluate("window.sockets.forEach((socket) => socket.close())")
    expect(ada.locator("#line")).to_have_text("Reconnecting …")
    back = page_of(room.tablet, f"{room.api.url}/?pin={room.seat['pin']}", room.complaints)
    assert_accessible(back, "way_back_phone")
    back.get_by_role("button", name="Go on as Grace").click()
    room.grace = back
    expect(back.locator("#count")).to_have_text("Question 2 of 12")
    expect(back.locator("#choices .choice[aria-disabled=false]")).to_have_count(4)
    choose(back, right)
    room.count(question, right)
    expect(back.locator("#result")).to_contain_text("Right! +")
    back.reload()
    expect(back.locator("#result")).to_contain_text("Right! +")
    expect(back.locator("#choices .chosen")).to_contain_text(right)
    room.robots_answer(question, robots, 2)
    room.next()
    expect(host.locator("#choices .right")).to_have_count(1)
    room.phone.set_offline(False)
    expect(ada.locator("#line")).to_be_empty()
    expect(ada.locator("#choices .right.chosen")).to_contain_text("your answer")
    room.next()
    expect(host.locator("#standings .move").first).to_be_visible()
    expect(ada.locator("#standings .me")).to_contain_text("Ada")
    assert_accessible(host, "standings_projector")
    assert_accessible(ada, "standings_phone")
    room.next()


def third_question(room: Room, robots: list[Robot]) -> None:
    """Paused and resumed; nobody but robots answers. The host's page is loaded again in between."""
    host, ada = room.host, room.ada
    expect(ada.locator("#count")).to_have_text("Question 3 of 12")
    question = room.question()
    room.robots_answer(question, robots, 1)
    host.get_by_role("button", name="Pause").click()
    expect(ada.get_by_role("heading", name="Paused")).to_be_focused()
    assert_accessible(ada, "paused_phone")
    host.reload()
    host.get_by_role("button", name="Players").click()
    expect(host.get_by_role("dialog")).to_contain_text("Noor")
    assert_accessible(host, "players_projector")
    host.keyboard.press("Escape")
    host.get_by_role("button", name="Go on").click()
    expect(ada.locator("#choices .choice[aria-disabled=false]")).to_have_count(4)
    expect(host.locator("#answered")).to_have_text("5 of 7 answered")


def at_the_podium(room: Room) -> None:
    host, ada, grace = room.host, room.ada, room.grace
    for page in (host, ada, grace):
        expect(page.get_by_role("heading", name="The podium")).to_be_visible()
        expect(page.locator("#final [data-user]")).to_have_count(7)
    board = httpx.get(
        f"{room.api.url}/v1/leaderboards/session:{room.seat['session_id']}/all_time/current"
    ).json()
    expected = [(entry["user_id"], entry["points"]) for entry in board["entries"]]
    assert expected[2][1] > 0
    for page in (host, ada, grace):
        assert sorted(expected) == sorted(rows_of(page))
        places = page.locator("#podium [data-user]").evaluate_all("all => all.map((one) => one.dataset.user)")
        assert [user for user, _ in expected[:3]] == places
    mine = next(entry for entry in board["entries"] if entry["user_id"] == seat_of(ada)["user_id"])
    expect(ada.locator("#place")).to_contain_text(f"{mine['points']:,} points")
    assert_accessible(host, "podium_projector")
    assert_accessible(ada, "podium_phone")
    shot(host, "podium")
    room.next()
    for page in (host, ada, grace):
        expect(page.get_by_role("heading", name="That’s it!")).to_be_visible()
        assert sorted(expected) == sorted(rows_of(page))
    assert_accessible(host, "ended_projector")


def report_is_right(room: Room, tmp_path: Path) -> None:
    """The whole report as the page shows it and as CSV, against what was pressed."""
    host = room.host
    host.get_by_role("link", name="Class report").click()
    expect(host.get_by_role("heading", name="Class report")).to_be_focused()
    assert_accessible(host, "report_projector")
    host.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert_accessible(host, "report_phone")
    host.set_viewport_size(PROJECTOR)  # type: ignore[arg-type]
    with host.expect_download() as saved:
        host.get_by_role("button", name="Questions as CSV").click()
    path = tmp_path / "questions.csv"
    saved.value.save_as(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    shown = host.locator("#questions li").evaluate_all(
        "all => all.map((one) => [one.dataset.question, one.innerText])"
    )
    assert 12 == len(rows) and [row["question_id"] for row in rows] == [ident for ident, _ in shown]
    for row, (ident, text) in zip(rows, shown, strict=True):
        answered, right = room.answered[ident], room.right[ident]
        assert (answered, right) == (int(row["answered"]), int(row["right"]))
        if not answered:
            assert "Nobody answered" in text and row["share_right"] == ""
            continue
        assert (
            f"{right} of {answered} right" in text
            and f"{right / answered:.4f}"[:5] in row["share_right"] + "00"
        )
        most = max(room.wrong[ident].values())
        assert most == room.wrong[ident][row["most_chosen_wrong"]]
        assert f"most chosen wrong: {row['most_chosen_wrong']}" in text
        assert int(row["median_ms"]) > 0 and int(row["mean_ms"]) > 0
    shares = [float(row["share_right"]) for row in rows if row["share_right"]]
    assert 3 == len(shares) and sorted(shares) == shares
    with host.expect_download() as saved:
        host.get_by_role("button", name="Players as CSV").click()
    path = tmp_path / "players.csv"
    saved.value.save_as(path)
    players = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    board = httpx.get(
        f"{room.api.url}/v1/leaderboards/session:{room.seat['session_id']}/all_time/current"
    ).json()
    assert [(entry["user_id"], str(entry["points"])) for entry in board["entries"]] == [
        (row["user_id"], row["points"]) for row in players
    ]
    cells = host.locator("#players tbody tr").evaluate_all("all => all.map((one) => one.dataset.user)")
    assert [row["user_id"] for row in players] == cells
    assert {"Ada": "2", "Grace": "1"} == {
        row["name"]: row["right"] for row in players if row["name"] in ("Ada", "Grace")
    }
