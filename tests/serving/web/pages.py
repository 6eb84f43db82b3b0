"""What the page's tests do with a browser: pages that complain, pictures, axe, getting into a game."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from serving.quizzes.starter import right_answers

PHONE = {"width": 360, "height": 740}
PROJECTOR = {"width": 1280, "height": 720}
SCHEMES = ("light", "dark")
# Lets a test cut a page's line as a phone that changes its network does.
_KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
};
"""


class Complaints(list[str]):
    """Errors of a page's console, and those that nobody caught."""

    def watch(self, page: Page) -> None:
        page.on("console", lambda one: self.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: self.append(str(error)))


def context_of(browser: Browser, viewport: dict[str, int], scheme: str = "light") -> BrowserContext:
    """A browser of one person. Without motion, so that nothing is judged half-faded."""
    phone = viewport["width"] < 500
    context = browser.new_context(
        viewport=viewport,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        has_touch=phone,
        is_mobile=phone,
        device_scale_factor=2 if phone else 1,
        locale="en-GB",
        timezone_id="UTC",
    )
    context.add_init_script(_KEEP_SOCKETS)
    return context


def page_of(context: BrowserContext, url: str, complaints: Complaints) -> Page:
    page = context.new_page()
    complaints.watch(page)
    page.goto(url)
    return page


def shot(page: Page, name: str, whole: bool = False) -> None:
    """Keeps a picture where LAKEBOARD_SCREENSHOTS says so; nothing compares them."""
    folder = os.environ.get("LAKEBOARD_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=whole)


def assert_accessible(page: Page, where: str) -> None:
    """axe finds nothing serious or critical, in light and dark; and nothing is wider than the screen."""
    before = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    for scheme in (*[one for one in SCHEMES if one != before], before):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        shot(page, f"all/{where}_{scheme}", whole=True)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [] == [
            f"{where}, {scheme}: {one['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
    # Not innerWidth: a phone's grows with what is too wide for it.
    width = (page.viewport_size or PHONE)["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{where} is too wide"


def seat_of(page: Page) -> dict[str, Any]:
    """Who the page is: session, token, user."""
    return dict(page.evaluate("JSON.parse(sessionStorage.getItem('lakeboard'))"))


def host_game(page: Page) -> dict[str, Any]:
    """Creates a live session of the first quiz; the host's seat."""
    page.get_by_role("link", name="Host", exact=True).click()
    expect(page.get_by_label("Quiz", exact=True)).to_contain_text("words")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#pin")).to_have_text(re.compile(r"^[0-9]{3} [0-9]{3}$"))
    return seat_of(page)


def join(page: Page, name: str) -> dict[str, Any]:
    """Joins on a page that was opened with the PIN; the player's seat."""
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"You are in, {name}!")).to_be_visible()
    return seat_of(page)


class Robot:
    """A player over HTTP, who fills the room; connected in the lobby."""

    def __init__(self, url: str, pin: str, name: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=10)
        self.seat = self.client.post("/v1/join", json={"pin": pin, "name": name}).raise_for_status().json()
        address = f"{url.replace('http', 'ws')}/v1/live?token={self.seat['token']}"
        self._line = ExitStack()
        self._line.enter_context(connect(address, subprotocols=[Subprotocol("live.v1")]))

    def hang_up(self) -> None:
        self._line.close()

    def answer(self, question: dict[str, Any], choice: str) -> None:
        self.client.post(
            f"/v1/sessions/{self.seat['session_id']}/answers",
            headers={"Authorization": f"Bearer {self.seat['token']}"},
            json={"question_id": question["question_id"], "choice": choice},
        ).raise_for_status()


def current(url: str, session_id: str) -> dict[str, Any]:
    """The phase as HTTP tells it."""
    reply = httpx.get(f"{url}/v1/sessions/{session_id}").raise_for_status()
    return dict(reply.json()["current"])


def right_choice(question: dict[str, Any]) -> str:
    return right_answers()[question["question_id"]]
