"""Which sketches of `sketches.v1` are due: hours from minutes, days from hours, late answers into all three (CONTRACTS E).

Pure state and decisions; serving/relay/sketch_loop reads the topics, sends what is due in one transaction, and deletes
what has expired. A record says what is in it (`parts`, `late_through`), so that nothing is counted twice or left out
whoever merges, whenever:

- A window is merged from the level below once it has ended and GRACE_US has passed. One below that comes after that is
  added to what is there, also to the day that has its hour. One that comes again is in `parts` and is left alone.
- A late answer goes into the minute, the hour and the day that are there; its minute is made if nothing has it.
- What Flink writes again has lost its late answers (`late_through` 0) and gets them again.

Held sketches are compressed: a day's Count-Min is 109 kB, most minutes are nearly empty.
"""

from __future__ import annotations

import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from contracts.errors import BadInput
from contracts.events import AnswerEvent, decode
from contracts.sketched import (
    BELOW,
    BY_KIND,
    DAY_US,
    KEEP_US,
    LEVEL_US,
    LEVELS,
    MINUTE_US,
    SketchKey,
    SketchRecord,
    parse_key,
    parse_record,
    window_start_us,
)
from sketches import windows
from sketches.count_min import CountMin

LOG = logging.getLogger(__name__)
# Flink closes a window within a minute and a half (flink_jobs/submit). Shorter only writes the hour more than once.
GRACE_US = 5 * MINUTE_US
# Sketches wait for the lake as long as this beyond their time, so that a stack whose ingest never runs stays bounded.
# At 9 kinds a minute that is 91,000 records, which a replica reads when it starts.
MOST_WAIT_US = 7 * DAY_US
# Late answers that are remembered, 1 kB each: Kafka keeps them for two days. Beyond it the oldest are let go.
MOST_LATE = 100_000
# Heaviest keys that a merged Count-Min's record names.
HEAVIEST = 10


@dataclass(frozen=True, slots=True)
class Held:
    """One sketch of the topic: its record without the text, its bytes compressed, and where it lies."""

    record: SketchRecord
    packed: bytes
    offset: int

    def sketch(self) -> windows.Sketch:
        return windows.from_text(BY_KIND[self.record.key.kind], zlib.decompress(self.packed).decode("ascii"))


@dataclass(frozen=True, slots=True)
class Late:
    """One late answer and its place in `answers.late`."""

    offset: int
    answer: AnswerEvent


