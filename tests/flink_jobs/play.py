"""What the tests of the streams send and expect: answers of short windows, noise, and a slow, obvious model."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from contracts import events, identity, names
from sketches.count_min import CountMin

WINDOW_S = 10
WINDOW_US = WINDOW_S * 1_000_000
# What `noise` sends that the job counts as skipped.
NOISE = {"not_json": 3, "no_answer": 2}


def answer(number: int, occurred_at_us: int, random: Random) -> events.AnswerEvent:
    user, question, correct = random.randrange(14), random.randrange(25), random.random() < 0.6
    session, user_id, question_id = f"s{number}", f"User{user}", f"{question}"
    return events.AnswerEvent(
        event_id=identity.event_id(session, question_id, user_id),
        origin="live",
        occurred_at_us=occurred_at_us,
        user_id=user_id,
        user_no=user,
        session_id=session,
        session_started_at_us=occurred_at_us,
        session_tick_ms=10,
        quiz_id=f"quiz{user % 12}",
        quiz_zone="UTC",
        quiz_version=1,
        question_id=question_id,
        question_type="choice",
        skill_tags=("a", "b"),
        choice=None,
        correct=correct,
        elapsed_ms=10,
        time_limit_ms=20_000,
        rule="speed@1",
        points=500 + random.randrange(3) if correct else 0,
    )


def expected_top(kind: str, answers: list[events.AnswerEvent]) -> dict[tuple[int, int], dict[str, Any]]:
    """(window start, place) → row."""
    windows: dict[int, list[events.AnswerEvent]] = defaultdict(list)
    for item in answers:
        windows[item.occurred_at_us // WINDOW_US * WINDOW_US].append(item)
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for start, items in windows.items():
        subjects: dict[str, list[int | None]] = {}
        for item in items:
            subject = item.quiz_id if kind == "quizzes" else item.user_id
            total = subjects.setdefault(subject, [0, None])
            total[0] = (total[0] or 0) + (1 if kind == "quizzes" else item.points)
            if kind == "users" and item.points:
                total[1] = max(total[1] or 0, item.occurred_at_us // 1_000_000 * 1_000_000)
        order = sorted(subjects, reverse=True)
        order.sort(key=lambda subject: (-(subjects[subject][0] or 0), subjects[subject][1] or 0))
        for place, subject in enumerate(order[:10], 1):
            rows[start, place] = {
                "kind": kind,
                "window_start_us": start,
                "place": place,
                "window_end_us": start + WINDOW_US,
                "subject_id": subject,
                "amount": subjects[subject][0],
                "reached_at_us": subjects[subject][1],
            }
    return rows


def expected_sketches(answers: list[events.AnswerEvent]) -> dict[int, bytes]:
    """Window start → bytes: counters do not depend on the order of counting."""
    windows: dict[int, CountMin] = {}
    for item in answers:
        sketch = windows.setdefault(item.occurred_at_us // WINDOW_US * WINDOW_US, CountMin.from_error())
        sketch.update("question", item.question_id, 0 if item.correct else 1)
    return {start: sketch.to_bytes() for start, sketch in windows.items()}


class Topics:
    """What the job has published so far, newest value of each key."""

    def __init__(self, bootstrap: str) -> None:
        self.consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        topics = (names.TOPK, names.SKETCHES, names.LATE)
        partitions = [TopicPartition(topic, 0) for topic in topics]
        self.consumer.assign(partitions)
        self.consumer.seek_to_beginning(*partitions)
        self.rows: dict[str, dict[bytes, Any]] = {topic: {} for topic in topics}

    def poll_until(
        self, done: Callable[[], bool], seconds: float, alive: Callable[[], bool] = lambda: True
    ) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline and alive():
            for records in self.consumer.poll(timeout_ms=500).values():
                for record in records:
                    self.rows[record.topic][record.key] = json.loads(record.value)

    def top(self, kind: str) -> dict[tuple[int, int], dict[str, Any]]:
        rows = (row for row in self.rows[names.TOPK].values() if row["kind"] == kind)
        return {(row["window_start_us"], row["place"]): row for row in rows}

    def skipped(self) -> Counter[str]:
        """Reason → records skipped, over all days."""
        rows = self.top("health").values()
        total: Counter[str] = Counter()
        for row in rows:
            total[row["subject_id"]] += row["amount"]
        return total

    def sketches(self) -> dict[int, bytes]:
        rows = self.rows[names.SKETCHES].values()
        return {row["window_start_us"]: base64.b64decode(row["sketch"]) for row in rows}


def send(producer: KafkaProducer, item: events.AnswerEvent) -> None:
    partition = identity.answers_partition(item.user_id, 12)
    producer.send(names.ANSWERS, key=item.user_id.encode(), value=events.encode(item), partition=partition)


def noise(producer: KafkaProducer, item: events.AnswerEvent) -> None:
    """Records that no window may count, one of each kind, where `item` goes."""
    partition = identity.answers_partition(item.user_id, 12)
    barrier = events.BarrierEvent(identity.barrier_id("UTC", "2026-01-01", 0), "UTC", "2026-01-01", 0, 1)
    producer.send(
        names.ANSWERS, value=events.encode_barrier(barrier), partition=0, headers=[("type", b"barrier.v1")]
    )
    for value in (
        b"\xff not json",
        b"[]",
        b"",
        json.dumps({"origin": "live", "user_id": item.user_id}).encode(),
        events.encode(item).replace(b'"points":', b'"points":"many","was":'),
    ):
        producer.send(names.ANSWERS, value=value, partition=partition)
    past = replace(item, origin="import", occurred_at_us=1_500_000_000_000_000, points=2**31 - 1)
    producer.send(names.ANSWERS, value=events.encode(past), partition=partition)
    producer.send(names.ANSWERS, value=events.encode(replace(item, origin="import")), partition=partition)


def counts(topics: Topics) -> Counter[int]:
    return Counter({row["window_start_us"]: row["answers"] for row in topics.rows[names.SKETCHES].values()})


def counts_of(answers: list[events.AnswerEvent]) -> Counter[int]:
    return Counter(item.occurred_at_us // WINDOW_US * WINDOW_US for item in answers)
