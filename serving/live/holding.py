"""Boards are held back while many sockets connect: a handshake is then worth more than a fourth board a second.

Pushing to all who are in while thousands come in made the ramp of 10,000 sockets take 99 s instead of 14 s (measured on
two cores). Pure but for the clock, which callers pass.
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
