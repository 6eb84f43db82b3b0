"""Classes and histories in a real Chromium: made, joined by code, led, left; games, their answers, and all as a file."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from serving.relay.relay import ShardRelay
from tests.serving.access.people import PASSWORD, Person, signed_up
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice
from tests.serving.web.pages import PHONE, PROJECTOR, Complaints, assert_accessible, context_of, page_of, shot

pytestmark = pytest.mark.browser


def as_person(browser: Browser, person: Person, viewport: dict[str, int], complaints: Complaints) -> Page:
    """A page of somebody who has logged in on it."""
    context: BrowserContext = context_of(browser, viewport)
    page = page_of(context, f"{person.api.url}/#/account", complaints)
    page.get_by_label("Log-in name").fill(person.login_name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your profile")).to_be_visible()
    return page


def played(api: ApiProcess, *people: Person) -> Table:
    """A finished question: the first is right, the others are not."""
    table = Table(api)
    for person in people:
        body = {"pin": table.session["pin"], "name": "Player"}
        table.players.append(person.ask("POST", "/v1/join", json=body).raise_for_status().json())
    table.host("next").raise_for_status()
    question = table.current()
    right = right_choice(question)
    for place in range(len(people)):
        wrong = next(choice for choice in question["choices"] if choice != right)
        table.answer(place, question, wrong if place else right).raise_for_status()
    table.host("end").raise_for_status()
    relays = [
        ShardRelay(shard, api.settings["valkey_urls"], api.settings["postgres_url"])
        for shard in range(len(api.settings["valkey_urls"]))
    ]
    while any(relay.step() for relay in relays):
        pass
    for relay in relays:
        relay.close()
    return table


def test_a_class_from_its_making_to_its_board(browser: Browser, api: ApiProcess) -> None:
    complaints = Complaints()
    teacher, ada, bob = signed_up(api, "Teacher"), signed_up(api, "Ada"), signed_up(api, "Bob")
    host = as_person(browser, teacher, PROJECTOR, complaints)
    host.get_by_role("link", name="Classes").click()
    expect(host.get_by_text("You are in no class yet.")).to_be_visible()
    host.get_by_role("button", name="Make the class").click()
    expect(host.locator("#make-class-error")).to_contain_text("Give the class a name first")
    host.get_by_label("Name of the class").fill("5b, English")
    host.keyboard.press("Enter")
    expect(host.get_by_role("heading", name="5b, English")).to_be_visible()
    code = host.locator("#class-code").inner_text()
    assert re.fullmatch(r"[2-9B-Z]{4}-[2-9B-Z]{4}", code)
    assert host.evaluate("document.querySelector('img.qr').decode().then(() => true)")
    assert_accessible(host, "class_projector")

    # A phone that scanned the code, without a log-in: the code is there again afterwards.
    phone = page_of(
        context_of(browser, PHONE), f"{api.url}/#/classes?code={code.replace('-', '')}", complaints
    )
    expect(phone.get_by_text("Classes are for people with an account.")).to_be_visible()
    assert_accessible(phone, "classes_guest_phone")
    phone.get_by_role("link", name="Log in").click()
    phone.get_by_label("Log-in name").fill(ada.login_name)
    phone.get_by_label("Password", exact=True).fill(PASSWORD)
    phone.keyboard.press("Enter")
    phone.get_by_role("link", name="Classes").click()
    expect(phone.get_by_label("Class code")).to_have_value(code)
    assert_accessible(phone, "classes_phone")
    phone.get_by_label("Class code").fill("BBBB-BBBB")
    phone.get_by_role("button", name="Join the class").click()
    expect(phone.locator("#join-class-error")).to_contain_text("No open class has this code")
    phone.get_by_label("Class code").fill(code.lower())
    phone.get_by_role("button", name="Join the class").click()
    expect(phone.get_by_role("heading", name="5b, English")).to_be_visible()
    expect(phone.locator("#members")).to_contain_text("Ada")
    expect(phone.locator("#class-code")).to_have_count(0)
    bob.ask("POST", "/v1/classes/join", json={"code": code}).raise_for_status()

    played(api, ada, bob)
    phone.get_by_role("link", name="Leaderboard of the class").click()
    expect(phone.locator("table.board tbody tr")).to_have_count(2)
    expect(phone.locator("#scope")).to_contain_text("Class: 5b, English")
    expect(phone.locator("table.board tbody tr").first).to_contain_text("Ada")
    expect(phone.locator("#provenance")).to_contain_text("Counted from the record, answer by answer.")
    assert_accessible(phone, "class_board_phone")
    shot(phone, "class_board")

    host.reload()
    host.get_by_role("button", name="Remove: Bob").click()
    host.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(host.locator(f"[data-user='{bob.user_id}']")).to_contain_text("removed")
    host.get_by_role("button", name="Let in again: Bob").click()
    expect(host.locator(f"[data-user='{bob.user_id}']")).to_contain_text("left on")
    host.get_by_role("button", name="Let nobody new in").click()
    expect(host.locator("#class-closed")).to_have_text("Nobody new can join.")
    host.get_by_role("button", name="Let others join again").click()
    expect(host.locator("#class-code")).not_to_have_text(code)
    assert_accessible(host, "class_members_projector")

    phone.go_back()
    phone.get_by_role("button", name="Leave the class").click()
    phone.get_by_role("dialog").get_by_role("button", name="Leave the class").click()
    expect(phone.get_by_text("You are in no class yet.")).to_be_visible()
    assert [] == [one for one in complaints if "404" not in one and "401" not in one]


def test_my_games_and_each_answer(browser: Browser, api: ApiProcess, tmp_path: Path) -> None:
    complaints = Complaints()
    ada, bob = signed_up(api, "Ada"), signed_up(api, "Bob")
    first = played(api, ada, bob)
    second = played(api, bob, ada)
    page = as_person(browser, ada, PHONE, complaints)
    page.get_by_role("link", name="My history").click()
    games = page.locator("#sessions li")
    expect(games).to_have_count(2)
    assert [second.id, first.id] == games.evaluate_all("all => all.map((one) => one.dataset.session)")
    expect(games.nth(1)).to_contain_text("First words")
    expect(games.nth(1)).to_contain_text("live · 1 of 1 right")
    assert_accessible(page, "history_phone")
    page.get_by_label("Played").select_option("challenge")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#history-told")).to_contain_text("No games here")
    page.get_by_label("Played").select_option("")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(games).to_have_count(2)
    with page.expect_download() as started:
        page.get_by_role("button", name="All answers as CSV").click()
    started.value.save_as(tmp_path / "all.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text(encoding="utf-8-sig"))))
    assert ["no", "yes"] == [row["correct"] for row in rows]

    games.nth(1).get_by_role("link", name=re.compile("^Answers")).click()
    told = httpx.get(f"{api.url}/v1/users/{ada.user_id}/sessions/{first.id}", headers=ada.headers).json()[
        "answers"
    ]
    expect(page.locator("#answers tbody tr")).to_have_count(1)
    expect(page.locator("#answers tbody tr")).to_contain_text(told[0]["prompt"])
    expect(page.locator("#answers tbody tr")).to_contain_text(told[0]["choice"])
    assert_accessible(page, "history_session_phone")
    shot(page, "history_session")
    page.get_by_label("Which answers").select_option("wrong")
    expect(page.get_by_text("None of these.")).to_be_visible()
    # A class that is not there, and another's game: said in words.
    page.goto(f"{api.url}/#/classes/nobody-made-this")
    expect(page.locator(".error")).to_contain_text("There is no such class")
    page.goto(f"{api.url}/#/history/nobody-played-this")
    expect(page.locator(".error")).to_contain_text("There is no such session")
    guest = page_of(context_of(browser, PROJECTOR), f"{api.url}/#/history", complaints)
    expect(guest.get_by_text("Your history is kept with your account.")).to_be_visible()
    assert_accessible(guest, "history_guest_projector")
    assert [] == [one for one in complaints if "404" not in one and "401" not in one]
