"""When boards wait: while many sockets connect, and while the process has more to do than it can.

A handshake is then worth more than a fourth board a second, and so is an answer: one that is read late is refused, while a
board that is not sent is replaced by the next. Pushing to all who are in while thousands come in made the ramp of 10,000
sockets take 99 s instead of 14 s (measured on two cores). Pure but for the clock, which callers pass.
"""

from __future__ import annotations

# A class of thirty joins within a second or two and never comes near this; a stadium, or a handler's sockets after a
# restart, is far above.
HOLD_AT_PER_S = 100
# The longest that boards stand still, however many come.
HOLD_MAX_S = 5.0
# Then all rooms get their turn before the next hold.
RELEASE_S = 0.5
WINDOW_S = 0.5


class ConnectGate:
    """Counts new sockets over half a second, and says whether boards wait."""

    def __init__(self) -> None:
        self._window_at = 0.0
        self._count = 0
        self._last_count = 0
        self._held_since: float | None = None

    def connected(self, now_s: float) -> None:
        """A socket has connected."""
        self._turn(now_s)
        self._count += 1

    def held(self, now_s: float) -> bool:
        """Whether boards wait at this moment."""
        self._turn(now_s)
        if max(self._count, self._last_count) < HOLD_AT_PER_S * WINDOW_S:
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = now_s
        return (now_s - self._held_since) % (HOLD_MAX_S + RELEASE_S) < HOLD_MAX_S

    def _turn(self, now_s: float) -> None:
        passed = now_s - self._window_at
        if passed >= WINDOW_S:
            self._last_count = self._count if passed < 2 * WINDOW_S else 0
            self._count = 0
            self._window_at = now_s


# DESIGN 3: four states a second are as fast as people read; more only costs sends.
BOARD_EVERY_S = 0.25
# A process that is level with its work runs what is due within this; a garbage collection or a neighbour takes as long.
CALM_S = 0.03
# Boards a session of a process that is not: of 100 ms behind one a second, of 200 ms and more one in two seconds.
STRETCH = 10.0
BOARD_AT_LEAST_EVERY_S = 2.0
# The weight of a new look: a second's worth of them decides, one stall does not.
_NEWEST = 0.15


class Pace:
    """How often boards go out, by how late the event loop runs what is due."""

    def __init__(self) -> None:
        self.behind_s = 0.0

    def looked(self, late_s: float) -> None:
        """The event loop was late by so much, as it is measured ten times a second (`serving/metrics.py`)."""
        self.behind_s += _NEWEST * (late_s - self.behind_s)

    @property
    def board_every_s(self) -> float:
        """The least time between two boards of a session."""
        return min(BOARD_EVERY_S + STRETCH * max(self.behind_s - CALM_S, 0.0), BOARD_AT_LEAST_EVERY_S)
