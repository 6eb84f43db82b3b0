"""The page in a real Chromium: a host and two players (one on a phone's screen) to the end of a quiz."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from redis import Redis

from cli.chromium import MEND
from contracts import names
from tests.serving.api_process import ApiProcess

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 780}
# As root Chromium has no sandbox; without the others it calls home at each start.
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("LAKEBOARD_CHROMIUM")
    assert program, f"no Chromium: run ./lakeboard test browser, or: {MEND}"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()


def shot(page: Page, name: str) -> None:
    """Keeps a picture where LAKEBOARD_SCREENSHOTS says so; nothing compares them."""
    folder = os.environ.get("LAKEBOARD_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def open_page(browser: Browser, url: str, complaints: list[str], **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    return page


def join(page: Page, name: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_text("You are in.")).to_be_visible()


def test_a_host_and_two_players_to_the_end(browser: Browser, api: ApiProcess) -> None:
    complaints: list[str] = []
    host = open_page(browser, api.url, complaints, viewport={"width": 1180, "height": 800})
    expect(host.get_by_label("Quiz")).to_contain_text("words")
    shot(host, "1_start")
    host.get_by_role("button", name="Start a session").click()
    expect(host.locator("#lobby-pin")).to_have_text(re.compile("^[0-9]{6}$"))
    host.wait_for_function("document.getElementById('qr').naturalWidth > 0")
    pin = host.locator("#lobby-pin").inner_text()
    phone = open_page(browser, f"{api.url}/?pin={pin}", complaints, viewport=PHONE, color_scheme="dark")
    shot(phone, "2_join_phone")
    join(phone, "Ada")
    second = open_page(browser, f"{api.url}/?pin={pin}", complaints, viewport=PHONE)
    join(second, "Grace <b>H</b>")
    expect(host.locator("#standings")).to_contain_text("Grace <b>H</b>")
    shot(host, "3_lobby_host")
    host.get_by_role("button", name="Start").click()
    for number in range(1, 13):
        expect(phone.locator("#count")).to_have_text(f"Question {number} of 12")
        expect(second.locator("#count")).to_have_text(f"Question {number} of 12")
        session = httpx.get(f"{api.url}/v1/sessions/{session_of(host)}").json()["current"]
        right = session["question_id"].partition("-")[2]
        index = session["choices"].index(right)
        phone.keyboard.press(str(index + 1))
        second.locator("#choices button").nth((index + 1) % 4).click()
        expect(phone.locator("#result")).to_contain_text("Right!")
        expect(second.locator("#result")).to_contain_text("Not this time")
        if number == 2:
            expect(host.locator("#standings li").first).to_contain_text("Ada")
            shot(host, "4_question_host")
            shot(phone, "5_question_phone")
            phone.reload()
            expect(phone.locator("#result")).to_contain_text("answered this one")
            host.get_by_role("button", name="Show the answer").click()
            expect(second.locator("#choices button.wrong")).to_have_count(1)
            shot(second, "6_closed_phone")
        host.locator("#next").click()
    for page in (host, phone, second):
        expect(page.get_by_role("heading", name="That’s it!")).to_be_visible()
    expect(second.locator("#standings li.me")).to_contain_text("Grace")
    shot(host, "7_ended_host")
    assert [] == complaints


def test_an_answer_on_its_way_when_the_api_dies_is_sent_again(
    browser: Browser, tmp_path: Path, valkey_urls: list[str], postgres_url: str
) -> None:
    api = ApiProcess(tmp_path / "first", valkey_urls, postgres_url)
    try:
        host = open_page(browser, api.url, [])
        host.get_by_role("button", name="Start a session").click()
        expect(host.locator("#lobby-pin")).to_have_text(re.compile("^[0-9]{6}$"))
        player = open_page(browser, f"{api.url}/?pin={host.locator('#lobby-pin').inner_text()}", [])
        join(player, "Ada")
        host.get_by_role("button", name="Start").click()
        expect(player.locator("#choices button")).to_have_count(4)
        api.child.send_signal(signal.SIGSTOP)  # what is sent now is never read
        player.locator("#choices button").first.click()
        expect(player.locator("#choices button.chosen")).to_have_count(1)
        api.child.kill()
        give_time(valkey_urls, session_of(host))
        expect(player.locator("#line")).to_be_visible()
        api = ApiProcess(tmp_path / "second", valkey_urls, postgres_url, port=api.port)
        expect(player.locator("#result")).to_have_text(re.compile("Right!|Not this time"), timeout=15_000)
        expect(player.locator("#line")).to_be_hidden()
        assert player.locator("#choices button.chosen").count() == 1
    finally:
        api.stop()


def give_time(valkey_urls: list[str], session_id: str) -> None:
    """Moves the open question's deadline by two minutes: a busy machine may need longer than 20 s to start an api."""
    for url in valkey_urls:
        with Redis.from_url(url) as client:
            if client.exists(names.session(session_id)):
                client.hincrby(names.session(session_id), "deadline_us", 120_000_000)


def session_of(page: Page) -> str:
    return str(page.evaluate("JSON.parse(sessionStorage.getItem('lakeboard')).session_id"))


def test_a_wrong_pin_is_told(browser: Browser, api: ApiProcess) -> None:
    page = open_page(browser, api.url, [])
    page.get_by_role("textbox", name="PIN").fill("12")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Join").click()
    expect(page.locator("#join-error")).not_to_be_empty()


def test_the_page_allows_no_inline_script(api: ApiProcess) -> None:
    reply = httpx.get(api.url)
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert "onclick" not in reply.text and "<style" not in reply.text and " style=" not in reply.text
