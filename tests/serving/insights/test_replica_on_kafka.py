"""Sketches on a real broker: the relay's loop merges and deletes, replicas follow over HTTP, and a second loop is fenced."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from contracts import events, names
from contracts.errors import LakeboardError
from contracts.sketched import BY_KIND, DAY_US, HOUR_US, MINUTE_US, SketchKey, parse_record
from serving.insights.replica import SketchReplica
from serving.insights.routes import iso
from serving.migrations.upgrade import upgrade
from serving.relay.sketch_levels import GRACE_US
from serving.relay.sketch_loop import SketchLoop
from tests.services.daemons import Daemon, start_kafka
from tests.serving.api_process import ApiProcess
from tests.serving.insights.sketched import FAR, Answer, inside, minutes_of, misses, play, topic_of
from tests.serving.test_sketch_levels import answer
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
KINDS = len(BY_KIND)


class Streams:
    """A broker and a database, and what Flink and the lake's job write to them."""

    def __init__(self, kafka: Daemon, postgres_url: str) -> None:
        self.bootstrap, self.postgres_url = kafka.url, postgres_url
        self.kill, self.start = kafka.kill, kafka.start
        self.producer = KafkaProducer(bootstrap_servers=kafka.url, acks="all", compression_type="gzip")

    def flink(self, answers: list[Answer]) -> int:
        records = minutes_of(answers)
        for record in records:
            self.producer.send(names.SKETCHES, key=record.key.encode(), value=record.encode())
        self.producer.flush()
        return len(records)

    def late(self, one: events.AnswerEvent) -> None:
        self.producer.send(names.LATE, key=one.event_id.encode(), value=events.encode(one)).get(10)

    def loop(self, now: Callable[[], int], **options: object) -> SketchLoop:
        return SketchLoop(
            self.postgres_url,
            self.bootstrap,
            None,
            threading.Event(),
            now_us=now,
            **options,  # type: ignore[arg-type]
        )

    def in_lake(self, offset: int) -> None:
        with psycopg.connect(self.postgres_url, autocommit=True) as sql:
            sql.execute(
                "INSERT INTO deployment VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (names.SKETCHES_IN_LAKE, str(offset)),
            )

    def end(self) -> int:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            part = TopicPartition(names.SKETCHES, 0)
            return int(consumer.end_offsets([part])[part])
        finally:
            consumer.close()


@pytest.fixture
def streams(tmp_path: Path, postgres_url: str) -> Iterator[Streams]:
    upgrade(postgres_url)
    kafka = start_kafka(tmp_path / "kafka")
    yield Streams(kafka, postgres_url)
    kafka.stop()


