"""Windows through a real Kafka into a real QuestDB: repeats change nothing, an outage loses nothing, old ones go."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from contracts import names
from contracts.settings import Settings
from serving.insights.replica import MINUTE_US, SketchReplica
from serving.relay import rebuild_questdb, window_retention
from serving.relay.questdb import Questdb
from serving.relay.to_questdb import GROUP, run
from sketches.count_min import CountMin
from tests.services.daemons import QuestdbDaemon, start_kafka, start_questdb

pytestmark = pytest.mark.service
START = 29_000_000 * MINUTE_US


def records(start: int = START, questions: int = 2) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(topic, key, value) of one window: a place of each kind, and one sketch of questions 7, 8 …, missed 5, 2, 2 …"""
    sketch = CountMin.from_error()
    for number in range(questions):
        sketch.update("question", str(7 + number), 2 if number else 5)
    end = {"window_end_us": start + MINUTE_US}
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for kind, reached in (("users", start), ("quizzes", None)):
        key = {"kind": kind, "scope": "global", "level": "minute", "window_start_us": start, "place": 1}
        found.append(
            (names.TOPK, key, {**key, **end, "subject_id": "a", "amount": 3, "reached_at_us": reached})
        )
    key = {"kind": "missed_questions", "level": "minute", "window_start_us": start}
    text = base64.b64encode(sketch.to_bytes()).decode()
    return [
        *found,
        (names.SKETCHES, key, {**key, **end, "answers": 9, "heaviest": ["7", "8"], "sketch": text}),
    ]


