"""The Flink job against a real Kafka, with windows of 10 s: what it publishes is what a slow, obvious model says.

Live answers in three windows, with imports, a barrier and records no schema fits between them, on a few of the 12
partitions; then play stops, so that the last window closes only by the wall clock; then one late answer comes.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from random import Random

import pytest
from kafka import KafkaProducer

from contracts import events, names
from tests.flink_jobs.cluster import local_job
from tests.flink_jobs.play import (
    NOISE,
    WINDOW_S,
    WINDOW_US,
    Topics,
    answer,
    counts,
    counts_of,
    expected_minutes,
    expected_sketches,
    minutes_of,
    noise,
    send,
)

pytestmark = pytest.mark.engine

# Window + the ticker's distance + idle timeout (flink_jobs/submit.py), and slack for a busy machine.
LAST_WINDOW_WITHIN_S = WINDOW_S + 15 + 30 + 30


@pytest.fixture
def job(bootstrap: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with local_job(bootstrap, tmp_path, f"--window-s={WINDOW_S}") as process:
        yield process


def test_windows_late_rows_and_the_end_of_play(bootstrap: str, job: subprocess.Popen[bytes]) -> None:
    random, topics = Random(20), Topics(bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    first = (time.time_ns() // 1000 // WINDOW_US - 6) * WINDOW_US
    # Within a window any order; edges of windows included.
    times = [first + random.randrange(3 * WINDOW_US) for _ in range(400)]
    times += [first, first + WINDOW_US - 1, first + WINDOW_US, first + 3 * WINDOW_US - 1]
    times.sort(key=lambda at: at // WINDOW_US)
    answers = [answer(number, at, random) for number, at in enumerate(times)]
    for number, item in enumerate(answers):
        send(producer, item)
        if number % 100 == 0:
            noise(producer, item)
    skipped = {reason: count * ceil(len(answers) / 100) for reason, count in NOISE.items()}
    producer.flush()
    wanted = expected_minutes(answers)
    sketches = expected_sketches(answers)

    def all_there() -> bool:
        return minutes_of(topics.windows()) == wanted and topics.sketches() == sketches

    topics.poll_until(all_there, 180, lambda: job.poll() is None)
    assert wanted == minutes_of(topics.windows())
    assert sketches == topics.sketches()
    assert not topics.rows[names.LATE]
    assert skipped == topics.skipped()

    late = answer(9_000, first + 5, random)
    fresh = replace(answer(9_001, time.time_ns() // 1000, random), user_id="User3")
    sent_at = time.monotonic()
    send(producer, late)
    send(producer, fresh)
    producer.flush()
    start = fresh.occurred_at_us // WINDOW_US * WINDOW_US
    topics.poll_until(
        lambda: ("participants", start) in topics.sketches() and bool(topics.rows[names.LATE]),
        90,
        lambda: job.poll() is None,
    )
    assert ("participants", start) in topics.sketches(), "the last window did not close after play stopped"
    took_s = time.monotonic() - sent_at
    assert took_s < LAST_WINDOW_WITHIN_S
    print(f"last window closed {took_s:.1f} s after its answer")
    rows = [json.dumps(row) for row in topics.rows[names.LATE].values()]
    assert [events.decode(row.encode()) for row in rows] == [late]
    # The sketches of a window come from several tasks.
    sketches |= expected_sketches([fresh])
    topics.poll_until(lambda: sketches == topics.sketches(), 30)
    assert sketches == topics.sketches(), "a late row changed a closed window"
    assert counts(topics) == Counter({first: 0, start: 1}) | counts_of(answers)
