"""Getting in, and what may go wrong: a wrong PIN, a challenge by link, an api that dies, the page's own files."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect
from redis import Redis

from contracts import names
from serving.web.routes import FILES
from tests.serving.api_process import ApiProcess
from tests.serving.web.pages import (
    PHONE,
    PROJECTOR,
    Complaints,
    assert_accessible,
    context_of,
    host_game,
    join,
    page_of,
    seat_of,
)

pytestmark = pytest.mark.browser
# What a player types is text, on every screen.
NAME = "<b>Ada</b>"


def test_a_challenge_by_its_link(browser: Browser, api: ApiProcess) -> None:
    complaints = Complaints()
    host = page_of(context_of(browser, PROJECTOR), f"{api.url}/#/host", complaints)
    expect(host.get_by_label("Quiz", exact=True)).to_contain_text("words")
    host.get_by_label("Challenge, by link").check()
    host.get_by_label("Open for").select_option("86400")
    assert_accessible(host, "setup_projector")
    host.get_by_role("button", name="Create").click()
    expect(host.locator("#pin")).to_be_visible()
    assert_accessible(host, "challenge_host_projector")
    link = host.locator("#link").input_value()
    page = page_of(context_of(browser, PHONE), link, complaints)
    expect(page.get_by_role("heading", name=re.compile("Challenge: First words"))).to_be_visible()
    assert_accessible(page, "challenge_door_phone")
    page.get_by_label("Your name").fill("Ada")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show me the first question").click()
    for number in range(1, 13):
        expect(page.locator("#count")).to_have_text(f"Question {number} of 12")
        words = page.locator("#choices .choice").evaluate_all("all => all.map((one) => one.dataset.choice)")
        page.keyboard.press("1")
        expect(page.locator("#result")).to_contain_text(re.compile("Right!|Not this time"))
        assert 4 == len(set(words))
        if number == 2:
            assert_accessible(page, "challenge_answered_phone")
            page.reload()
            page.get_by_role("button", name="Go on").click()
        else:
            page.keyboard.press("Enter")  # the button that goes on has the focus
    expect(page.get_by_role("heading", name="You are through!")).to_be_focused()
    assert_accessible(page, "challenge_through_phone")
    expect(host.locator("#standings")).to_contain_text("Ada")
    host.get_by_role("button", name="Close it now").click()
    host.get_by_role("dialog").get_by_role("button", name="Close it now").click()
    expect(page.get_by_role("heading", name="The challenge is closed.")).to_be_visible()
    expect(page.locator(".review li")).to_have_count(12)
    assert_accessible(page, "challenge_closed_phone")
    host.get_by_role("link", name="Class report").click()
    expect(host.locator("#questions li")).to_have_count(12)
    assert [] == complaints


def test_an_answer_on_its_way_when_the_api_dies_is_sent_again(
    browser: Browser, tmp_path: Path, valkey_urls: list[str], postgres_url: str
) -> None:
    api = ApiProcess(tmp_path / "first", valkey_urls, postgres_url)
    try:
        host = page_of(context_of(browser, PROJECTOR), api.url, Complaints())
        seat = host_game(host)
        player = page_of(context_of(browser, PHONE), f"{api.url}/?pin={seat['pin']}", Complaints())
        join(player, "Ada")
        host.get_by_role("button", name="Start").click()
        expect(player.locator("#choices .choice")).to_have_count(4)
        api.child.send_signal(signal.SIGSTOP)  # what is sent now is never read
        player.locator("#choices .choice").first.click()
        expect(player.locator("#choices .chosen")).to_have_count(1)
        api.child.kill()
        give_time(valkey_urls, seat["session_id"])
        expect(player.locator("#line")).to_have_text("Reconnecting …")
        api = ApiProcess(tmp_path / "second", valkey_urls, postgres_url, port=api.port)
        expect(player.locator("#result")).to_contain_text(re.compile("Right!|Not this time"), timeout=15_000)
        expect(player.locator("#line")).to_be_empty()
        assert player.locator("#choices .chosen").count() == 1
    finally:
        api.stop()


def give_time(valkey_urls: list[str], session_id: str) -> None:
    """Moves the open question's deadline by two minutes: a busy machine may need longer than 20 s to start an api."""
    for url in valkey_urls:
        with Redis.from_url(url) as client:
            if client.exists(names.session(session_id)):
                client.hincrby(names.session(session_id), "deadline_us", 120_000_000)


def test_a_wrong_pin_and_a_removed_player_are_told(browser: Browser, api: ApiProcess) -> None:
    page = page_of(context_of(browser, PHONE), api.url, Complaints())
    page.get_by_label("Game PIN").fill("12")
    page.get_by_label("Your name").fill(NAME)
    page.get_by_role("button", name="Join", exact=True).click()
    expect(page.locator("#join-error")).to_have_text("A PIN has six digits.")
    page.get_by_label("Game PIN").fill("000 000")
    page.keyboard.press("Enter")
    expect(page.locator("#join-error")).to_contain_text("No open session has this PIN")
    assert_accessible(page, "wrong_pin_phone")
    host = page_of(context_of(browser, PROJECTOR), api.url, Complaints())
    page.get_by_label("Game PIN").fill(host_game(host)["pin"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"You are in, {NAME}!")).to_be_visible()
    assert seat_of(page)["name"] == NAME
    expect(host.locator("#names")).to_have_text(NAME)
    host.get_by_role("button", name="Players").click()
    host.get_by_role("button", name=f"Remove: {NAME}").click()
    expect(page.get_by_role("heading", name="The host has removed you from this game.")).to_be_visible()
    assert_accessible(page, "removed_phone")
    expect(host.get_by_role("button", name=f"Let in again: {NAME}")).to_be_visible()


def test_the_page_allows_no_inline_script_or_style(api: ApiProcess) -> None:
    with httpx.Client(base_url=api.url) as client:
        reply = client.get("/")
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "style-src 'self'" in policy and "unsafe" not in policy
        assert not re.search(r"\son\w+=|<style|\sstyle=|<script(?![^>]*src=)", reply.text)
        for name in FILES:
            file = client.get(f"/static/{name}")
            assert file.status_code == 200 and policy == file.headers["content-security-policy"]
            again = client.get(f"/static/{name}", headers={"If-None-Match": file.headers["etag"]})
            assert (304, b"") == (again.status_code, again.content)
        assert client.get("/static/..%2froutes.py").status_code == 404
