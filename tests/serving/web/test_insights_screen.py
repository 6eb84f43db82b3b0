"""The page of charts over a real QuestDB: the figures it shows, in words how old they are, and what it says without one."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from cli.places import ROOT
from tests.services.daemons import QuestdbDaemon
from tests.serving.api_process import ApiProcess
from tests.serving.insights.filled import MINUTES, filled_questdb
from tests.serving.web.pages import PHONE, PROJECTOR, Complaints, assert_accessible, context_of, page_of, shot

VENDOR = ROOT / "serving" / "web" / "static" / "vendor"
# Wide enough for axes; a chart that was not drawn has no dark point at all.
DRAWN = """(node) => {
  const { data } = node.getContext("2d").getImageData(0, 0, node.width, node.height);
  let points = 0;
  for (let place = 3; place < data.length; place += 4) if (data[place] > 200) points += 1;
  return points;
}"""
CHARTS = ("hot-lines", "play-lines", "lag-lines", "streams-lines", "outbox-lines", "consumers-lines")


@pytest.mark.unit
def test_files_of_others_are_as_they_were_published() -> None:
    told = dict(
        re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.M)
    )
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in VENDOR.iterdir()
        if file.name != "README.md"
    }
    assert told == found and len(found) == 3


@pytest.fixture
def filled(
    tmp_path: Path, valkey_urls: list[str], new_postgres_url: Callable[[], str]
) -> Iterator[tuple[ApiProcess, QuestdbDaemon]]:
    with filled_questdb(tmp_path / "questdb") as (questdb, _):
        api = ApiProcess(tmp_path / "api", valkey_urls, new_postgres_url(), questdb_http_url=questdb.url)
        yield api, questdb
        api.stop()


def assert_drawn(page: Page, chart: str) -> None:
    """Its canvas has more than an empty frame. (The page's policy takes no text as a script, so this asks again by itself.)"""
    canvas = page.locator(f"#{chart} canvas")
    expect(canvas).to_be_visible(timeout=20_000)
    deadline = time.monotonic() + 20
    while (points := canvas.evaluate(DRAWN)) < 500:
        assert time.monotonic() < deadline, (chart, points)
        time.sleep(0.2)


def rows(page: Page, of: str) -> list[list[str]]:
    """The cells of a table, row by row, without its head."""
    found = page.locator(f"{of} tbody tr").evaluate_all(
        "all => all.map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    return [list(row) for row in found]


@pytest.mark.browser
def test_what_is_played_and_how_the_pipeline_stands(
    browser: Browser, filled: tuple[ApiProcess, QuestdbDaemon]
) -> None:
    api, questdb = filled
    complaints = Complaints()
    page = page_of(context_of(browser, PROJECTOR), f"{api.url}/", complaints)
    page.get_by_role("link", name="Insights").click()
    expect(page.locator("#state")).to_contain_text(
        re.compile(r"(As of|played since|figures of) \d\d:\d\d:\d\d"), timeout=20_000
    )
    hot = httpx.get(f"{api.url}/v1/insights/hot?minutes=30").json()
    shown = page.locator("#hot-bars li").evaluate_all(
        "all => all.map((one) => [one.dataset.key, one.querySelector('.value').textContent])"
    )
    assert [[one["id"], f"{one['amount']:,} answers"] for one in hot["entries"]] == shown
    expect(page.locator("#hot-bars li").first).to_contain_text("Words for experts 1 (C1)")
    assert rows(page, "#trending")[0][0].startswith("Words for experts 1 (C1)")
    expect(page.locator("#hardest-bars li").first).to_contain_text(
        re.compile(r"between [\d,]+ and [\d,]+, in \d+ minutes")
    )
    for chart in CHARTS:
        assert_drawn(page, chart)
    # The same figures for who cannot see a line.
    minutes = rows(page, "#hot-lines")
    assert len(hot["windows"]) - 1 <= len(minutes) <= MINUTES and len(minutes[0]) == 6
    assert page.locator("#hot-lines .plot").get_attribute("aria-label").startswith("Chart: ")  # type: ignore[union-attr]
    page.get_by_text("All figures, as they are now").click()
    assert ["The streams job", "lakeboard-streams", "runs"] in rows(page, "#figures")
    assert_accessible(page, "insights_projector")
    page.evaluate("scrollTo(0, 0)")
    shot(page, "insights", whole=True)
    page.locator("#kind").select_option("users")
    expect(page.locator("#hot-bars li").first).to_contain_text("points")
    page.locator("#minutes").select_option("15")
    # The newest minutes of fifteen: one more has passed if the machine is slow.
    expect(page.locator("#hot-lines tbody tr").nth(15)).to_have_count(0, timeout=15_000)
    expect(page.locator("#hot-lines tbody tr").nth(8)).to_have_count(1)
    page.reload()
    expect(page.locator("#kind")).to_have_value("users")
    expect(page.locator("#minutes")).to_have_value("15")
    assert [] == complaints
    assert_it_says_that_questdb_is_away(page, questdb)


def assert_it_says_that_questdb_is_away(page: Page, questdb: QuestdbDaemon) -> None:
    """The page asks again by itself: first it says so and greys what it has, then it is whole again."""
    expect(page.locator("#hot-bars li").first).to_be_visible()
    questdb.kill()
    expect(page.locator("#failed")).to_contain_text("QuestDB does not answer", timeout=40_000)
    expect(page.locator("#hot")).to_have_class("old")
    assert_accessible(page, "insights_without_questdb_projector")
    questdb.start()
    expect(page.locator("#failed")).to_be_empty(timeout=60_000)
    expect(page.locator("#hot")).not_to_have_class("old")


@pytest.mark.browser
def test_on_a_phone_and_before_anybody_played(
    browser: Browser, filled: tuple[ApiProcess, QuestdbDaemon]
) -> None:
    api, questdb = filled
    complaints = Complaints()
    page = page_of(context_of(browser, PHONE, "dark"), f"{api.url}/#/insights?minutes=60", complaints)
    for chart in CHARTS:
        assert_drawn(page, chart)
    assert_accessible(page, "insights_phone")
    for table in ("top_k", "missed_questions", "pipeline_health"):
        httpx.get(f"{questdb.url}/exec", params={"query": f"truncate table {table}"}).raise_for_status()
    page.goto(f"{api.url}/#/insights?minutes=15")
    expect(page.locator("#state")).to_have_text("No minute of play has closed in this time.", timeout=30_000)
    assert_accessible(page, "insights_empty_phone")
    assert [] == complaints


@pytest.mark.browser
def test_how_old_figures_are_in_plain_words(browser: Browser, api: ApiProcess) -> None:
    page = page_of(context_of(browser, PROJECTOR), f"{api.url}/", Complaints())
    words = page.evaluate(
        """async () => {
          const { stateWords } = await import("/static/insights.js");
          const { T } = await import("/static/texts.js");
          const as_of = "2026-03-09T00:15:00.000Z";
          return [...["fresh", "quiet", "behind", "unknown"].map((state) => stateWords({ state, as_of })),
            stateWords({ state: "unknown", as_of: null }), [0.24, 31, 300, 7200, 200000, null].map(T.insights.duration).join()];
        }"""
    )
    at = "9 Mar 2026, 00:15:00"
    assert [
        f"As of {at}: the newest minute that has closed.",
        f"Nobody has played since {at}. These are the figures up to then.",
        f"The streams stand still: these are the figures of {at}. Play itself goes on.",
        f"These are the figures of {at}. Whether anybody has played since is not known.",
        "No minute of play has closed in this time.",
        "0.2 s,31 s,5 min,2 h,2 days,–",
    ] == words


@pytest.mark.browser
def test_a_stack_without_questdb_says_what_it_needs(browser: Browser, api: ApiProcess) -> None:
    page = page_of(context_of(browser, PHONE), f"{api.url}/#/insights", Complaints())
    expect(page.locator("#failed")).to_contain_text("profile live")
    expect(page.locator("#failed .next-step")).to_contain_text("./lakeboard up --profile full")
    assert_accessible(page, "insights_live_phone")
