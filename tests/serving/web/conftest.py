"""A real Chromium for the page's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from cli.chromium import MEND

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
    """Ends with its module: Playwright has an event loop running meanwhile, which other tests' own ones cannot join."""
    program = os.environ.get("LAKEBOARD_CHROMIUM")
    assert program, f"no Chromium: run ./lakeboard test browser, or: {MEND}"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield found
        found.close()
