"""Every type of question on a phone and on the projector, in a real Chromium: typed, spoken, with a picture, a recording."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.api_process import ApiProcess
from tests.serving.quizzes.authors import author, published, quiz
from tests.serving.quizzes.test_draft import GOOD
from tests.serving.web.pages import PHONE, PROJECTOR, Complaints, assert_accessible, context_of, join, page_of

pytestmark = pytest.mark.browser


def sit_down(page: Page, seat: dict[str, Any]) -> None:
    """Leads a session that was made over HTTP."""
    page.evaluate("seat => sessionStorage.setItem('lakeboard', seat)", json.dumps({**seat, "host": True}))
    page.goto(page.url.split("#")[0] + "#/game")


def played(browser: Browser, api: ApiProcess, *questions: dict[str, Any]) -> tuple[Page, Page, Complaints]:
    """(host's page, player's page, complaints) in the first question of a quiz."""
    ada = author(api, "screens")
    one = published(ada, quiz(*questions))
    seat = ada.post("/v1/sessions", json={"quiz_id": one["quiz_id"]}).raise_for_status().json()
    complaints = Complaints()
    host = page_of(context_of(browser, PROJECTOR), api.url, complaints)
    sit_down(host, seat)
    player = page_of(context_of(browser, PHONE), f"{api.url}/?pin={seat['pin']}", complaints)
    join(player, "Ada")
    host.get_by_role("button", name="Start").click()
    return host, player, complaints


def go_on(host: Page) -> None:
    """From an open question to the next one, each step once it is seen: a key pressed twice at one moment counts once."""
    for button in ("Show the answer", "Standings", "Next question"):
        host.get_by_role("button", name=button).click()


def test_a_typed_answer(browser: Browser, api: ApiProcess) -> None:
    typed = {"type": "typed_spelling", **GOOD["typed_spelling"]}
    host, player, complaints = played(browser, api, typed, {**typed, "prompt": "the fruit again"})
    expect(player.locator("#prompt")).to_have_text("a round fruit")
    field = player.get_by_label("Type the word")
    for name, value in (
        ("autocapitalize", "off"),
        ("autocorrect", "off"),
        ("autocomplete", "off"),
        ("spellcheck", "false"),
    ):
        assert value == field.get_attribute(name)
    assert_accessible(player, "typed_phone")
    assert_accessible(host, "typed_projector")
    expect(host.locator(".big-hint")).to_contain_text("on your own screen")
    field.press_sequentially("1 Aple")  # keys 1 to 8 choose nothing here
    field.fill("")
    player.get_by_role("button", name="Send").click()
    expect(player.locator("#result")).to_be_empty()
    field.fill(" APPLE ")
    field.press("Enter")
    expect(player.locator("#result")).to_contain_text("Right! +")
    assert_accessible(player, "typed_answered_phone")
    host.keyboard.press("ArrowRight")
    expect(player.locator("#typed-answer")).to_contain_text("apple")
    expect(host.locator("#right")).to_contain_text("apple")
    assert_accessible(player, "typed_reveal_phone")
    assert_accessible(host, "typed_reveal_projector")
    host.keyboard.press("ArrowRight")
    expect(player.get_by_role("heading", name="Standings")).to_be_visible()
    host.get_by_role("button", name="Next question").click()
    expect(player.locator("#prompt")).to_have_text("the fruit again")
    player.get_by_label("Type the word").fill("aple")
    player.get_by_role("button", name="Send").click()
    expect(player.locator("#result")).to_contain_text("Not this time")
    player.reload()
    expect(player.get_by_label("Type the word")).to_have_value("aple")
    host.keyboard.press("ArrowRight")
    expect(player.locator("#choices.wrong #typed-answer")).to_contain_text("apple")
    assert [] == complaints


def test_a_spoken_word_can_be_read_where_no_voice_is(browser: Browser, api: ApiProcess) -> None:
    listening = {"type": "listening", **GOOD["listening"]}
    host, player, complaints = played(browser, api, listening, listening)
    expect(player.locator("#prompt")).to_have_text("What does this word mean?")
    expect(player.locator(".spoken")).to_be_hidden()
    assert_accessible(player, "listening_phone")
    player.evaluate(
        "() => { window.said = []; speechSynthesis.speak = (one) => { window.said.push([one.text, one.lang]); one.onstart(); }; }"
    )
    player.get_by_role("button", name="Listen").click()
    assert [["apple", "en"]] == player.evaluate("window.said")
    expect(player.locator(".spoken")).to_be_hidden()
    player.evaluate(
        "() => { speechSynthesis.speak = (one) => one.onerror({error: 'synthesis-unavailable'}); }"
    )
    player.get_by_role("button", name="Listen").click()
    expect(player.locator(".spoken")).to_have_text("apple")
    assert_accessible(player, "listening_read_phone")
    player.get_by_role("button", name="a round fruit").click()
    expect(player.locator("#result")).to_contain_text("Right! +")
    go_on(host)
    expect(player.locator("#count")).to_have_text("Question 2 of 2")
    player.get_by_role("button", name="Read it instead").click()
    expect(player.locator(".spoken")).to_have_text("apple")
    # This Chromium has no voice: the projector, which speaks by itself, shows the word after a moment.
    expect(host.locator(".spoken")).to_have_text("apple", timeout=10_000)
    assert_accessible(host, "listening_projector")
    assert [] == complaints
