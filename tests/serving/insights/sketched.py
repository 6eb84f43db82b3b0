"""Play as the streams would sketch it, and the slow, obvious way to count it: for tests of replicas and their routes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from contracts.sketched import BY_KIND, MINUTE_US, SketchKey, SketchRecord, subject_of, window_start_us
from serving.relay.sketch_levels import Levels
from sketches import windows

FAR = 2**60


@dataclass(frozen=True)
class Answer:
    """What a sketch sees of an answer."""

    occurred_at_us: int
    quiz_id: str
    question_id: str
    question_type: str
    skill_tags: tuple[str, ...]
    correct: bool
    elapsed_ms: int
    user_id: str

    @property
    def points(self) -> int:
        return 1_000 - self.elapsed_ms // 40 if self.correct else 0


def play(seed: int, start_us: int, minutes: Iterable[int], each: int = 6) -> list[Answer]:
    """Some answers in each of the minutes after `start_us`."""
    random = Random(seed)
    return [
        Answer(
            start_us + minute * MINUTE_US + random.randrange(MINUTE_US),
            f"z{random.randrange(3)}",
            str(random.randrange(20)),
            random.choice(["choice", "typed"]),
            random.choice([("word:run",), ("verbs", "word:go"), ("word:ice-cream",), ()]),
            random.random() < 0.5,
            random.randrange(20_000),
            f"u{random.randrange(200)}",
        )
        for minute in minutes
        for _ in range(each)
    ]


def inside(answers: list[Answer], start_us: int, end_us: int) -> list[Answer]:
    return [one for one in answers if start_us <= one.occurred_at_us < end_us]


def quantile(values: list[int], rank: float) -> int:
    """The smallest value that a share `rank` is at most."""
    return sorted(values)[max(0, math.ceil(rank * len(values)) - 1)]


def minutes_of(answers: list[Answer], kinds: Iterable[str] = BY_KIND) -> list[SketchRecord]:
    """The records that Flink writes, in order of time."""
    by_minute: dict[int, list[Answer]] = defaultdict(list)
    for one in answers:
        by_minute[window_start_us("minute", one.occurred_at_us)].append(one)
    found = []
    for start in sorted(by_minute):
        for kind in kinds:
            sketch = windows.empty(BY_KIND[kind])
            windows.add(BY_KIND[kind], sketch, by_minute[start])
            found.append(
                SketchRecord(SketchKey(kind, "minute", start), len(by_minute[start]), windows.as_text(sketch))
            )
    return found


def topic_of(
    answers: list[Answer], now_us: int, kinds: Iterable[str] = BY_KIND
) -> list[tuple[bytes, bytes | None]]:
    """(key, value) of `sketches.v1` after Flink wrote the minutes and the relay merged and deleted at `now_us`."""
    log: list[tuple[bytes, bytes | None]] = [
        (record.key.encode(), record.encode()) for record in minutes_of(answers, kinds)
    ]
    levels = Levels()
    for offset, record in enumerate(log):
        levels.apply(*record, offset)
    due = [(record.key.encode(), record.encode()) for record in levels.due(now_us)]
    for offset, record in enumerate(due, len(log)):
        levels.apply(*record, offset)
    return log + due + [(key.encode(), None) for key in levels.expired(now_us, FAR, FAR)]


def misses(answers: list[Answer], kind: str) -> Counter[str]:
    """How often each key of a kind was missed."""
    dimension = BY_KIND[kind]
    found = Counter(subject_of(one, dimension.subject) or "" for one in answers if not one.correct)
    found.pop("", None)
    return found