class Levels:
    """What the topics hold, and what is due. `apply` and `apply_late` in the topics' order; a repeat changes nothing."""

    def __init__(self) -> None:
        self.held: dict[SketchKey, Held] = {}
        self.late: dict[str, Late] = {}
        # The first offset of `answers.late` that has not been seen.
        self.late_end = 0
        self.skipped = 0

    def apply(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Fold one record of `sketches.v1` in. One that is not ours, or of another size, is counted in `skipped`."""
        try:
            if value is None:
                self.held.pop(parse_key(key), None)
                return
            record = parse_record(key, value)
            packed = zlib.compress(record.sketch.encode("ascii"), 1)
            self.held[record.key] = Held(replace(record, sketch=""), packed, offset)
        except (BadInput, UnicodeEncodeError) as error:
            self.skipped += 1
            LOG.warning("sketch_skipped offset=%d error=%s", offset, error)

    def apply_late(self, value: bytes | None, offset: int) -> None:
        """Remember one late answer, the first time that it comes."""
        self.late_end = max(self.late_end, offset + 1)
        try:
            answer = decode(value or b"")
        except BadInput as error:
            self.skipped += 1
            LOG.warning("late_answer_skipped offset=%d error=%s", offset, error)
            return
        self.late.setdefault(answer.event_id, Late(offset, answer))
        while len(self.late) > MOST_LATE:
            del self.late[next(iter(self.late))]

    def due(self, now_us: int) -> list[SketchRecord]:
        """The records to write at `now_us`, each the next version of its key; nothing is changed here.

        Raises BadInput(bad_sketch) if bytes that are held are not a sketch: the caller names the record and stops.
        """
        found: list[SketchRecord] = []
        for kind in BY_KIND:
            found += _Pass(self, kind, now_us).run()
        return found

    def expired(self, now_us: int, questdb: int, lake: int) -> list[SketchKey]:
        """What is to be deleted: older than its level is kept, in the level above, and below both sinks' positions.

        questdb, lake: the first offset of `sketches.v1` that each may not have.
        """
        return [key for key, held in self.held.items() if self._expired(key, held, now_us, questdb, lake)]

    def _expired(self, key: SketchKey, held: Held, now_us: int, questdb: int, lake: int) -> bool:
        over = now_us - key.window_start_us - KEEP_US[key.level]
        if over <= 0 or held.offset >= questdb or (held.offset >= lake and over < MOST_WAIT_US):
            return False
        return key.level == "day" or self.is_above(key) or over > KEEP_US["day"]

    def is_above(self, key: SketchKey) -> bool:
        """Whether the next level, or, where that is gone, the day, has taken this window in."""
        level = _above(key.level)
        if level is None:
            return False
        above = SketchKey(key.kind, level, window_start_us(level, key.window_start_us))
        if above in self.held:
            return key.window_start_us in self.held[above].record.parts
        return self.is_above(above)


def _above(level: str) -> str | None:
    return next((upper for upper, lower in BELOW.items() if lower == level), None)


class _Work:
    """One window being made anew: what is there, and what goes in."""

    def __init__(self, key: SketchKey, held: Held | None) -> None:
        self.key = key
        self.dimension = BY_KIND[key.kind]
        self._held = held
        self.record = held.record if held else SketchRecord(key, 0, "")
        self._parts: list[windows.Sketch] = []
        self._late: list[AnswerEvent] = []

    def take(self, part: SketchRecord, sketch: windows.Sketch, *, as_part: bool) -> None:
        """Add a window from below; as_part: name it, where it is of the level just below."""
        parts = (*self.record.parts, part.key.window_start_us) if as_part else self.record.parts
        self.record = replace(
            self.record,
            answers=self.record.answers + part.answers,
            late=self.record.late + part.late,
            heaviest=(*self.record.heaviest, *part.heaviest),
            parts=tuple(sorted(parts)),
        )
        self._parts.append(sketch)

    def take_late(self, answers: Iterable[AnswerEvent]) -> None:
        self._late += answers

    def made(self) -> windows.Sketch:
        """Everything in one sketch."""
        there = [self._held.sketch()] if self._held else []
        sketch = windows.merged(self.dimension, there + self._parts)
        windows.add(self.dimension, sketch, self._late)
        return sketch

    def finished(self, sketch: windows.Sketch, late_end: int) -> SketchRecord:
        """The record of `made`; late answers before `late_end` are in."""
        count = len(self._late)
        return replace(
            self.record,
            answers=self.record.answers + count,
            late=self.record.late + count,
            late_through=late_end,
            heaviest=self._heaviest(sketch),
            sketch=windows.as_text(sketch),
        )

    def _heaviest(self, sketch: windows.Sketch) -> tuple[str, ...]:
        """The heaviest of the keys that its parts named: a Count-Min cannot list its own."""
        if not isinstance(sketch, CountMin):
            return ()
        subject = self.dimension.subject
        counts = {key: sketch.estimate(subject, key).value for key in self.record.heaviest}
        return tuple(sorted(counts, key=lambda key: (-counts[key], key))[:HEAVIEST])


class _Pass:
    """One kind's work. Steps: 1 late answers, 2 minutes into hours (and into a day that has the hour), 3 hours into days."""

    def __init__(self, levels: Levels, kind: str, now_us: int) -> None:
        self._levels = levels
        self._kind = kind
        self._now_us = now_us
        self._work: dict[SketchKey, _Work] = {}
        self._made: dict[SketchKey, windows.Sketch] = {}

    def run(self) -> list[SketchRecord]:
        self._late()
        self._merge("hour")
        self._merge("day")
        end = self._levels.late_end
        return [work.finished(self._sketch(key), end) for key, work in self._work.items()]

    def _of(self, level: str, instant_us: int) -> SketchKey:
        return SketchKey(self._kind, level, window_start_us(level, instant_us))

    def _open(self, key: SketchKey) -> _Work:
        self._made.pop(key, None)
        if key not in self._work:
            self._work[key] = _Work(key, self._levels.held.get(key))
        return self._work[key]

    def _sketch(self, key: SketchKey) -> windows.Sketch:
        """The window as it is after this pass so far."""
        if key not in self._made:
            self._made[key] = self._work[key].made() if key in self._work else self._levels.held[key].sketch()
        return self._made[key]

    def _late(self) -> None:
        """1. Late answers into what is there; a minute that nothing has is made of them."""
        by_window: dict[SketchKey, list[AnswerEvent]] = defaultdict(list)
        for late in self._levels.late.values():
            for key in self._late_windows(late.answer.occurred_at_us):
                held = self._levels.held.get(key)
                if held is None or late.offset >= held.record.late_through:
                    by_window[key].append(late.answer)
        for key, answers in by_window.items():
            self._open(key).take_late(answers)

    def _late_windows(self, instant_us: int) -> Iterator[SketchKey]:
        """The windows that a late answer belongs into directly; others get it with the window below."""
        held = self._levels.held
        minute, hour, day = (self._of(level, instant_us) for level in LEVELS)
        in_hour = hour in held and minute.window_start_us in held[hour].record.parts
        in_day = day in held and hour.window_start_us in held[day].record.parts
        if minute in held or not (in_hour or (hour not in held and in_day)):
            yield minute
        if in_hour:
            yield hour
        if in_day and (in_hour or hour not in held):
            yield day

    def _merge(self, level: str) -> None:
        """2, 3. Windows of the level below into those of `level` that have ended."""
        below = BELOW[level]
        levels = self._levels
        new: dict[SketchKey, list[SketchKey]] = defaultdict(list)
        there = {*levels.held, *self._work}
        for key in sorted(there, key=lambda one: one.window_start_us):
            if key.kind != self._kind or key.level != below or levels.is_above(key):
                continue
            above = self._of(level, key.window_start_us)
            if above.window_start_us + LEVEL_US[level] + GRACE_US <= self._now_us:
                new[above].append(key)
        for above, parts in new.items():
            for key in parts:
                self._take(above, key)
            day = self._of("day", above.window_start_us)
            held_day = levels.held.get(day)
            if level == "hour" and held_day and above.window_start_us in held_day.record.parts:
                for key in parts:
                    self._take(day, key, as_part=False)

    def _take(self, above: SketchKey, key: SketchKey, *, as_part: bool = True) -> None:
        """Add one below, as it is after this pass so far."""
        sketch, work = self._sketch(key), self._work.get(key)
        record = work.finished(sketch, self._levels.late_end) if work else self._levels.held[key].record
        self._open(above).take(record, sketch, as_part=as_part)
