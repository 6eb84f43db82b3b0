"""The locks pin by hash and name no host; the jar lists pin every file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.environments import NAMES
from cli.jars import GROUPS, LISTS, sums_of
from cli.places import ROOT

pytestmark = pytest.mark.repository
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
HOST = re.compile(r"https?://|--(extra-)?index-url|--find-links|@ file:")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_host_and_hashes_everything(lock: Path) -> None:
    text = lock.read_text()
    assert HOST.findall(text) == []
    pins = re.findall(r"^[A-Za-z0-9][^\s=]*==\S+(.*)$", text, re.MULTILINE)
    assert pins
    assert [pin for pin in pins if not pin.endswith("\\")] == [], "a pin without a hash below it"


def test_every_environment_has_a_lock() -> None:
    # boot: uv alone, which makes the others.
    assert sorted([*NAMES, "boot"]) == [lock.stem for lock in LOCKS]
    assert sorted([*NAMES, "boot"]) == sorted(path.stem for path in (ROOT / "requirements").glob("*.in"))


@pytest.mark.parametrize("group", GROUPS)
def test_a_jar_list_pins_versions_and_sums(group: str) -> None:
    text = (LISTS / f"{group}.xml").read_text()
    assert re.findall(r'rev="(?![0-9][0-9A-Za-z.\-]*")[^"]*"', text) == []
    # The one address is the name of Ivy's XML namespace; nothing is fetched from it.
    assert set(re.findall(r'https?://[^"]+', text)) == {"http://ant.apache.org/ivy/maven"}
    sums = sums_of(group)
    assert sums and all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in sums.values())
    assert all(name.endswith(".jar") and "/" not in name for name in sums)


def test_no_lock_of_a_tool_that_writes_its_index() -> None:
    assert [name for name in ("uv.lock", "pylock.toml", "poetry.lock") if (ROOT / name).exists()] == []
