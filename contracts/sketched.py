"""What the streams sketch, over which windows, and the record of `sketches.v1` that carries one sketch. Pure.

A record's key is JSON of (kind, level, window_start_us), its value SketchRecord's fields. Flink makes the minutes, the
relay merges hours from minutes and days from hours and takes in late answers; every process replays the topic. A
dimension's size is part of its meaning: sketches of other parameters are not merged, so another size is another kind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.errors import BadInput
from contracts.names import word_of

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
# Level → the length of its windows, which begin at multiples of it (UTC).
LEVEL_US = {"minute": MINUTE_US, "hour": HOUR_US, "day": DAY_US}
LEVELS = tuple(LEVEL_US)
# Level → the level it is merged from.
BELOW = {"hour": "minute", "day": "hour"}
# Level → how long after its window's start the topic keeps a sketch (CONTRACTS E4): at most 120 + 48 + 400 a dimension.
KEEP_US = {"minute": 2 * HOUR_US, "hour": 2 * DAY_US, "day": 400 * DAY_US}

COUNT_MIN, FREQUENT_ITEMS, QUANTILES, DISTINCT = "count_min", "frequent_items", "quantiles", "distinct"
SUBJECTS = ("question", "quiz", "type", "word")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that is sketched.

    kind: its name in records and in the lake. sketch: which class of `sketches`. subject: kind of its keys (a question
    is QUIZ/QUESTION, as quizzes number their own). measure: misses (wrong answers, by subject), elapsed_ms or points (a
    value an answer) or users (who answered). epsilon: of a Count-Min; δ is 0.01.
    """

    kind: str
    sketch: str
    subject: str
    measure: str
    epsilon: float = 0.0


# Of a type there are few: an eightieth of the bytes still tells them apart.
DIMENSIONS: tuple[Dimension, ...] = (
    Dimension("missed_questions", COUNT_MIN, "question", "misses", 0.001),
    Dimension("missed_quizzes", COUNT_MIN, "quiz", "misses", 0.001),
    Dimension("missed_types", COUNT_MIN, "type", "misses", 0.01),
    Dimension("missed_words", COUNT_MIN, "word", "misses", 0.001),
    Dimension("heavy_questions", FREQUENT_ITEMS, "question", "misses"),
    Dimension("heavy_quizzes", FREQUENT_ITEMS, "quiz", "misses"),
    Dimension("heavy_words", FREQUENT_ITEMS, "word", "misses"),
    Dimension("elapsed_ms", QUANTILES, "", "elapsed_ms"),
    Dimension("points", QUANTILES, "", "points"),
    Dimension("participants", DISTINCT, "user", "users"),
)
BY_KIND = {dimension.kind: dimension for dimension in DIMENSIONS}


class Answered(Protocol):
    """What is read of an answer; contracts.events.AnswerEvent is one."""

    @property
    def quiz_id(self) -> str: ...
    @property
    def question_id(self) -> str: ...
    @property
    def question_type(self) -> str: ...
    @property
    def skill_tags(self) -> tuple[str, ...]: ...


def subject_of(answer: Answered, subject: str) -> str | None:
    """The key under which an answer counts, None if it has none (no word). Twin: flink_jobs/top_k.sql."""
    if subject == "question":
        return f"{answer.quiz_id}/{answer.question_id}"
    if subject == "quiz":
        return answer.quiz_id
    if subject == "type":
        return answer.question_type
    assert subject == "word", subject
    return word_of(answer.skill_tags)


def window_start_us(level: str, instant_us: int) -> int:
    """The start of the window of `level` that an instant falls into."""
    return instant_us // LEVEL_US[level] * LEVEL_US[level]


@dataclass(frozen=True, slots=True)
class SketchKey:
    """Which sketch: its dimension, level and window."""

    kind: str
    level: str
    window_start_us: int

    @property
    def window_end_us(self) -> int:
        return self.window_start_us + LEVEL_US[self.level]

    def encode(self) -> bytes:
        """The record's key, byte for byte as Flink writes it: the topic is compacted by these bytes."""
        fields = {"kind": self.kind, "level": self.level, "window_start_us": self.window_start_us}
        return json.dumps(fields, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class SketchRecord:
    """The value of one record.

    answers: counted answers of the window, of which `late` came after it had closed. sketch: base64 of the bytes.
    heaviest: the keys with the most misses, as far as the window's Count-Min has them; a Count-Min cannot list its own.
    late_through: the first offset of `answers.late` whose answers are not in this sketch; what Flink writes has 0.
    parts: starts of the windows of the level below that are in; empty for a minute.
    """

    key: SketchKey
    answers: int
    sketch: str
    heaviest: tuple[str, ...] = ()
    late: int = 0
    late_through: int = 0
    parts: tuple[int, ...] = field(default=())

    def encode(self) -> bytes:
        """The record's value."""
        return json.dumps(
            {
                "kind": self.key.kind,
                "level": self.key.level,
                "window_start_us": self.key.window_start_us,
                "window_end_us": self.key.window_end_us,
                "answers": self.answers,
                "heaviest": list(self.heaviest),
                "sketch": self.sketch,
                "late": self.late,
                "late_through": self.late_through,
                "parts": list(self.parts),
            },
            separators=(",", ":"),
        ).encode()


def parse_key(data: bytes | None) -> SketchKey:
    """Raises BadInput(bad_sketch) for a key that is none of ours."""
    try:
        row = json.loads(data or b"")
        key = SketchKey(str(row["kind"]), str(row["level"]), int(row["window_start_us"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("bad_sketch", f"a record's key cannot be read: {error!r}") from error
    if key.kind not in BY_KIND or key.level not in LEVEL_US:
        raise BadInput("bad_sketch", f"kind {key.kind[:40]!r}, level {key.level[:40]!r} are none of ours")
    return key


def parse_record(key: bytes | None, value: bytes) -> SketchRecord:
    """The record; the sketch's bytes are not looked at. Raises BadInput(bad_sketch)."""
    parsed = parse_key(key)
    try:
        row: dict[str, Any] = json.loads(value)
        return SketchRecord(
            parsed,
            answers=int(row["answers"]),
            sketch=str(row["sketch"]),
            heaviest=tuple(str(one) for one in row.get("heaviest") or ()),
            late=int(row.get("late") or 0),
            late_through=int(row.get("late_through") or 0),
            parts=tuple(int(one) for one in row.get("parts") or ()),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("bad_sketch", f"a record's value cannot be read: {error!r}") from error
