"""How many api processes run: the file that says it, and the policy that changes it by measured load. Pure but for the file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.errors import BadInput

# Ports and routes are laid out for so many.
MOST = 8
DEFAULT_COUNT = 2

# A core's share at which a process is near its end: above it replies queue.
HIGH_SHARE = 0.75
# What the ones that stay would have at most; the gap to HIGH_SHARE keeps a count from swinging.
LOW_SHARE = 0.45
# 37 kB and 4 boards a second each: a process can hold more, but then starts to be late (benchmarks/RESULTS.md).
HIGH_SOCKETS = 3_000
LOW_SOCKETS = 1_500
# Samples in a row before one is added, and before one is taken away: crowds come at once and leave slowly.
ADD_AFTER, REMOVE_AFTER = 2, 12


@dataclass(frozen=True, slots=True)
class Scale:
    """How many api processes are wanted; least and most: the policy's bounds, 0 where a person has said the count."""

    count: int = DEFAULT_COUNT
    least: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        bounds = (self.least, self.most) if self.automatic else (self.count,)
        if not all(1 <= one <= MOST for one in (self.count, *bounds)) or self.least > self.most:
            raise BadInput("invalid_field", f"an api may have 1 to {MOST} processes")

    @property
    def automatic(self) -> bool:
        return bool(self.least or self.most)

    def within(self) -> Scale:
        """The count moved into the policy's bounds."""
        if not self.automatic:
            return self
        return replace(self, count=min(max(self.count, self.least), self.most))


def read_scale(run: Path) -> Scale:
    """What is wanted in this run folder; the default where nobody has said anything."""
    try:
        found = json.loads((run / "scale.json").read_text())
        return Scale(found["count"], found["least"], found["most"])
    except FileNotFoundError:
        return Scale()


def write_scale(run: Path, scale: Scale) -> None:
    """Says what is wanted, in one step."""
    run.mkdir(parents=True, exist_ok=True)
    draft = run / f".scale.{os.getpid()}"
    draft.write_text(json.dumps({"count": scale.count, "least": scale.least, "most": scale.most}))
    draft.replace(run / "scale.json")


@dataclass
class Policy:
    """Counts samples that ask for more or fewer processes; one is added or taken away at a time."""

    busy: int = 0
    idle: int = 0

    def decide(self, scale: Scale, shares: Sequence[float], sockets: int) -> int:
        """The count wanted after one more sample. shares: of a core, what each process wanted of it."""
        count, total = scale.count, sum(shares)
        if (
            not scale.automatic or len(shares) != count
        ):  # one starts or ends: what is measured is of neither count
            self.busy = self.idle = 0
            return count
        high = total / count > HIGH_SHARE or sockets / count > HIGH_SOCKETS
        low = count > 1 and total / (count - 1) < LOW_SHARE and sockets / (count - 1) < LOW_SOCKETS
        self.busy = self.busy + 1 if high else 0
        self.idle = self.idle + 1 if low else 0
        if self.busy >= ADD_AFTER:
            self.busy = self.idle = 0
            return min(count + 1, scale.most)
        if self.idle >= REMOVE_AFTER:
            self.busy = self.idle = 0
            return max(count - 1, scale.least)
        return count