def wait_for(done: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "not there in time"
        time.sleep(0.3)


class Windows:
    """A broker's windows, written as the Flink job writes them."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="gzip")

    def write(self, *starts: int, questions: int = 2) -> None:
        for start in starts:
            for topic, key, value in records(start, questions):
                self.producer.send(topic, key=json.dumps(key).encode(), value=json.dumps(value).encode())
        self.producer.flush()

    def committed(self, topic: str) -> int:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=GROUP, enable_auto_commit=False)
        try:
            return consumer.committed(TopicPartition(topic, 0)) or 0
        finally:
            consumer.close(autocommit=False)

    def starts(self, topic: str) -> set[int]:
        """Starts of the windows whose newest record is no tombstone."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, isolation_level="read_committed")
        try:
            seen = window_retention._read(consumer, topic, time.monotonic() + 30)
        finally:
            consumer.close()
        return {json.loads(key)["window_start_us"] for key, record in seen.items() if not record.gone}


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[Windows]:
    kafka = start_kafka(tmp_path / "kafka")
    yield Windows(kafka.url)
    kafka.stop()


@pytest.fixture
def questdb(tmp_path: Path) -> Iterator[QuestdbDaemon]:
    daemon = start_questdb(tmp_path / "questdb")
    yield daemon
    daemon.stop()


@contextmanager
def following(windows: Windows, questdb: QuestdbDaemon) -> Iterator[Callable[[], int]]:
    """`run` on a thread; gives the number of heartbeats so far."""
    stopping, beats = threading.Event(), list[float]()
    arguments = (windows.bootstrap, questdb.url, stopping, lambda: beats.append(time.monotonic()))
    thread = threading.Thread(target=run, args=arguments)
    thread.start()
    try:
        yield lambda: len(beats)
    finally:
        stopping.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def rows(questdb: QuestdbDaemon, query: str) -> Any:
    """Rows by SQL over HTTP; none while the table is not there."""
    return httpx.get(f"{questdb.url}/exec", params={"query": query}).json().get("dataset", [])


def sent(windows: Windows, topic: str, key: dict[str, Any], **more: Any) -> None:
    value = {**key, "window_end_us": key["window_start_us"] + MINUTE_US, **more}
    windows.producer.send(topic, key=json.dumps(key).encode(), value=json.dumps(value).encode())


ESTIMATES_SQL = "select subject_id, estimate, lower, upper, bound, confidence from estimates order by 1"
TOP_SQL = "select kind, scope, level, place, subject_id, amount from {} order by kind, level"


def test_windows_reach_questdb_and_the_replica_once(
    windows: Windows, questdb: QuestdbDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    replica = SketchReplica(windows.bootstrap)
    place = {"window_start_us": START, "place": 1}
    for _ in range(2):
        windows.write(START)
        windows.producer.send(names.TOPK, key=b"odd", value=b"not JSON")
    health = {"kind": "health", "scope": "global", "level": "day", **place}
    sent(windows, names.TOPK, health, subject_id="not_json", amount=4, reached_at_us=None)
    # The same window's start and place, told apart by level and by scope.
    for level in ("ten_minutes", "hour", "day"):
        key = {"kind": "users", "scope": "global", "level": level, **place}
        sent(windows, names.TOPK, key, subject_id="a", amount=5, reached_at_us=START)
    of_quiz = {"kind": "users", "scope": "quiz:q", "level": "minute", **place}
    sent(windows, names.TOPK_QUIZZES, of_quiz, subject_id="b", amount=2, reached_at_us=None)
    growth = {"kind": "words", **place}
    sent(windows, names.TRENDING, growth, subject_id="wörd", plays=12, expected=2.5, score=4.25)
    with following(windows, questdb):
        replica.start()
        try:
            wait_for(
                lambda: windows.committed(names.TRENDING) == 1 and windows.committed(names.SKETCHES) == 2
            )
            wait_for(
                lambda: (
                    len(rows(questdb, "select * from top_k")) == 3
                    and len(rows(questdb, "select * from top_k_quizzes")) == 1
                    and len(rows(questdb, "select * from top_k_longer")) == 3
                    and len(rows(questdb, "select * from estimates")) == 2
                    and len(rows(questdb, "select * from trending")) == 1
                )
            )
            wait_for(lambda: replica.lag.records == 0 and replica.sketches.as_of_us is not None)
        finally:
            replica.stop()
    assert rows(questdb, ESTIMATES_SQL) == [["7", 5, 4, 5, 1, 0.99], ["8", 2, 1, 2, 1, 0.99]]
    with psycopg.connect(questdb.pg_url, autocommit=True) as connection:
        tops = {
            table: sorted(connection.execute(TOP_SQL.format(table)).fetchall())
            for table in ("top_k", "top_k_longer", "top_k_quizzes")
        }
        assert tops["top_k"] == [
            ("health", "global", "day", 1, "not_json", 4),
            ("quizzes", "global", "minute", 1, "a", 3),
            ("users", "global", "minute", 1, "a", 3),
        ]
        assert tops["top_k_longer"] == [
            ("users", "global", level, 1, "a", 5) for level in ("day", "hour", "ten_minutes")
        ]
        assert tops["top_k_quizzes"] == [("users", "quiz:q", "minute", 1, "b", 2)]
        missed = connection.execute(
            "select question_id, level, estimate, total from missed_questions order by 1"
        )
        assert missed.fetchall() == [("7", "minute", 5, 7), ("8", "minute", 2, 7)]
        grown = connection.execute("select kind, place, subject_id, plays, expected, score from trending")
        assert grown.fetchall() == [("words", 1, "wörd", 12, 2.5, 4.25)]
        bounded = connection.execute("select subject_id from estimates where upper - lower <= bound")
        assert len(bounded.fetchall()) == 2
    wait_for(
        lambda: (
            [["wörd", 4.25, 1]] == rows(questdb, "select subject_id, best_score, windows from trending_days")
        )
    )
    chosen = replica.sketches.select("missed_questions", START, START + MINUTE_US, START + MINUTE_US)
    found = replica.approx.count(chosen, "7").estimate
    assert (found.value, found.bound) == (5, 1)
    assert replica.windows.health() == {START: {"not_json": 4}}
    _assert_rebuilt(windows, questdb, capsys)


def _assert_rebuilt(windows: Windows, questdb: QuestdbDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Lost tables, a lost row and a wrong one come back from the topics; other rows stay."""
    top = TOP_SQL.format("top_k")
    before = rows(questdb, top), rows(questdb, ESTIMATES_SQL)
    with psycopg.connect(questdb.pg_url, autocommit=True) as connection:
        connection.execute("drop table estimates")
        connection.execute("drop table trending")
        connection.execute("update top_k set amount = 99 where kind = 'quizzes'")
        connection.execute(
            "insert into top_k (ts, kind, scope, level, place, subject_id, amount) "
            f"values (cast({START - MINUTE_US} as timestamp), 'old', 'global', 'minute', 1, 'x', 1)"
        )
    wait_for(lambda: [["old", "x"]] == rows(questdb, "select kind, subject_id from top_k where kind = 'old'"))
    settings = Settings(kafka_bootstrap=windows.bootstrap, questdb_http_url=questdb.url)
    newest, _ = rebuild_questdb.newest(windows.bootstrap)
    door = Questdb(questdb.url)
    door.make_tables()
    assert 4 == rebuild_questdb.compare(newest, door)
    assert 0 == rebuild_questdb.main(["--json"], settings.to_env())
    document = json.loads(capsys.readouterr().out)
    assert (12, 1, 0) == (document["rows"], document["skipped"], document["differences"])
    assert rows(questdb, ESTIMATES_SQL) == before[1]
    assert [row for row in rows(questdb, top) if row[0] != "old"] == before[0]
    wait_for(lambda: [["wörd"]] == rows(questdb, "select subject_id from trending_days"))
    assert 3 == rebuild_questdb.main([], Settings().to_env())


@pytest.mark.long
def test_an_outage_of_questdb_loses_nothing(windows: Windows, questdb: QuestdbDaemon) -> None:
    count = "select count() from estimates"
    windows.write(START)
    with following(windows, questdb) as beats:
        wait_for(lambda: rows(questdb, count) == [[2]])
        wait_for(lambda: windows.committed(names.SKETCHES) == 1)
        before = (windows.committed(names.TOPK), windows.committed(names.SKETCHES))
        questdb.kill()
        windows.write(*(START + minute * MINUTE_US for minute in range(1, 6)))
        beaten = beats()
        wait_for(lambda: beats() > beaten + 3)
        assert before == (windows.committed(names.TOPK), windows.committed(names.SKETCHES)), (
            "committed what QuestDB has not"
        )
        questdb.start()
        wait_for(
            lambda: rows(questdb, count) == [[12]] and rows(questdb, "select count() from top_k") == [[12]]
        )
        wait_for(lambda: windows.committed(names.SKETCHES) == 6)


def test_old_windows_leave_the_topic_but_none_that_questdb_lacks(
    windows: Windows, questdb: QuestdbDaemon
) -> None:
    now = time.time_ns() // 1000 // MINUTE_US * MINUTE_US
    hour = window_retention.HOUR_US
    old, new, ancient = now - 3 * hour, now - hour, now - 60 * hour
    windows.write(ancient, old, new)
    assert window_retention.sweep(windows.bootstrap, GROUP, now) == 0, "QuestDB has none of them yet"
    with following(windows, questdb):
        wait_for(lambda: windows.committed(names.SKETCHES) == 3 and windows.committed(names.TOPK) == 6)
    windows.write(old - MINUTE_US)  # while nobody writes to QuestDB
    assert window_retention.sweep(windows.bootstrap, GROUP, now) == 2
    assert windows.starts(names.TOPK) == {old, new, old - MINUTE_US}
    assert window_retention.sweep(windows.bootstrap, GROUP, now) == 0
    with following(windows, questdb):
        wait_for(lambda: rows(questdb, "select count() from estimates") == [[8]])
