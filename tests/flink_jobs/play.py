"""What the tests of the streams send and expect: answers of short windows, noise, and a slow, obvious model."""

from __future__ import annotations

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
from contracts.sketched import BY_KIND, DIMENSIONS, parse_record
from sketches import windows
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.frequent_items import FrequentItems
from tests.flink_jobs.model import Trending, Windows, text_of, windows_of

WINDOW_S = 10
WINDOW_US = WINDOW_S * 1_000_000
# What `noise` sends that the job counts as skipped.
NOISE = {"not_json": 4, "no_answer": 2}


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
        skill_tags=_tags(question),
        choice=None,
        correct=correct,
        elapsed_ms=10,
        time_limit_ms=20_000,
        rule="speed@1",
        points=500 + random.randrange(3) if correct else 0,
    )


def _tags(question: int) -> tuple[str, ...]:
    """The word in every place that the SQL reads on its own, behind a tag that is none, and nowhere."""
    word = f"word:w{question % 7}"
    places = [(word,), ("a", word), ("word:", "b", word), ("a", "b", "c", word, "word:other"), ("a", "b"), ()]
    return places[question % len(places)]


def minutes_of(windows: Windows) -> Windows:
    """Those of the smallest length."""
    return {key: rows for key, rows in windows.items() if key[2] == "minute"}


def expected_minutes(answers: list[events.AnswerEvent]) -> Windows:
    """The top 10s of every smallest window."""
    return minutes_of(windows_of(answers, 2**62, WINDOW_S))


def says(sketch: windows.Sketch, subject: str) -> object:
    """All that a small sketch tells whatever the order was: its bytes, where they do not depend on it; else figures."""
    if isinstance(sketch, CountMin):
        return sketch.to_bytes()
    if isinstance(sketch, FrequentItems):
        return sketch.heaviest(subject, 99)
    if isinstance(sketch, Distinct):
        return sketch.estimate()
    # Below the greatest value coins decide, once there are more than some sixty.
    greatest = sketch.quantile(1.0)
    return sketch.count, greatest and greatest.value


def expected_sketches(
    answers: list[events.AnswerEvent], window_us: int = WINDOW_US
) -> dict[tuple[str, int], object]:
    """(dimension, window start) → what it says; none where no answer of the window has the dimension's subject."""
    minutes: dict[int, list[events.AnswerEvent]] = defaultdict(list)
    for item in answers:
        minutes[item.occurred_at_us // window_us * window_us].append(item)
    found: dict[tuple[str, int], object] = {}
    for start, items in minutes.items():
        for dimension in DIMENSIONS:
            if dimension.subject != "word" or any(names.word_of(item.skill_tags) for item in items):
                sketch = windows.empty(dimension)
                windows.add(dimension, sketch, items)
                found[dimension.kind, start] = says(sketch, dimension.subject)
    return found


class Topics:
    """What the job has published so far, newest value of each key."""

    def __init__(self, bootstrap: str) -> None:
        self.consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        topics = (names.TOPK, names.TOPK_QUIZZES, names.TRENDING, names.SKETCHES, names.LATE)
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

    def windows(self) -> Windows:
        """Every top 10 so far."""
        places: dict[tuple[str, str, str, int], dict[int, dict[str, Any]]] = defaultdict(dict)
        for topic, of_quizzes in ((names.TOPK, False), (names.TOPK_QUIZZES, True)):
            for row in self.rows[topic].values():
                assert of_quizzes == row["scope"].startswith("quiz:")
                if row["kind"] != "health":
                    key = (row["kind"], row["scope"], row["level"], row["window_start_us"])
                    places[key][row["place"]] = row
        found: Windows = {}
        for key, rows in places.items():
            ordered = [rows[place] for place in sorted(rows)]
            assert [*range(1, len(rows) + 1)] == sorted(rows), key
            top = [(row["subject_id"], row["amount"], row["reached_at_us"]) for row in ordered]
            found[key] = (max(row["window_end_us"] for row in ordered), top)
        return found

    def trending(self) -> Trending:
        """Every list of what grows so far."""
        found: Trending = {}
        for row in sorted(self.rows[names.TRENDING].values(), key=lambda row: row["place"]):
            shown = (row["subject_id"], row["plays"], row["expected"], row["score"])
            found.setdefault((row["kind"], row["window_start_us"]), []).append(shown)
        return found

    def text(self) -> str:
        """All of it, as the expected file has it."""
        return text_of(self.windows(), self.trending())

    def skipped(self) -> Counter[str]:
        """Reason → records skipped, over all days."""
        total: Counter[str] = Counter()
        for row in self.rows[names.TOPK].values():
            if row["kind"] == "health":
                total[row["subject_id"]] += row["amount"]
        return total

    def sketches(self) -> dict[tuple[str, int], object]:
        """(dimension, window start) → what it says."""
        found = {}
        for key, row in self.rows[names.SKETCHES].items():
            record = parse_record(key, json.dumps(row).encode())
            assert record.key.encode() == key, "the topic is compacted by other bytes than the relay's"
            dimension = BY_KIND[record.key.kind]
            sketch = windows.from_text(dimension, record.sketch)
            found[record.key.kind, record.key.window_start_us] = says(sketch, dimension.subject)
        return found


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
        events.encode(item).replace(b'"choice":null', b'"choice":"\xff"'),
    ):
        producer.send(names.ANSWERS, value=value, partition=partition)
    past = replace(item, origin="import", occurred_at_us=1_500_000_000_000_000, points=2**31 - 1)
    producer.send(names.ANSWERS, value=events.encode(past), partition=partition)
    producer.send(names.ANSWERS, value=events.encode(replace(item, origin="import")), partition=partition)


def counts(topics: Topics) -> Counter[int]:
    """Window start → answers, as the sketches say."""
    rows = (row for row in topics.rows[names.SKETCHES].values() if row["kind"] == "missed_questions")
    return Counter({row["window_start_us"]: row["answers"] for row in rows})


def counts_of(answers: list[events.AnswerEvent]) -> Counter[int]:
    return Counter(item.occurred_at_us // WINDOW_US * WINDOW_US for item in answers)
