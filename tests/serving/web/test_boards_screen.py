"""The leaderboards' screen: periods, ranges, around a player, and in words where it comes from."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice
from tests.serving.web.pages import PHONE, PROJECTOR, Complaints, assert_accessible, context_of, page_of, shot

pytestmark = pytest.mark.browser
QUIZ = "starter-a1"


@pytest.fixture
def played(api: ApiProcess) -> Table:
    """A finished question of six players."""
    table = Table(api, "Noor", "Kofi", "Mia", "Linus", "Yuki", "Ada")
    table.host("next").raise_for_status()
    question = table.current()
    for player in range(len(table.players)):
        table.answer(player, question, right_choice(question)).raise_for_status()
    table.host("end").raise_for_status()
    return table


def rows(page: Page, place: int = 0) -> list[tuple[str, int]]:
    found = (
        page.locator("table.board")
        .nth(place)
        .locator("tbody tr")
        .evaluate_all("all => all.map((one) => [one.dataset.user, one.querySelector('.points').textContent])")
    )
    return [(user, int(points.replace(",", ""))) for user, points in found]


def ask(page: Page, **fields: str) -> None:
    for label, value in fields.items():
        control = page.locator(f"#{label}")
        if control.evaluate("(one) => one.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#board")).not_to_have_attribute("aria-busy", "true")


def test_boards_of_periods_and_ranges(browser: Browser, api: ApiProcess, played: Table) -> None:
    complaints = Complaints()
    page = page_of(context_of(browser, PHONE), f"{api.url}/#/boards?scope=quiz:{QUIZ}", complaints)
    expect(page.locator("#provenance")).to_contain_text(
        re.compile(r"Live from memory, exact, as of \d\d:\d\d:\d\d\.")
    )
    board = httpx.get(f"{api.url}/v1/leaderboards/quiz:{QUIZ}/daily/current").json()
    assert [(one["user_id"], one["points"]) for one in board["entries"]] == rows(page)
    me = played.players[3]["user_id"]
    ask(page, around=me, k="25")
    near = httpx.get(f"{api.url}/v1/leaderboards/quiz:{QUIZ}/daily/current?around={me}&m=3").json()["around"]
    assert [(one["user_id"], one["points"]) for one in near] == rows(page, 1)
    expect(page.locator("tr.me").last).to_contain_text("Linus")
    assert_accessible(page, "boards_phone")
    # By a name that is on the board, with the keyboard alone.
    page.locator("#around").fill("noor")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Around Noor")).to_be_visible()
    for span in ("weekly", "monthly", "all_time"):
        ask(page, span=span)
        whole = httpx.get(f"{api.url}/v1/leaderboards/quiz:{QUIZ}/{span}/current?k=25").json()
        assert [(one["user_id"], one["points"]) for one in whole["entries"]] == rows(page)
    # The address says what is shown.
    page.reload()
    expect(page.locator("#span")).to_have_value("all_time")
    expect(page.get_by_role("heading", name="Around Noor")).to_be_visible()
    today = datetime.now(UTC).date()
    ask(page, span="range", **{"from": str(today - timedelta(days=2)), "to": str(today)})
    expect(page.locator("#provenance")).to_contain_text("Live from memory")
    assert ("Noor", 6) == (rows_name(page), min(len(rows(page)), 6))
    # What this profile cannot tell is refused in the problem document's own words, with what to do.
    ask(page, span="daily", on="2020-02-29")
    expect(page.locator("#board .error")).to_contain_text("Redis does not keep this board")
    expect(page.locator("#board .next-step")).to_contain_text("./lakeboard")
    assert_accessible(page, "boards_refused_phone")
    ask(page, span="range", **{"from": str(today), "to": str(today), "around": "nobody at all"})
    expect(page.locator("#ask-error")).to_contain_text("nobody at all is not on this board")
    assert [] == [one for one in complaints if "404" not in one]


def rows_name(page: Page) -> str:
    """The name in the row of the player that the board is shown around."""
    return page.locator("tr.me button").first.inner_text()


def test_around_me_where_this_browser_has_played(browser: Browser, api: ApiProcess, played: Table) -> None:
    complaints = Complaints()
    context = context_of(browser, PROJECTOR)
    page = page_of(context, f"{api.url}/", complaints)
    player = played.players[0]
    page.evaluate(
        "(one) => localStorage.setItem('lakeboard.players', JSON.stringify([{...one, at: Date.now()}]))",
        {"user_id": player["user_id"], "name": player["name"]},
    )
    page.get_by_role("link", name="Leaderboards").click()
    expect(page.locator("#scope")).to_contain_text("First words")
    page.locator("#scope").select_option(f"quiz:{QUIZ}")
    page.get_by_role("button", name="Around me (Noor)").click()
    expect(page.get_by_role("heading", name="Around Noor")).to_be_visible()
    expect(page.locator("tr.me").first).to_contain_text("Noor")
    assert_accessible(page, "boards_projector")
    page.evaluate("scrollTo(0, 0)")
    shot(page, "leaderboards")
    assert [] == complaints


def test_weeks_begin_on_monday_and_months_on_the_first(browser: Browser, api: ApiProcess) -> None:
    page = page_of(context_of(browser, PROJECTOR), f"{api.url}/", Complaints())
    found = page.evaluate(
        """async () => {
          const { addressOf, startOf } = await import("/static/boards.js");
          return [startOf("weekly", "2026-03-01"), startOf("weekly", "2026-03-02"), startOf("monthly", "2024-02-29"),
            startOf("daily", "2024-02-29"), startOf("weekly", ""), startOf("all_time", "2024-02-29"),
            addressOf({ scope: "quiz:a", span: "range", from: "2024-02-28", to: "2024-02-29", k: 10, around: "", fast: "1" })];
        }"""
    )
    range_ = "/v1/leaderboards/quiz%3Aa?k=10&from=2024-02-28&to=2024-03-01&accuracy=fast"
    assert ["2026-02-23", "2026-03-02", "2024-02-01", "2024-02-29", "current", "current", range_] == found


def test_provenance_in_plain_words(browser: Browser, api: ApiProcess) -> None:
    page = page_of(context_of(browser, PROJECTOR), f"{api.url}/", Complaints())
    words = page.evaluate(
        """async () => {
          const { provenanceWords } = await import("/static/texts.js");
          const base = { as_of: "2026-03-09T00:15:21.000Z", rules: ["speed@1"], bound: null, settlement: null };
          return [
            { ...base, source: "rankings", state: "settled", settlement: "7" },
            { ...base, source: "mixed", state: "provisional", rules: [] },
            { ...base, source: "lake", state: "live", bound: { value: 1885, confidence: 0.95 } },
          ].map(provenanceWords);
        }"""
    )
    assert words[0] == [
        "Settled for ever, published 9 Mar 2026, 00:15:21.",
        "From the published rankings.",
        "Settlement 7.",
        "Scored by speed@1.",
    ]
    assert words[1][0].startswith("Ended, not settled yet") and "live boards" in words[1][1]
    assert words[2][0] == "Estimate, ± 1,885 players on places and numbers, with 95 % certainty."
