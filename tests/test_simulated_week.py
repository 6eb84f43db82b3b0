"""The data set that ships: made again from its seed it is the same, small, readable, and as untidy as it claims."""

from __future__ import annotations

import gzip
from datetime import date

import pytest

from cli.answer_files import read
from contracts.periods import period_start
from tests.simulated_week import HEADER, PATH, packed, simulated_week

pytestmark = pytest.mark.unit
MOST_BYTES = 200_000


def test_the_shipped_file_is_what_the_generator_makes() -> None:
    assert simulated_week() == gzip.decompress(PATH.read_bytes()).decode()
    assert packed("a\n") == packed("a\n")
    assert PATH.stat().st_size <= MOST_BYTES


def test_every_line_can_be_read_and_the_file_is_untidy() -> None:
    lines, bad = read(PATH, "csv", "speed@1")
    assert bad == []
    keys = [(line["session_id"], line["question_id"], line["user_id"]) for line in lines]
    assert 1_500 < len(set(keys)) < len(keys)
    assert all("sim" in line["user_id"] or line["user_id"].startswith("x_") for line in lines)
    assert any(line["user_id"].startswith("x_") for line in lines)
    days = {period_start("daily", line["occurred_at_us"]) for line in lines}
    assert (date(2026, 3, 30), date(2026, 4, 5), 7) == (min(days), max(days), len(days))
    text = gzip.decompress(PATH.read_bytes()).decode().splitlines()
    assert HEADER == text[0]
    stamped = [row.split(",")[0] for row in text[1:] if row.split(",")[0].endswith("Z")]
    assert sorted(stamped) != stamped
