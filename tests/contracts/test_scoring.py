"""Scoring: exact values at the edges, and the properties that every rule keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import scoring
from contracts.errors import BadInput


@pytest.mark.unit
@pytest.mark.parametrize(
    ("correct", "elapsed_ms", "limit_ms", "expected"),
    [
        (True, 0, 60_000, 1000), (True, 60_000, 60_000, 500), (True, 60_001, 60_000, 0), (False, 0, 60_000, 0),
        (True, 30_000, 60_000, 750), (True, 1, 3, 833), (True, 0, 1, 1000), (True, 1, 1, 500),
    ],
)  # fmt: skip
def test_speed_1(correct: bool, elapsed_ms: int, limit_ms: int, expected: int) -> None:
    assert scoring.points("speed@1", correct, elapsed_ms, limit_ms) == expected


@pytest.mark.property
@given(st.sampled_from(sorted(scoring.RULES)), st.booleans(), st.integers(0, 10**7), st.integers(1, 10**7))
def test_points_are_whole_never_negative_and_zero_when_wrong(
    rule: str, correct: bool, elapsed: int, limit: int
) -> None:
    points = scoring.points(rule, correct, elapsed, limit)
    assert type(points) is int and 0 <= points <= 1000
    assert correct or points == 0
    assert points >= scoring.points(rule, correct, elapsed + 1, limit)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("speed@2", True, 0, 1), "unknown_rule"),
        (("speed@1", True, -1, 1), "negative_elapsed"),
        (("speed@1", True, 0, 0), "invalid_field"),
    ],
)
def test_bad_input_has_a_code(arguments: tuple[str, bool, int, int], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        scoring.points(*arguments)
    assert caught.value.code == code
