"""A fixed play of two hours against one expected file: every window of every length, and what grows.

Straight through in one process; in another order; as a history. `test_fixed_play_on_a_cluster` has the same play with
the job stopped and killed. Event time is in the past and the ticker far behind it, so answers alone close windows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from kafka import KafkaProducer

from contracts import events, names
from tests.flink_jobs.cluster import NO_TICKER, local_job
from tests.flink_jobs.model import (
    CLOSED_US,
    EXPECTED,
    SECOND_US,
    closing_answers,
    fixed_answers,
    text_of,
    trending_of,
    windows_of,
)
from tests.flink_jobs.play import NOISE, Topics, expected_sketches, noise, send

pytestmark = pytest.mark.engine
WITHIN_S = 300


def said(topics: Topics) -> tuple[str, object, object]:
    """All that the job has published, late answers apart."""
    return topics.text(), topics.skipped(), topics.sketches()


def test_out_of_order_and_late(bootstrap: str, tmp_path: Path) -> None:
    """Out of order by up to 9 s: the same windows. After all have closed, late ones: set aside, the same windows."""
    random, topics = Random(3), Topics(bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    answers = fixed_answers()
    shuffled = sorted(answers, key=lambda item: item.occurred_at_us + random.randrange(9 * SECOND_US))
    assert shuffled != answers
    for item in shuffled:
        send(producer, item)
    noise(producer, answers[0])
    producer.flush()
    with local_job(bootstrap, tmp_path, NO_TICKER) as job:
        for item in closing_answers():
            send(producer, item)
        producer.flush()
        expected = EXPECTED.read_text("utf-8")
        wanted = (expected, NOISE, expected_sketches(answers, 60 * SECOND_US))
        topics.poll_until(lambda: wanted == said(topics), WITHIN_S, lambda: job.poll() is None)
        assert expected.splitlines() == topics.text().splitlines()
        assert wanted == said(topics)
        assert not topics.rows[names.LATE]
        late = [replace(item, event_id=f"{number:036d}") for number, item in enumerate(answers[:20])]
        for item in late:
            send(producer, item)
        producer.flush()
        topics.poll_until(lambda: len(topics.rows[names.LATE]) == len(late), WITHIN_S)
        rows = [json.dumps(row).encode() for row in topics.rows[names.LATE].values()]
        assert {item.event_id: item for item in late} == {
            item.event_id: item for item in map(events.decode, rows)
        }
        topics.poll_until(lambda: False, 5)
        assert expected == topics.text(), "a late answer changed a closed window"


def test_a_history_in_any_order(bootstrap: str, tmp_path: Path) -> None:
    """A bounded job over a day of imported and live answers: nothing is late, all windows close, and it ends."""
    topics = Topics(bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    answers = [
        replace(item, origin="import") if number % 3 else item for number, item in enumerate(fixed_answers())
    ]
    mixed = [
        *answers,
        *(replace(item, occurred_at_us=CLOSED_US + 86_400 * SECOND_US) for item in answers[:9]),
    ]
    Random(5).shuffle(mixed)
    for item in mixed:
        send(producer, item)
    noise(producer, replace(answers[0], occurred_at_us=0))
    producer.flush()
    with local_job(bootstrap, tmp_path, "--from=2026-03-02", "--to=2026-03-02") as job:
        assert job.wait(WITHIN_S) == 0
    expected = text_of(windows_of(answers, 2**62), trending_of(answers, 2**62))
    topics.poll_until(lambda: topics.text() == expected, 30)
    assert expected.splitlines() == topics.text().splitlines()
    assert not topics.rows[names.LATE] and not topics.skipped()
