"""How far each sink is behind the outbox, in entries and in seconds."""

from __future__ import annotations

from collections import deque

# An hour of looks every two seconds; a sink further behind than that is shown as behind by an hour.
LOOKS = 1_800


class Lag:
    """The lag of the sinks of one shard, from looks at the outbox's end.

    A sink lags by the age of the oldest look whose end it has not reached yet: 0 when it is level.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=LOOKS)

    def look(self, now_s: float, last_seq: int) -> None:
        """Note the outbox's end; an end that has not moved is noted once."""
        if not self._looks or last_seq > self._looks[-1][1]:
            self._looks.append((now_s, last_seq))

    def seconds(self, now_s: float, position: int) -> float:
        """How long ago the outbox held an entry that the sink at `position` does not have."""
        return next((now_s - seen for seen, last in self._looks if last > position), 0.0)
