"""The command: its help, its exit codes, and the size of what a first run installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli.app import COMMANDS, offered
from cli.environments import ensure, location
from cli.places import ROOT

pytestmark = pytest.mark.repository
LIVE_MOST_MB = 450


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in the live environment."""
    command = [str(ensure("live")), "-P", "-m", "cli", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def test_help_lists_every_command_with_one_line() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout
    listed = {
        words[0]: words[1:]
        for words in map(str.split, done.stdout.partition("Commands:")[2].splitlines())
        if words
    }
    for command in offered():
        assert listed[command.group or command.name], command.name


@pytest.mark.parametrize("command", offered(), ids=lambda command: command.name)
def test_each_command_has_help_of_its_own(command: object) -> None:
    assert isinstance(command, type(COMMANDS[0]))
    done = run(*([command.group] if command.group else []), command.name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_wrong_use_exits_2() -> None:
    assert run("no_such_command").returncode == 2
    assert run("test", "no_such_kind").returncode == 2
    assert run("doctor", "--profile", "huge").returncode == 2
    assert run("backfill", "--month", "2026-13").returncode == 2


def test_doctor_prints_one_json_document() -> None:
    import json

    done = run("doctor", "--json", "--profile", "live")
    assert done.returncode in (0, 1)
    document = json.loads(done.stdout)
    assert {"profile", "healthy", "findings"} == set(document)
    assert all(finding["mend"] for finding in document["findings"] if finding["state"] == "bad")


def test_the_live_environment_is_small_and_has_no_java() -> None:
    ensure("live")
    folder = location("live").resolve()
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) / 1e6 <= LIVE_MOST_MB
    assert [path for path in files if path.suffix == ".jar" or "pyspark" in path.parts] == []


def test_the_launcher_and_ci_are_executable() -> None:
    for path in (ROOT / "lakeboard", ROOT / ".ci" / "run"):
        assert os.access(path, os.X_OK), path
    assert "./lakeboard test" in Path(ROOT / ".ci" / "run").read_text()
