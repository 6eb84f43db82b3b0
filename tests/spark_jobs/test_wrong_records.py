"""Wrong records of `answers.v1` as both of its readers take them: the streams count them, ingest alone dead-letters them."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition

from contracts import names
from contracts.events import ANSWER_TYPE, encode
from tests.flink_jobs.cluster import NO_TICKER, local_job
from tests.flink_jobs.play import Topics, answer
from tests.spark_jobs.broker import Broker
from tests.spark_jobs.conftest import Lake

pytestmark = pytest.mark.engine
WITHIN_S = 240
MOMENT_US = 1_767_225_600_000_000
WRONG = {b"\xff not json": "not_json", b'{"origin": "live", "user_id": "User1"}': "no_answer"}


def letters(broker: Broker) -> list[bytes]:
    """What is in the dead-letter topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed", consumer_timeout_ms=3_000
    )
    consumer.assign([TopicPartition(names.DEAD_LETTERS, 0)])
    consumer.seek_to_beginning()
    found = [bytes(record.value) for record in consumer]
    consumer.close()
    return found


def test_a_wrong_record_is_counted_by_the_streams_and_dead_lettered_by_ingest(
    lake: Lake, broker: Broker, empty_lake: None, tmp_path: Path
) -> None:
    from spark_jobs.ingest_answers import ingest

    random = Random(7)
    good = [answer(number, MOMENT_US + number, random) for number in range(1, 21)]
    values = [encode(one) for one in good[:10]] + list(WRONG) + [encode(one) for one in good[10:]]
    broker.send([(ANSWER_TYPE, "User1", 0, seq, value) for seq, value in enumerate(values, 1)])

    topics = Topics(broker.bootstrap)
    wanted = dict.fromkeys(WRONG.values(), 1)
    with local_job(broker.bootstrap, tmp_path, NO_TICKER) as job:
        topics.poll_until(lambda: wanted == topics.skipped(), WITHIN_S, lambda: job.poll() is None)
        assert wanted == topics.skipped()
    assert [] == letters(broker), "the streams write no dead letter"

    checkpoint = lake.new_checkpoint()
    instants = [time.time_ns() // 1_000]
    for count in (len(values), 0):  # a second time there is nothing new, and that is known as of then
        where = {"postgres_url": lake.postgres_url, "bootstrap": broker.bootstrap}
        assert count == ingest(lake.spark, **where, checkpoint=checkpoint)
        with psycopg.connect(lake.postgres_url) as sql:
            row = sql.execute(
                "SELECT value FROM deployment WHERE key = %s", (names.ANSWERS_INGESTED,)
            ).fetchone()
        instants.append(int(row[0]) if row else 0)
    assert sorted(set(instants)) == instants
    assert {one.event_id for one in good} == {
        row.event_id for row in lake.spark.table(names.table("answers")).select("event_id").collect()
    }
    kept = lake.spark.table(names.table("dead_letters")).orderBy("seq").collect()
    assert [(11, b"\xff not json"), (12, list(WRONG)[1])] == [(row.seq, bytes(row.value)) for row in kept]
    assert all(row.reason for row in kept)
    told = letters(broker)
    assert len(WRONG) == len(told), told
