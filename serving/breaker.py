"""A circuit breaker: after some failures in a row callers are told at once, and one of them tries again now and then.

Without it every request waits its whole time-out for a system that is away, and hundreds of them wait together. Pure but
for the clock and the chance, which the caller may pass.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

# One failure is a hiccup; three in a row, each after its time-out, are an outage.
FAILURES = 3
# Longer keeps play waiting for a system that is back; jittered, so that processes do not ask it all at once.
OPEN_S = 1.0


class Breaker:
    """Closed: calls pass. Open: `allows` is False until its time is over; then one call is let through to try."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        """Whether a call may be made now. True is a promise to say afterwards how it went."""
        if self._failures < FAILURES:
            return True
        now = self._clock()
        if now < self._open_until:
            return False
        # The one that tries; the others are told off until it is back.
        self._open_until = now + OPEN_S * self._chance(0.5, 1.5)
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0

    def failed(self) -> None:
        """A call was not answered."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._open_until = self._clock() + OPEN_S * self._chance(0.5, 1.5)
