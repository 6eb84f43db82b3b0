"""What is made of QuestDB's rows: tops, gains, lines, and in which state the figures are."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.periods import iso_ms
from serving.insights import over_time

pytestmark = pytest.mark.unit
MINUTE_US = 60_000_000
START = 29_000_000 * MINUTE_US


def row(minute: int, place: int, subject: str, amount: int) -> dict[str, Any]:
    ts, end = (iso_ms(START + (minute + more) * MINUTE_US) for more in (0, 1))
    return {"ts": ts, "place": place, "subject_id": subject, "amount": amount, "window_end": end}


# Newest first, as they are read.
ROWS = [row(2, 1, "b", 9), row(2, 2, "a", 4), row(1, 1, "a", 5), row(0, 1, "a", 7), row(0, 2, "c", 1)]


def look(measure: str, value: float, at_us: int) -> dict[str, Any]:
    return {"ts": iso_ms(at_us), "measure": measure, "source": "s", "value": value}


def test_hot_is_the_newest_window_with_its_past() -> None:
    found = over_time.hot(ROWS)
    assert [("b", 1, 9), ("a", 2, 4)] == [(one["id"], one["rank"], one["amount"]) for one in found["entries"]]
    assert {"start": iso_ms(START + 2 * MINUTE_US), "end": iso_ms(START + 3 * MINUTE_US)} == found["window"]
    assert {"b": [None, None, 9], "a": [7, 5, 4]} == {one["id"]: one["amounts"] for one in found["series"]}
    assert {"window": None, "entries": [], "windows": [], "series": []} == over_time.hot([])


def test_trending_are_those_that_gained() -> None:
    assert [{"id": "b", "before": 0, "now": 9, "gained": 9}] == over_time.trending(
        ROWS, START + MINUTE_US * 3 // 2
    )
    assert [("b", 9), ("a", 2)] == [
        (t["id"], t["gained"]) for t in over_time.trending(ROWS, START + MINUTE_US)
    ]
    assert [] == over_time.trending([], START)


@pytest.mark.parametrize(
    ("age_s", "health", "expected"),
    [
        (30, [], "fresh"),
        (900, [("streams_watermark_age_seconds", 32.0, 5)], "quiet"),
        (900, [("streams_watermark_age_seconds", 700.0, 5)], "behind"),
        (900, [("streams_running", 0.0, 5)], "behind"),
        (900, [("streams_running", 0.0, 90)], "unknown"),
        (900, [], "unknown"),
    ],
)
def test_old_figures_say_why(age_s: int, health: list[tuple[str, float, int]], expected: str) -> None:
    now = START + 1_000 * MINUTE_US
    looks = [look(measure, value, now - seconds * 1_000_000) for measure, value, seconds in health]
    found = over_time.state([now - age_s * 1_000_000, START], looks, now)
    assert (expected, float(age_s), iso_ms(now - age_s * 1_000_000)) == (
        found["state"],
        found["age_s"],
        found["as_of"],
    )


def test_nothing_was_played_yet() -> None:
    assert {"as_of": None, "age_s": None, "state": "unknown"} == over_time.state([], [], START)


def test_lines_are_by_measure_and_source_in_order_of_time() -> None:
    rows = [look("b", 1, START), look("a", 2, START), look("a", 3, START + MINUTE_US)]
    first, second = iso_ms(START), iso_ms(START + MINUTE_US)
    assert [("a", [[first, 2], [second, 3]]), ("b", [[first, 1]])] == [
        (one["measure"], one["points"]) for one in over_time.lines(rows)
    ]


def test_instants_of_questdb() -> None:
    assert 1_500_000 == over_time.instant_us("1970-01-01T00:00:01.500000Z")
    assert START == over_time.instant_us(over_time.sql_instant(START).strip("'"))
