"""The expected file is what the model says; the model's rules by hand; statements without a Flink."""

from __future__ import annotations

import math
from datetime import date

import pytest

from contracts.sketched import DIMENSIONS
from flink_jobs.statements import HISTORY_FILES, LIVE_FILES, WALLS, History, interval, parameters, statements
from tests.flink_jobs.model import (
    CLOSED_US,
    EXPECTED,
    SECOND_US,
    expected_text,
    fixed_answers,
    score_of,
    spans,
    trending_of,
)

pytestmark = pytest.mark.unit


def test_the_expected_file_is_the_models() -> None:
    assert EXPECTED.read_text("utf-8") == expected_text()


def test_windows_that_hold_an_instant() -> None:
    at = (12 * 3600 + 59) * SECOND_US
    assert [(start // SECOND_US, end // SECOND_US) for start, end in spans("minute", at, 60)] == [
        (43200, 43260)
    ]
    tens = [
        (start // SECOND_US - 43200, end // SECOND_US - 43200) for start, end in spans("ten_minutes", at, 60)
    ]
    assert tens == [(0, 600), (-120, 480), (-240, 360), (-360, 240), (-480, 120)]
    assert len(list(spans("hour", at, 60))) == 6
    days = list(spans("day", at, 60))
    assert (days[0], days[-1]) == ((0, 43800 * SECOND_US), (0, 86400 * SECOND_US)) and len(days) == 72


def test_growth_is_a_change_of_share() -> None:
    assert score_of(100, 600, 1000, 6000) == 0.0  # large and steady
    assert score_of(200, 600, 2000, 6000) == 0.0  # all grow alike
    assert score_of(10, 0, 100, 0) == 0.0  # no past at all
    # Nothing before: 10 of 10 in a seventh of all play: sqrt(2 · 10 · ln 7).
    assert math.isclose(score_of(10, 0, 1000, 6000), math.sqrt(20 * math.log(7)))
    # Close to a z-score where counts are large.
    assert math.isclose(
        score_of(10_500, 60_000, 10**6, 6 * 10**6), 500 / math.sqrt(10_000 * 7 / 6), rel_tol=0.05
    )
    assert {kind for kind, _ in trending_of(fixed_answers(), CLOSED_US)} == {"quizzes", "words"}


@pytest.mark.parametrize("files", [LIVE_FILES, HISTORY_FILES])
def test_statements_fill_every_parameter(files: tuple[str, ...]) -> None:
    history = History(date(2026, 1, 1), date(2026, 1, 31)) if files is HISTORY_FILES else None
    texts = statements(parameters("broker:1", "group", history=history), files)
    joined = "\n".join(texts)
    assert "$" not in joined and "--" not in joined
    assert all(text.startswith(("CREATE", "INSERT")) for text in texts)
    assert all(f"CREATE TEMPORARY VIEW {view} " in joined for view in WALLS)
    assert ("scan.bounded.mode" in joined) == (history is not None)
    assert ("bodies" in joined) == (history is None)
    if history:
        assert "occurred_at_us >= 1767225600000000 AND occurred_at_us < 1769904000000000" in joined


def test_intervals_have_three_digits() -> None:
    assert [interval(s) for s in (10, 100, 600, 3_600, 86_400)] == [
        "INTERVAL '10' SECOND(3)",
        "INTERVAL '100' SECOND(3)",
        "INTERVAL '10' MINUTE(3)",
        "INTERVAL '1' HOUR(3)",
        "INTERVAL '1' DAY(3)",
    ]


def test_every_dimension_is_built() -> None:
    sketches = parameters("broker:1", "group")["kinds_by_subject"]
    sketches += "".join(statements(parameters("broker:1", "group"), ("sketches.sql",)))
    built = {one.kind for one in DIMENSIONS if f"'{one.kind}'" in sketches}
    assert built == {one.kind for one in DIMENSIONS}
