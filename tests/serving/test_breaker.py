"""The circuit breaker, on a clock of the test's own."""

from __future__ import annotations

import pytest

from serving.breaker import FAILURES, OPEN_S, Breaker

pytestmark = pytest.mark.unit


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(clock, lambda low, high: 1.0)
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.failed()
    return breaker, clock


def test_failures_in_a_row_open_it_and_one_success_between_does_not() -> None:
    breaker, _ = opened()
    assert not breaker.allows()
    mended = Breaker()
    for _ in range(3 * FAILURES):
        mended.failed()
        mended.succeeded()
        assert mended.allows()


def test_one_call_tries_when_its_time_is_over() -> None:
    breaker, clock = opened()
    clock.now += OPEN_S
    assert breaker.allows() and not breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    clock.now += OPEN_S
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_a_trial_that_never_says_how_it_went_does_not_shut_it_for_ever() -> None:
    breaker, clock = opened()
    for _ in range(3):
        clock.now += OPEN_S
        assert breaker.allows()
