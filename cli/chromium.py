"""A Chromium for the browser tests: one that is there, else one that is installed by apt or by Playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cli.environments import say

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What a person types where nothing could be installed here.
MEND = "sudo apt-get update && sudo apt-get install -y chromium"
# Playwright's own, which it keeps in the user's cache.
_OF_PLAYWRIGHT = (
    "from playwright.sync_api import sync_playwright\n"
    "with sync_playwright() as p: print(p.chromium.executable_path)"
)


def _runs(program: Path) -> bool:
    """Whether it starts: Ubuntu's package is a stub that only points to a snap."""
    try:
        return subprocess.run([str(program), "--version"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find(python: Path) -> Path | None:
    """A Chromium that starts: from the PATH, else Playwright's own. `python` is an interpreter that has Playwright."""
    found = [Path(path) for name in PROGRAMS if (path := shutil.which(name))]
    asked = subprocess.run([str(python), "-c", _OF_PLAYWRIGHT], capture_output=True, text=True)
    found += [Path(line) for line in asked.stdout.split("\n") if line]
    return next((program for program in found if _runs(program)), None)


def _install_by_apt() -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update", "-q"],
        ["install", "-q", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
    ):
        if subprocess.run(["apt-get", *arguments], env=env, stdout=sys.stderr).returncode:
            return


def ensure(python: Path) -> Path | None:
    """A Chromium, installed if need be: by apt as root, else by `playwright install`. None: it cannot be had; see MEND."""
    found = find(python)
    if found:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("no Chromium here: installing Debian's (about 300 MB)")
        _install_by_apt()
        if found := find(python):
            return found
    say("no Chromium here: installing Playwright's own (about 150 MB)")
    subprocess.run([str(python), "-m", "playwright", "install", "chromium"], stdout=sys.stderr)
    return find(python)
