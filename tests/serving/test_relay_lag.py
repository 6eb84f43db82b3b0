"""The relay's lag in seconds: the age of what a sink does not have."""

from __future__ import annotations

import pytest

from serving.relay.lag import Lag

pytestmark = pytest.mark.unit


def test_a_sink_lags_by_the_age_of_the_oldest_entry_it_lacks() -> None:
    lag = Lag()
    for now, last in ((0.0, 10), (2.0, 10), (4.0, 20), (6.0, 30)):
        lag.look(now, last)
    assert 7.0 == lag.seconds(7.0, 9)
    assert 3.0 == lag.seconds(7.0, 10)
    assert 1.0 == lag.seconds(7.0, 20)
    assert 0.0 == lag.seconds(7.0, 30)


def test_a_relay_that_has_not_looked_yet_is_level() -> None:
    assert 0.0 == Lag().seconds(1.0, 0)
