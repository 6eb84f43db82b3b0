"""The sketches of one process, replayed from `sketches.v1`, and which of them a range is made of. No I/O.

A window that the level above has not taken in yet is loose: it is added where a range has the longer window, so that an
hour which is merged before its last minute came is whole here all the same. Windows that the topic keeps no longer are
named as missing, for the lake; one that is in its time but not here had no play.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from contracts.errors import BadInput
from contracts.events import AnswerEvent, decode
from contracts.sketched import (
    BELOW,
    BY_KIND,
    KEEP_US,
    LEVEL_US,
    LEVELS,
    Dimension,
    SketchKey,
    parse_key,
    parse_record,
    window_start_us,
)
from serving.insights.counters import Counters
from serving.insights.cover import Window, cover
from sketches import windows
from sketches.count_min import CountMin

LOG = logging.getLogger(__name__)
# Late answers kept for widening bounds, about 1 kB each; the relay takes them in within seconds.
MOST_LATE = 20_000
_ABOVE = {lower: upper for upper, lower in BELOW.items()}


@dataclass(slots=True)
class Row:
    """What is known of a held window. sketch: None for a Count-Min, whose counters are in the table."""

    parts: frozenset[int]
    late_through: int
    total: int
    offset: int
    sketch: windows.Sketch | None


@dataclass(frozen=True, slots=True)
class Selection:
    """A range of one kind. windows: held ones that make it up. missing: ones that only the lake may have."""

    dimension: Dimension
    windows: tuple[Window, ...]
    missing: tuple[Window, ...]
    late: tuple[AnswerEvent, ...]


@dataclass(slots=True)
class _Kind:
    """The windows of one kind by level."""

    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {level: {} for level in LEVELS})
    counters: dict[str, Counters] = field(default_factory=dict)
    loose: dict[str, set[int]] = field(default_factory=lambda: {level: set() for level in _ABOVE})


class SketchStore:
    """`apply` and `apply_late` fold records in the topics' order; a repeat changes nothing. Hold `lock` to ask."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._kinds = {kind: _Kind() for kind in BY_KIND}
        self._late: dict[str, tuple[int, AnswerEvent]] = {}
        # The relay takes late answers in all at once: those before this offset are in sketches.
        self._late_through = 0
        self._newest_end_us: int | None = None
        self.skipped = 0

    def apply(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Fold one record of `sketches.v1` in. One that is not ours, or of another size, is counted, never raised."""
        try:
            found = parse_key(key)
            if value is None:
                with self.lock:
                    self._drop(found)
                return
            record = parse_record(key, value)
            sketch = windows.from_text(BY_KIND[found.kind], record.sketch)
        except BadInput as error:
            self.skipped += 1
            LOG.warning("sketch_skipped offset=%d error=%s", offset, error)
            return
        row = Row(frozenset(record.parts), record.late_through, 0, offset, sketch)
        with self.lock:
            self._put(found, row)

    def _put(self, key: SketchKey, row: Row) -> None:
        kind, level, start = self._kinds[key.kind], key.level, key.window_start_us
        if isinstance(row.sketch, CountMin):
            counters = row.sketch.counters()
            if level not in kind.counters:
                kind.counters[level] = Counters(counters.size)
            kind.counters[level].put(start, counters)
            row.total, row.sketch = row.sketch.total, None
        kind.rows[level][start] = row
        if level in BELOW:
            kind.loose[BELOW[level]] -= row.parts
        if level in _ABOVE and not self._is_above(kind, level, start):
            kind.loose[level].add(start)
        self._late_through = max(self._late_through, row.late_through)
        if level == "minute":
            self._newest_end_us = max(self._newest_end_us or 0, key.window_end_us)

    def _drop(self, key: SketchKey) -> None:
        kind, start = self._kinds[key.kind], key.window_start_us
        kind.rows[key.level].pop(start, None)
        if key.level in kind.counters:
            kind.counters[key.level].drop(start)
        if key.level in kind.loose:
            kind.loose[key.level].discard(start)

    @staticmethod
    def _is_above(kind: _Kind, level: str, start: int) -> bool:
        """Whether the next level, or where that is gone the day, has taken this window in."""
        while level in _ABOVE:
            level, below = _ABOVE[level], start
            start = window_start_us(level, start)
            if start in kind.rows[level]:
                return below in kind.rows[level][start].parts
        return False

    def apply_late(self, value: bytes | None, offset: int) -> None:
        """Remember a late answer until it is in its sketches."""
        try:
            answer = decode(value or b"")
        except BadInput as error:
            self.skipped += 1
            LOG.warning("late_answer_skipped offset=%d error=%s", offset, error)
            return
        with self.lock:
            self._late.setdefault(answer.event_id, (offset, answer))
            while len(self._late) > MOST_LATE:
                del self._late[next(iter(self._late))]

    @property
    def as_of_us(self) -> int | None:
        """End of the newest minute held of any kind, None before the first."""
        with self.lock:
            return self._newest_end_us

    def select(self, kind: str, start_us: int, end_us: int, now_us: int) -> Selection:
        """What makes up [start_us, end_us), whole minutes."""
        with self.lock:
            own = self._kinds[kind]
            found: list[Window] = []
            missing: list[Window] = []
            for window in cover(start_us, end_us):
                if window[1] in own.rows[window[0]]:
                    found.append(window)
                elif self._is_missing(own, window, now_us):
                    missing.append(window)
            found += self._loose_inside(own, start_us, end_us)
            late = tuple(self._pending(own, set(found), start_us, end_us)) if self._late else ()
            return Selection(BY_KIND[kind], tuple(found), tuple(missing), late)

    @staticmethod
    def _loose_inside(kind: _Kind, start_us: int, end_us: int) -> Iterator[Window]:
        """Loose windows whose longer one lies in the range: that one, or a longer still, is what the range is made of."""
        for level, starts in kind.loose.items():
            length = LEVEL_US[_ABOVE[level]]
            for start in starts:
                above = start // length * length
                if start_us <= above and above + length <= end_us:
                    yield level, start

    def _is_missing(self, kind: _Kind, window: Window, now_us: int) -> bool:
        """Whether the lake may have a window that is not here: the topic keeps it no longer, and it was played in."""
        level, start = window
        if now_us - start <= KEEP_US[level]:
            return False
        while level in _ABOVE:
            level, below = _ABOVE[level], start
            start = window_start_us(level, start)
            if start in kind.rows[level]:
                return below in kind.rows[level][start].parts
            if now_us - start <= KEEP_US[level]:
                return False
        return True

    def _pending(self, kind: _Kind, found: set[Window], start_us: int, end_us: int) -> Iterator[AnswerEvent]:
        """Late answers of the range that no sketch of it has; also those that a minute, written again, has lost."""
        for offset, answer in self._late.values():
            if not start_us <= answer.occurred_at_us < end_us:
                continue
            minute = window_start_us("minute", answer.occurred_at_us)
            again = ("minute", minute) in found and kind.rows["minute"][minute].late_through <= offset
            if offset >= self._late_through or again:
                yield answer

    def counts(self, kind: str, chosen: Sequence[Window], positions: Sequence[int]) -> tuple[list[int], int]:
        """Of a Count-Min: the sums of the counters at a key's positions over the windows, and of the totals."""
        own = self._kinds[kind]
        sums, total = [0] * len(positions), 0
        for level in LEVELS:
            starts = [start for one, start in chosen if one == level]
            if starts:
                total += sum(own.rows[level][start].total for start in starts)
                found = own.counters[level].sums(starts, positions)
                sums = [left + right for left, right in zip(sums, found, strict=True)]
        return sums, total

    def sketches(self, kind: str, chosen: Sequence[Window]) -> list[tuple[int, windows.Sketch]]:
        """Of any other: (offset, sketch) of each window; the sketches are not to be changed."""
        rows = self._kinds[kind].rows
        found = [rows[level][start] for level, start in chosen]
        return [(row.offset, row.sketch) for row in found if row.sketch is not None]

    def nbytes(self) -> int:
        """Memory of the tables of counters."""
        return sum(table.nbytes for kind in self._kinds.values() for table in kind.counters.values())

    def held(self) -> dict[str, int]:
        """Level → windows held, over all kinds."""
        return {level: sum(len(kind.rows[level]) for kind in self._kinds.values()) for level in LEVEL_US}
