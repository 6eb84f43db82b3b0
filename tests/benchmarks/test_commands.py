"""The streams' benchmarks, small: that they run to their end, and that what they compare is equal. Speed is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.long]
ROOT = Path(__file__).resolve().parents[2]


def document_of(name: str, *arguments: str) -> dict[str, Any]:
    """What the command prints; it exits with 1 where a claim about speed does not hold."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    return dict(json.loads(done.stdout))


def test_streams_equal_duckdb_and_reach_questdb() -> None:
    sizes = ("--answers=60000", "--rate=500", "--players=2000", "--quizzes=60")
    found = document_of("streams", *sizes, "--taskmanager-mb=1600", "--live-s=45", "--live-rate=100")
    assert found["holds"]["equal"] and found["windows_rows"] > 1_000
    assert found["answers_per_s"] > 0 and found["live_windows"] > 1


def test_a_replica_starts_and_answers() -> None:
    found = document_of("replica", "--days=3", "--keys=300", "--answers=3000", "--lookups=50")
    assert found["sketches"] > 0 and found["start_s"] > 0


def test_estimates_are_within_their_bounds() -> None:
    """Fewer events make the bounds wider, not the shares smaller."""
    found = document_of("accuracy", "--events=20000", "--answers=absent")
    assert found["all_within_bounds"] and len(found["rows"]) > 20
