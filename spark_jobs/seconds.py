"""Where a run's time went."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("settle")


class Seconds:
    """Wall seconds spent by phase; a phase entered again adds up."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - begun
            self.spent[phase] = self.spent.get(phase, 0.0) + took
            log.info("phase_done name=%s seconds=%.1f", phase, took)

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 1) for name, value in self.spent.items()}
