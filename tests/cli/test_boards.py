"""`board`: what it prints of a reply, and that nothing is shown as fresh which could not be made so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.commands.boards import print_board, print_explained
from cli.places import ROOT
from serving.leaderboards.examples import BOARD
from tests.end_to_end.whole_stack import free_offset


@pytest.mark.unit
def test_a_board_is_headed_by_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    print_board({**BOARD, "subject": "quiz", "measure": "misses"})
    heads = next(line for line in capsys.readouterr().out.splitlines() if "rank" in line)
    assert ["rank", "quiz", "name", "misses", "reached", "at"] == heads.split()


@pytest.mark.unit
def test_days_of_several_zones_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    def day(number: int, zone: str | None) -> dict[str, Any]:
        begin, end = f"2026-03-0{number}", f"2026-03-0{number + 1}"
        part = {"source": "user_days", "from": begin, "to": end, "day": begin, "month": None}
        return {**part, "zone": zone}

    parts = [day(1, "UTC"), day(1, "Asia/Kolkata"), day(2, "UTC"), day(2, "Asia/Kolkata")]
    print_explained({"parts": parts, "files": 2, "bytes": 9, "rows": 3, "elapsed_ms": 1.0})
    said = capsys.readouterr().out
    assert [1, 1] == [said.count("2 days of UTC"), said.count("2 days of Asia/Kolkata")]


@pytest.mark.engine
@pytest.mark.parametrize("period", [("daily", "current"), ("--from", "2026-03-01", "--to", "2026-03-02")])
def test_no_board_is_shown_if_nothing_could_be_ingested(period: tuple[str, ...], tmp_path: Path) -> None:
    env = {
        **os.environ,
        "LAKEBOARD_CACHE_DIR": os.environ.get("LAKEBOARD_CACHE_DIR", str(ROOT / ".lakeboard" / "cache")),
        "LAKEBOARD_HOME": str(tmp_path / "home"),
        "LAKEBOARD_PORT_OFFSET": str(free_offset()),
    }
    done = subprocess.run(
        [sys.executable, "-m", "cli", "board", "global", *period, "--fresh"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (3, "") == (done.returncode, done.stdout)
    assert "the board would not be fresh" in done.stderr
    # The api was not asked: it would have given the board as of the last ingest.
    assert "the api at" not in done.stderr
