"""What `backfill` says of a settle job's document, and what is said where a job is asked for wrongly."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
import typer

from cli.commands.jobs import TAKES, _backfilled, run_job
from cli.commands.rescoring import rescore

pytestmark = pytest.mark.unit
MONTH = date(2026, 1, 1), date(2026, 1, 31)


def _document(settled: list[str], skipped: list[dict[str, Any]]) -> dict[str, Any]:
    return {"settled": [{"period": period} for period in settled], "skipped": skipped}


def test_a_month_that_is_settled_names_the_next_command() -> None:
    said = _backfilled(*MONTH, _document(["daily", "monthly", "daily"], [{"why": "not ended"}]))
    assert [
        "2026-01-01 to 2026-01-31: 2 daily, 1 monthly published",
        "1 periods have not ended",
        "next: ./lakeboard reconcile --from 2026-01-01 --to 2026-01-31",
    ] == said.splitlines()


def test_an_incomplete_month_says_what_it_lacks() -> None:
    lacks = [{"shard": 1, "seq": 20}]
    said = _backfilled(*MONTH, _document([], [{"why": "incomplete", "missing": lacks}]))
    assert [
        "2026-01-01 to 2026-01-31: nothing new published",
        "1 periods are incomplete, the first lacks [{'shard': 1, 'seq': 20}]",
        "next: ./lakeboard status (the relay's lag), then the same command again",
    ] == said.splitlines()


def test_a_name_that_is_no_job_lists_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run_job("nope", [])
    _, _, listed = capsys.readouterr().err.partition("there are ")
    assert sorted(TAKES) == listed.strip().split(", ")


@pytest.mark.parametrize("given", [{}, {"undo": 1, "resume": True}, {"rule": "a@1", "undo": 1}])
def test_rescore_names_its_own_options_before_spark_starts(
    given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        rescore(**{"rule": None, "remove_user": None, "undo": None, "resume": False, **given})
    assert 2 == ended.value.exit_code
    assert "say one of --rule, --remove-user, --undo, --resume" in capsys.readouterr().err
