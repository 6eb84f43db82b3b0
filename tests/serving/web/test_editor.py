"""A quiz made on the page, hosted and played: sign up, write, bring a list in, publish, host, answer; two tabs at once."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.access.people import PASSWORD
from tests.serving.api_process import ApiProcess
from tests.serving.quizzes.test_importing_over_http import png
from tests.serving.web.pages import (
    PHONE,
    PROJECTOR,
    Complaints,
    assert_accessible,
    context_of,
    join,
    page_of,
    shot,
)

pytestmark = pytest.mark.browser


def sign_up(page: Page) -> None:
    page.get_by_role("button", name="I have no account yet").click()
    page.get_by_label("Log-in name").fill(f"p{uuid.uuid4().hex[:10]}")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Name that others see").fill("Ada")
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("heading", name="My quizzes")).to_be_visible()


def write_question(page: Page, number: int, prompt: str, answer: str, *wrong: str) -> None:
    page.get_by_role("button", name="Add a question").click()
    card = page.locator("#questions > li").nth(number)
    card.get_by_label("Definition").fill(prompt)
    card.get_by_label("Word", exact=True).fill(answer)
    for place, text in enumerate(wrong, 1):
        card.get_by_label(f"Wrong choice {place}").fill(text)


def test_a_quiz_is_made_hosted_and_played(browser: Browser, api: ApiProcess, tmp_path: Path) -> None:
    complaints = Complaints()
    context = context_of(browser, PROJECTOR)
    page = page_of(context, f"{api.url}/#/quizzes", complaints)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert_accessible(page, "log_in")
    sign_up(page)
    assert_accessible(page, "my_quizzes_empty")
    page.get_by_role("button", name="New quiz").click()
    page.get_by_label("Title").fill("Kitchen words")
    page.get_by_label("Level").select_option("A2")
    write_question(page, 0, "a tool with a blade", "knife", "spoon", "plate")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#state")).to_contain_text("Version 1 is played.")
    bring_in(page)
    picture_question(page, tmp_path)
    assert_accessible(page, "editor")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert_accessible(page, "editor_phone")
    page.set_viewport_size(PROJECTOR)  # type: ignore[arg-type]
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#state")).to_contain_text("Version 2 is played.")
    shot(page, "editor")
    page.locator("#play").get_by_role("link", name="Host").click()
    expect(page.get_by_label("Quiz", exact=True)).to_contain_text("Kitchen words")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#pin")).to_have_text(re.compile(r"^[0-9]{3} [0-9]{3}$"))
    seat = json.loads(page.evaluate("sessionStorage.getItem('lakeboard')"))
    player = page_of(context_of(browser, PHONE, "dark"), f"{api.url}/?pin={seat['pin']}", complaints)
    join(player, "Grace")
    page.get_by_role("button", name="Start").click()
    for number, answer in enumerate(("knife", "oven", "fridge", "oven", "fridge", "pan"), 1):
        expect(player.locator("#count")).to_have_text(f"Question {number} of 6")
        if player.locator("#typed").count():
            player.get_by_label("Type the word").fill(answer.title())
            player.keyboard.press("Enter")
        else:
            player.locator(f'#choices [data-choice="{answer}"]').click()
        expect(player.locator("#result")).to_contain_text("Right! +")
        if number == 6:
            player.wait_for_function("document.querySelector('.picture').naturalWidth > 0")
            assert_accessible(player, "picture_phone")
            assert_accessible(page, "picture_projector")
        for button in ("Show the answer", "Podium" if number == 6 else "Standings", "Next question"):
            if number < 6 or button != "Next question":
                page.get_by_role("button", name=button).click()
    expect(player.get_by_role("heading", name="The podium")).to_be_visible()
    assert [] == [text for text in complaints if "422" not in text]  # the quiz that could not be published


def bring_in(page: Page) -> None:
    """A pasted list with an error, told by its line; mended, looked at, taken."""
    page.locator("#import > summary").click()
    page.get_by_label("Paste it here").fill(
        "oven\ta hot box for baking\nfridge\nfridge\ta cold box for food\n"
    )
    page.locator("#import-typed_spelling").check()
    page.get_by_role("button", name="Look at it first").click()
    expect(page.locator("#import-errors")).to_contain_text("Line 2:")
    expect(page.locator("#import-add")).to_be_disabled()
    assert_accessible(page, "import_errors")
    page.get_by_label("Paste it here").fill("oven\ta hot box for baking\nfridge\ta cold box for food\n")
    page.get_by_role("button", name="Look at it first").click()
    expect(page.locator("#import-told")).to_have_text("2 words, 4 questions.")
    page.get_by_role("button", name="Add 4 questions").click()
    expect(page.locator("#questions > li")).to_have_count(5)
    expect(page.locator("#state")).to_have_text("Not saved yet")


def picture_question(page: Page, tmp_path: Path) -> None:
    """A question without its picture cannot be published; with it, it is seen as players see it."""
    page.get_by_role("button", name="Add a question").click()
    card = page.locator("#questions > li").nth(5)
    card.get_by_label("Way to ask").select_option("picture")
    card.get_by_label("Word for the picture").fill("pan")
    card.get_by_label("Wrong choice 1").fill("pot")
    card.get_by_label("Seconds to answer").fill("120")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#editor-error")).to_contain_text("question 6")
    expect(card.locator(".problems")).to_contain_text("needs a picture")
    file = tmp_path / "pan.png"
    file.write_bytes(png(200))
    card.get_by_label("Picture", exact=True).set_input_files(file)
    expect(card.locator(".picture")).to_be_visible()
    card.get_by_label("In words").fill("something flat and round")
    card.get_by_role("button", name="See it as players do").click()
    expect(card.locator(".seen .choice")).to_have_count(2)


def test_two_tabs_lose_nothing(browser: Browser, api: ApiProcess) -> None:
    complaints = Complaints()
    context = context_of(browser, PHONE)
    one = page_of(context, f"{api.url}/#/quizzes", complaints)
    sign_up(one)
    one.get_by_role("button", name="New quiz").click()
    expect(one.get_by_label("Title")).to_have_value("Untitled quiz")
    other = page_of(context, one.url, complaints)
    other.get_by_label("Title").fill("From the other tab")
    other.get_by_role("button", name="Save", exact=True).click()
    expect(other.locator("#state")).to_contain_text("All is saved.")
    one.get_by_label("What it is about").fill("Written here")
    one.get_by_role("button", name="Save", exact=True).click()
    expect(one.locator("#editor-error")).to_contain_text("changed this quiz meanwhile")
    assert_accessible(one, "edit_conflict_phone")
    expect(one.get_by_label("What it is about")).to_have_value("Written here")
    one.get_by_role("button", name="Keep mine").click()
    expect(one.locator("#state")).to_contain_text("All is saved.")
    other.reload()
    expect(other.get_by_label("What it is about")).to_have_value("Written here")
    other.get_by_label("Title").fill("Left without saving")
    other.goto(f"{api.url}/#/library")
    expect(other.get_by_role("heading", name="Quizzes")).to_be_visible()
    other.go_back()
    expect(other.get_by_label("Title")).to_have_value("Left without saving")
    assert [] == [text for text in complaints if "412" not in text]


def test_the_library(browser: Browser, api: ApiProcess) -> None:
    complaints = Complaints()
    page = page_of(context_of(browser, PHONE), api.url, complaints)
    page.get_by_role("link", name="Quizzes", exact=True).click()
    expect(page.locator("#quizzes [data-quiz]")).to_have_count(24)
    assert_accessible(page, "library_phone")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#quizzes [data-quiz]")).to_have_count(48)
    page.get_by_label("Level").select_option("C1")
    expect(page.locator("#quizzes [data-quiz]")).to_have_count(20)
    page.get_by_label("Way to ask").select_option("listening")
    expect(page.locator("#quizzes [data-quiz]")).to_have_count(4)
    page.get_by_label("Search").fill("no such words")
    expect(page.locator("#quizzes")).to_contain_text("No quiz fits.")
    page.get_by_label("Search").fill("expert")
    page.get_by_role("link", name="Challenge: Words for experts 1 (C1): listen").click()
    expect(page.get_by_label("Quiz", exact=True)).to_have_value("starter-c1-listen-1")
    expect(page.locator("#kind-challenge")).to_be_checked()
    page.set_viewport_size(PROJECTOR)  # type: ignore[arg-type]
    page.get_by_role("link", name="Quizzes", exact=True).click()
    expect(page.locator("#quizzes [data-quiz]").first).to_be_visible()
    assert_accessible(page, "library_wide")
    assert [] == complaints