def wait_for(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "not there in time"
        time.sleep(0.2)


def test_levels_are_merged_deleted_and_followed(streams: Streams) -> None:
    now = time.time_ns() // 1000 // MINUTE_US * MINUTE_US
    day = (now - 3 * DAY_US) // DAY_US * DAY_US
    answers = play(7, day, range(0, 1440, 97))
    streams.flink(answers)
    loop = streams.loop(lambda: now)
    replica = SketchReplica(streams.bootstrap)
    replica.start()
    try:
        assert loop.lead()
        merged, gone = loop.step()
        hours = len({one.occurred_at_us // HOUR_US for one in answers})
        assert (merged, gone) == ((hours + 1) * KINDS, 0)
        assert loop.step() == (0, 0), "the lake has none of it yet"
        streams.in_lake(streams.end())
        minutes = len({one.occurred_at_us // MINUTE_US for one in answers})
        assert loop.step() == (0, KINDS * (minutes + hours))
        late = answer(1, day + 97 * MINUTE_US)  # its minute and its hour are gone
        streams.late(late)
        streams.late(late)
        assert loop.step() == (KINDS, 0)
        wait_for(lambda: replica.lag.records == 0 and replica.sketches.held()["minute"] == 0)
        assert replica.sketches.held() == {"minute": 0, "hour": 0, "day": KINDS}
        chosen = replica.sketches.select("missed_words", day, day + DAY_US, now)
        truth = misses(answers, "missed_words")
        for word in truth:
            assert replica.approx.count(chosen, word).estimate.value == truth[word]
        # Until the pass that took it in is committed and read, it widens the bound.
        assert replica.approx.count(chosen, "w1").estimate.upper == 1
        wait_for(lambda: replica.approx.count(chosen, "w1").estimate.value == 1)
        loop.stop_leading()
        assert loop.lead() and loop.step() == (0, 0), "a restart repeats nothing"
    finally:
        loop.stop_leading()
        replica.stop()


def test_a_pass_that_dies_before_its_commit_is_as_if_it_never_was(streams: Streams) -> None:
    now = time.time_ns() // 1000
    hour = (now - 2 * HOUR_US) // HOUR_US * HOUR_US
    answers = play(8, hour, range(3))
    streams.flink(answers)

    def die(step: str) -> None:
        if step == "sketches_sent":
            raise OSError("killed")

    dying = streams.loop(lambda: hour + HOUR_US + GRACE_US, after=die)
    assert dying.lead()
    with pytest.raises(OSError):
        dying.step()
    # Its lease ends with its connection; its transaction is still open when the next one comes.
    assert dying._sql is not None
    dying._sql.close()
    following = streams.loop(lambda: hour + HOUR_US + GRACE_US)
    try:
        assert following.lead()
        assert following.step() == (KINDS, 0)
        key = SketchKey("missed_words", "hour", hour)
        assert following.levels.held.get(key) is None, "its own records are read in the next pass"
        assert following.step() == (0, 0)
        assert following.levels.held[key].record.answers == len(answers)
        dying._after = lambda step: None
        with pytest.raises((KafkaError, LakeboardError, psycopg.Error, OSError, AssertionError)):
            dying.step()
    finally:
        following.stop_leading()
        dying.stop_leading()


def test_one_leads(streams: Streams) -> None:
    first, second = streams.loop(lambda: 0), streams.loop(lambda: 0)
    try:
        assert first.lead() and not second.lead()
        first.stop_leading()
        wait_for(second.lead)  # Postgres frees the lease when it sees that the connection has ended
    finally:
        first.stop_leading()
        second.stop_leading()


def lake_rows(answers: list[Answer], now: int) -> list[dict[str, object]]:
    """What the ingest job writes of the topic, the newest version of each window and an older, wrong one of each."""
    rows: list[dict[str, object]] = []
    for offset, (key, value) in enumerate(topic_of(answers, now)):
        if value is None:
            continue
        record = parse_record(key, value)
        row = {
            "kind": record.key.kind,
            "level": record.key.level,
            "window_start": datetime.fromtimestamp(record.key.window_start_us / 1e6, UTC),
            "window_start_us": record.key.window_start_us,
            "window_end_us": record.key.window_end_us,
            "answers": record.answers,
            "late": record.late,
            "heaviest": list(record.heaviest),
            "parts": list(record.parts),
            "sketch": base64.b64decode(record.sketch),
            "kafka_partition": 0,
            "kafka_offset": 10 + offset,
        }
        rows += [row, {**row, "sketch": b"older", "kafka_offset": 0}]
    return rows


def test_over_http_from_the_replica_and_the_lake_and_when_kafka_goes(
    streams: Streams, tmp_path: Path, valkey_urls: list[str]
) -> None:
    now = time.time_ns() // 1000
    day = (now - 3 * DAY_US) // DAY_US * DAY_US
    past, fresh = play(11, day, range(0, 240, 7)), play(12, now // MINUTE_US * MINUTE_US, range(-9, -1))
    streams.flink(past + fresh)
    streams.in_lake(FAR)
    loop = streams.loop(lambda: now)
    try:
        assert loop.lead()
        while loop.step() != (0, 0):
            pass
    finally:
        loop.stop_leading()
    lake = SmallLake(streams.postgres_url, tmp_path / "lake")
    lake.append("sketches", lake_rows(past, now))
    api = ApiProcess(
        tmp_path / "api",
        valkey_urls,
        streams.postgres_url,
        lake.warehouse,
        kafka_bootstrap=streams.bootstrap,
    )

    def ask(path: str, start: int, end: int, **more: object) -> httpx.Response:
        span = {"from": iso(start), "to": iso(end), **more}
        return httpx.get(f"{api.url}/v1/approx/{path}", params=span, timeout=60)

    try:
        wait_for(lambda: ask("participants", now - HOUR_US, now).status_code == 200)
        first, last = min(one.occurred_at_us for one in fresh), now
        truth = misses(fresh, "missed_words")
        for word in truth:
            reply = ask(f"misses/word/{word}", first // MINUTE_US * MINUTE_US, last).json()
            assert (reply["estimate"], reply["from_lake"]) == (truth[word], 0)
        assert reply["replica"]["lag_records"] == 0
        # The day is here, its minutes and hours are the lake's.
        whole = ask("participants", day, day + DAY_US).json()
        assert (whole["windows"], whole["from_lake"]) == (1, 0)
        start, end = day + 14 * MINUTE_US, day + 3 * HOUR_US + 30 * MINUTE_US
        there = inside(past, start, end)
        counts = misses(there, "missed_questions")
        key = max(counts, key=lambda one: counts[one])
        reply = ask(f"misses/question/{key}", start, end).json()
        assert (reply["estimate"], reply["total"]) == (counts[key], sum(counts.values()))
        assert reply["from_lake"] == reply["windows"] > 5
        heavy = ask("heaviest/word", start, end, k=1).json()
        assert heavy["entries"][0]["estimate"] == max(misses(there, "missed_words").values())
        times = ask("elapsed_ms", start, end, q=1.0).json()
        assert times["answers"] == len(there)
        assert times["quantiles"][0]["estimate"] == max(one.elapsed_ms for one in there)
        points = ask("points", start, end, q=1.0).json()
        assert points["quantiles"][0]["estimate"] == max(one.points for one in there)
        streams.kill()
        wait_for(lambda: ask("participants", now - HOUR_US, now).status_code == 503, 120)
        assert ask("participants", now - HOUR_US, now).json()["code"] == "replica_behind"
        streams.start()
        wait_for(lambda: ask("participants", now - HOUR_US, now).status_code == 200, 120)
        assert ask("misses/word/run", start, end).json()["estimate"] == misses(there, "missed_words")["run"]
    finally:
        api.stop()
