"""A QuestDB with half an hour of play and of the pipeline's figures, written as the relay writes them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sin
from pathlib import Path
from typing import Any

import httpx

from contracts import names
from serving.quizzes.starter import starter_quizzes
from serving.relay import pipeline_health
from serving.relay.pipeline_health import Reading, as_stored
from serving.relay.questdb import Questdb
from serving.relay.window_rows import Row, rows_of
from sketches.count_min import CountMin
from tests.services.daemons import QuestdbDaemon, start_questdb

MINUTE_US = 60_000_000
MINUTES = 30
QUIZZES = ["starter-a1", "starter-a2", "starter-b1", "starter-b2", "starter-c1"]
USERS = [f"u_{number}" for number in range(12)]


@dataclass(frozen=True)
class _Record:
    topic: str
    value: bytes


def plays(quiz: int, minute: int) -> int:
    """Answers of a quiz in a minute: the last quiz comes up in the last minutes, the first is steady."""
    if quiz == len(QUIZZES) - 1:
        return 3 * max(0, minute - 18) ** 2 + 1
    return int(60 - 9 * quiz + 20 * sin(minute / (3 + quiz)))


def misses(question: int, minute: int) -> int:
    return 40 - 3 * question + minute % 4


def questions() -> list[str]:
    """The first ten of the first starter quiz, as streams name them: QUIZ/QUESTION."""
    quiz = next(one for one in starter_quizzes() if one.quiz_id == QUIZZES[0])
    return [f"{quiz.quiz_id}/{question.question_id}" for question in quiz.draft.questions][:10]


def window(start_us: int, minute: int) -> list[_Record]:
    """The records of one window, as the streams job writes them."""
    end = {"window_end_us": start_us + MINUTE_US}

    def top(kind: str, amounts: dict[str, int]) -> Iterator[_Record]:
        ranked = sorted(amounts.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
        for place, (subject, amount) in enumerate(ranked, 1):
            reached = start_us + 1_000_000 * place if kind == "users" else None
            key = {
                "kind": kind,
                "scope": "global",
                "level": "minute",
                "window_start_us": start_us,
                "place": place,
            }
            value = {**key, **end, "subject_id": subject, "amount": amount, "reached_at_us": reached}
            yield _Record(names.TOPK, json.dumps(value).encode())

    sketch = CountMin.from_error()
    asked = questions()
    for number, question in enumerate(asked):
        sketch.update("question", question, misses(number, minute))
    text = base64.b64encode(sketch.to_bytes()).decode()
    value = {
        "kind": "missed_questions",
        "level": "minute",
        "window_start_us": start_us,
        **end,
        "answers": sum(plays(quiz, minute) for quiz in range(len(QUIZZES))) + sketch.total,
        "heaviest": asked,
        "sketch": text,
    }
    quizzes = {quiz: plays(number, minute) for number, quiz in enumerate(QUIZZES)}
    users = {user: 900 * (number + 1) + 37 * minute for number, user in enumerate(USERS)}
    return [
        *top("quizzes", quizzes),
        *top("users", users),
        _Record(names.SKETCHES, json.dumps(value).encode()),
    ]


def health(at_s: int, step: int, streams_running: bool) -> list[Row]:
    """What the relay sees in one look."""
    job = names.STREAMS_JOB
    readings = [
        *(
            Reading("relay_lag_seconds", f"{shard}/{sink}", 0.2 + shard + 0.1 * (step % 7) + 0.2 * place)
            for shard in (0, 1)
            for place, sink in enumerate(("history", "global_boards", "kafka"))
        ),
        *(Reading("outbox_entries", str(shard), 100 + 7 * (step % 11)) for shard in (0, 1)),
        *(Reading("valkey_memory_bytes", str(shard), 4e7 + 1e5 * step) for shard in (0, 1)),
        *(Reading("valkey_memory_most_bytes", str(shard), 1e9) for shard in (0, 1)),
        Reading("consumer_lag_records", job, 24),
        Reading("consumer_lag_records", "lakeboard-to-questdb", 3 + step % 5),
        Reading("settlement_timestamp_seconds", "postgres", at_s - 4_000 - 10 * step),
        Reading("streams_running", job, int(streams_running)),
    ]
    if streams_running:
        readings += [
            Reading("streams_checkpoint_timestamp_seconds", job, at_s - 5 - 10 * (step % 3)),
            Reading("streams_watermark_timestamp_seconds", job, at_s - 31),
        ]
    return [
        Row(
            pipeline_health.TABLE,
            at_s * 1_000_000,
            {"measure": reading.measure, "source": reading.source, "value": float(reading.value)},
        )
        for reading in as_stored(readings, at_s)
    ]


def fill(url: str, minutes: int = MINUTES, streams_running: bool = True, ended_s: float = 0) -> int:
    """Writes and waits until the rows show; the start of the newest window (UTC µs). ended_s: how long ago it ended."""
    questdb = Questdb(url)
    questdb.make_tables()
    newest_us = (int(time.time() - ended_s) // 60 - 1) * MINUTE_US
    for minute in range(minutes):
        start_us = newest_us - (minutes - 1 - minute) * MINUTE_US
        rows, skipped = rows_of(window(start_us, minute))
        assert skipped == 0
        questdb.write(rows)
    now_s = int(time.time()) // 10 * 10
    looks = minutes * 6
    questdb.write(
        [
            row
            for step in range(looks)
            for row in health(now_s - 10 * (looks - 1 - step), step, streams_running)
        ]
    )
    questdb.close()
    wanted: dict[str, Any] = {"top_k": minutes * 15, "missed_questions": minutes * 10}
    deadline = time.monotonic() + 60
    while any(_count(url, table) < count for table, count in wanted.items()) or not _count(
        url, pipeline_health.TABLE
    ):
        assert time.monotonic() < deadline, "QuestDB does not show the rows"
        time.sleep(0.2)
    return newest_us


def _count(url: str, table: str) -> int:
    reply = httpx.get(f"{url}/exec", params={"query": f"select count() from {table}"}).json()
    return int(reply["dataset"][0][0])


@contextmanager
def filled_questdb(folder: Path, **how: Any) -> Iterator[tuple[QuestdbDaemon, int]]:
    """A QuestDB of one's own with play in it, and the start of the newest window."""
    daemon = start_questdb(folder)
    try:
        yield daemon, fill(daemon.url, **how)
    finally:
        daemon.stop()
