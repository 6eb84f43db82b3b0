"""The streams' SQL with its parameters filled in: live, or over a history that ends. Pure; no Flink is needed.

A job is one statement set, so that all of it shares one source: reading and parsing an answer is most of its cost.
Live takes live answers as they come; a history (a backfill) takes all answers of [from, to), imported ones too, by
the same SQL, with a watermark that moves only when the topic has been read to its end: then nothing is late in
whatever order it lies there, at the price of keeping all windows until then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from string import Template

from contracts import names
from contracts.events import ANSWER_FIELDS, BARRIER_TYPE, flink_columns
from contracts.periods import span
from contracts.sketched import DIMENSIONS

FOLDER = Path(__file__).resolve().parent
# In the order in which they build on each other. Counting what is skipped is for live play alone: a history's counts
# would overwrite it.
LIVE_FILES = ("answers.sql", "health.sql", "top_k.sql", "trending.sql", "sketches.sql")
HISTORY_FILES = ("answers.sql", "top_k.sql", "trending.sql", "sketches.sql")
# Nothing else reads what these make.
OPTIONAL_FILES = ("health.sql", "trending.sql", "sketches.sql")
# A row may be this much older than the newest of its partition before it counts as late: covers the relay's lag and
# two shards writing to one partition. Lower sends more to answers.late; higher delays every window by as much.
OUT_OF_ORDER_S = 10
# Behind the wall clock by more than OUT_OF_ORDER_S, or the clock would outrun answers that are on their way.
TICKER_BEHIND_S = 15
# A hundred years: a watermark that no answer moves.
NEVER = "INTERVAL '99' YEAR"
# Slide of the ten minutes, in minutes: every key of ten minutes is read again at each slide, once a minute of it.
TEN_SLIDE = 2
# The past that trending compares with, in tens of minutes.
PAST_TENS = 6
# Fewer plays in ten minutes say nothing; a class has more.
LEAST_PLAYS = 10
# Three standard deviations; what is lower is chance too often.
LEAST_SCORE = 3
# Of subjects, for the first of two rankings: more even the load further, and send more rows to the second.
BUCKETS = 16


@dataclass(frozen=True, slots=True)
class Wall:
    """A view as a DataStream and back: a wall that the planner moves nothing across. `time`: of the rows of `name`."""

    name: str
    time: str
    # A sum's part in the task where rows arise, before its exchange: where few keys may get most rows. Where keys
    # are spread already, it copies each row and merges none, and its buffer is memory that the sum lacks.
    two_stages: bool = True


WALLS = {
    "timed": Wall("merged", "event_time"),
    "minute_players_summed": Wall("minute_players", "part_time", two_stages=False),
    "minute_questions_summed": Wall("minute_questions", "part_time"),
    "minute_values_summed": Wall("minute_values", "part_time"),
    "minutes_summed": Wall("minutes", "minute_time"),
    "tens_summed": Wall("tens", "ten_time", two_stages=False),
    "hours_summed": Wall("hours", "hour_time", two_stages=False),
    "days_summed": Wall("days", "day_time", two_stages=False),
}
_ONE_ROW = "\n  'number-of-rows' = '1',"
_EPOCH_S = "CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', {}) AS BIGINT)"
_END_S = "(" + _EPOCH_S.format("CAST({} AS TIMESTAMP(3))") + " + 1)"


@dataclass(frozen=True, slots=True)
class Topics:
    """Where a job reads and writes."""

    answers: str = names.ANSWERS
    late: str = names.LATE
    topk: str = names.TOPK
    topk_quizzes: str = names.TOPK_QUIZZES
    trending: str = names.TRENDING
    sketches: str = names.SKETCHES


@dataclass(frozen=True, slots=True)
class History:
    """UTC days, both inclusive: what a backfill takes by `occurred_at`."""

    first: date
    last: date

    @property
    def bounds_us(self) -> tuple[int, int]:
        """[from, to) in UTC µs."""
        return span("daily", self.first, "UTC").start_us, span("daily", self.last, "UTC").end_us


def parameters(
    bootstrap: str,
    group: str,
    window_s: int = 60,
    ticker: bool = True,
    history: History | None = None,
    topics: Topics = Topics(),
) -> dict[str, str]:
    """What the files' `$` names stand for. window_s: the smallest window; the others are multiples of it.
    ticker: whether the clock closes windows when play has stopped.
    """
    types = [line.strip().split(" ", 1)[1] for line in flink_columns().split(",\n")]
    values = {
        "bootstrap": bootstrap,
        "group": group,
        "answers": topics.answers,
        "late": topics.late,
        "topk": topics.topk,
        "topk_quizzes": topics.topk_quizzes,
        "trending": topics.trending,
        "sketches": topics.sketches,
        "answer_columns": flink_columns(),
        "answer_names": ", ".join(f"`{field.name}`" for field in ANSWER_FIELDS),
        "ticker_nulls": ", ".join(f"CAST(NULL AS {kind})" for kind in types),
        "window_s": window_s,
        "ten_s": 10 * window_s,
        "window": interval(window_s),
        "ten": interval(10 * window_s),
        "ten_slide": interval(TEN_SLIDE * window_s),
        "hour": interval(60 * window_s),
        "day": interval(86_400),
        "past": interval(PAST_TENS * 10 * window_s),
        "least_plays": LEAST_PLAYS,
        "least_score": LEAST_SCORE,
        "buckets": BUCKETS,
        "window_start_us": _EPOCH_S.format("window_start") + " * 1000000",
        "window_end_us": _EPOCH_S.format("window_end") + " * 1000000",
        # A window's time is 1 ms before its end. TIMESTAMPDIFF wants both of one kind; the session's zone is UTC.
        "end_s": _END_S.format("ten_time"),
        "minute_end_us": _END_S.format("minute_time") + " * 1000000",
        "ten_end_us": _END_S.format("ten_time") + " * 1000000",
        "day_us": _EPOCH_S.format("CAST(appended_at AS TIMESTAMP(3))") + " / 86400 * 86400000000",
        "kinds_by_subject": _kinds_by_subject(),
        "header_type": names.HEADER_TYPE,
        "barrier_type": BARRIER_TYPE,
        **(_over(history) if history else _live(ticker)),
    }
    return {name: str(value) for name, value in values.items()}


# What top_k.sql ranks → subject of contracts/sketched.py.
SUBJECTS = {"questions": "question", "quizzes": "quiz", "types": "type", "words": "word", "users": "user"}


def _kinds_by_subject() -> str:
    """SQL: an array of the kinds of sketches that the counts of `subject` make."""
    cases = []
    for ranked, subject in SUBJECTS.items():
        kinds = [one.kind for one in DIMENSIONS if one.subject == subject]
        # Not literals as they are: those of the shortest length would cut the others.
        array = ", ".join(f"CAST('{kind}' AS STRING)" for kind in kinds)
        cases.append(f"WHEN '{ranked}' THEN ARRAY[{array}]")
    return f"CASE subject {' '.join(cases)} END"


def interval(seconds: int) -> str:
    """A span of time in SQL, in the largest unit that divides it: Flink takes at most three digits."""
    for unit, size in (("DAY", 86_400), ("HOUR", 3_600), ("MINUTE", 60), ("SECOND", 1)):
        if seconds % size == 0 and seconds:
            return f"INTERVAL '{seconds // size}' {unit}(3)"
    raise AssertionError(f"no span: {seconds} s")


def _live(ticker: bool) -> dict[str, str]:
    return {
        "event_time": "origin = 'live'",
        "chosen": "(origin IS NULL OR origin <> 'import')",
        "bounds": "",
        # One row and its end: a source that has ended holds no watermark back.
        "ticker_rows": "" if ticker else _ONE_ROW,
        "out_of_order": interval(OUT_OF_ORDER_S),
        "ticker_behind": interval(TICKER_BEHIND_S),
    }


def _over(history: History) -> dict[str, str]:
    start_us, end_us = history.bounds_us
    return {
        "event_time": "(origin = 'live' OR origin = 'import')",
        "chosen": f"occurred_at_us >= {start_us} AND occurred_at_us < {end_us}",
        "bounds": "\n  'scan.bounded.mode' = 'latest-offset',",
        "ticker_rows": _ONE_ROW,
        "out_of_order": NEVER,
        "ticker_behind": NEVER,
    }


def statements(values: dict[str, str], files: tuple[str, ...] = LIVE_FILES) -> list[str]:
    """The statements of the files with their parameters filled in, in order, without comments."""
    found: list[str] = []
    for file in files:
        text = Template((FOLDER / file).read_text("utf-8")).substitute(values)
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
        parts = re.split(r";\s*$", "\n".join(lines), flags=re.MULTILINE)
        found += [part.strip() for part in parts if part.strip()]
    return found
