"""The fixtures themselves: durable settings, fresh databases, restart on the same files."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import psycopg
import pytest
import redis

from contracts import names
from tests.services.daemons import Daemon, HdfsDaemon, QuestdbDaemon

pytestmark = pytest.mark.service


def test_valkey_syncs_before_it_acknowledges(valkey_urls: list[str]) -> None:
    for url in valkey_urls:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_valkey_keeps_an_acknowledged_write_through_kill(valkey_daemons: list[Daemon]) -> None:
    daemon = valkey_daemons[0]
    with redis.Redis.from_url(daemon.url) as client:
        client.set("kept", "1")
    daemon.kill()
    daemon.start()
    with redis.Redis.from_url(daemon.url) as client:
        assert client.get("kept") == b"1"


def test_databases_are_fresh(new_postgres_url: Callable[[], str]) -> None:
    first, second = new_postgres_url(), new_postgres_url()
    with psycopg.connect(first) as connection:
        connection.execute("create table t (x int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("select to_regclass('t')").fetchone() == (None,)


def test_kafka_has_the_topics(kafka_bootstrap: str) -> None:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap)
    try:
        assert {names.ANSWERS, names.DEAD_LETTERS, names.LATE, *names.COMPACTED} <= set(consumer.topics())
        assert set(range(12)) == consumer.partitions_for_topic(names.ANSWERS)
    finally:
        consumer.close()


def test_hdfs_keeps_a_file(hdfs_daemon: HdfsDaemon) -> None:
    from hdfs import InsecureClient

    client = InsecureClient(hdfs_daemon.webhdfs_url, user="test")
    client.write("/kept/a", b"rows")
    with client.read("/kept/a") as reader:
        assert b"rows" == reader.read()


def test_questdb_answers(questdb_daemon: QuestdbDaemon) -> None:
    with urllib.request.urlopen(f"{questdb_daemon.url}/exec?query=select%201") as reply:
        assert [[1]] == json.load(reply)["dataset"]
