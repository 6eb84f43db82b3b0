"""Outbox → Kafka with a real broker: fencing, the position in the transaction, kills between steps, catching up."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from contracts import corrections, names
from contracts.errors import BrokenContract, SystemMissing
from contracts.events import ANSWER_TYPE, BARRIER_TYPE, BarrierEvent, decode, encode, encode_barrier
from contracts.identity import answers_partition, barrier_id
from serving.boards.outbox import Entry, Outbox
from serving.migrations.upgrade import upgrade
from serving.relay.kafka_loop import KafkaLoop
from serving.relay.relay import Progress
from serving.relay.table_loop import CORRECTIONS, TableLoop
from serving.relay.to_kafka import KafkaSink
from tests import model
from tests.services.daemons import Daemon, start_kafka
from tests.serving.relay_stack import (
    arrivals,
    forget_leases,
    fresh_stack,
    import_answers,
    start_relay,
    wait_for_relay,
    wait_until,
)
from tests.serving.test_record_answers import event_of

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A broker of this module's own: the relay's topics and transactional ids are the deployment's."""
    daemon = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield daemon
    daemon.stop()


@pytest.fixture
def shard() -> int:
    """A shard's number that no other test uses."""
    return uuid.uuid4().int % 10**9 + 1_000


def entries_of(first: int, last: int) -> list[Entry]:
    """Answers with these sequence numbers; every seventh is a barrier."""
    day = BarrierEvent(barrier_id("UTC", "2024-03-30", 0), "UTC", "2024-03-30", 1, 2)
    found = []
    for seq in range(first, last + 1):
        if seq % 7 == 0:
            found.append(Entry(seq, BARRIER_TYPE, encode_barrier(day), "barrier"))
        else:
            answer = model.Answer(seq, f"u{seq % 40}", "s", "q", f"w{seq}", True, 5, 0)
            found.append(Entry(seq, ANSWER_TYPE, encode(event_of(answer)), "import"))
    return found


def committed(bootstrap: str, shard: int | None = None) -> list[Any]:
    """Every committed record of `answers.v1`, of one shard or of all."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", group_id=None)
    partitions = [TopicPartition(names.ANSWERS, number) for number in range(12)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    found = []
    deadline = time.monotonic() + 30
    while any(consumer.position(p) < ends[p] for p in partitions):
        assert time.monotonic() < deadline, "the topic cannot be read to its end"
        for records in consumer.poll(timeout_ms=200).values():
            found += records
    consumer.close()
    return [r for r in found if shard is None or dict(r.headers)[names.HEADER_SHARD] == str(shard).encode()]


def committed_of(bootstrap: str, shard: int, count: int) -> list[Any]:
    """The committed records of a shard, read again while they are fewer than `count`: a broker writes a transaction's
    markers after it has said that it is committed, partition by partition.
    """
    deadline = time.monotonic() + 30
    while len(found := committed(bootstrap, shard)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def seqs_of(records: list[Any]) -> list[int]:
    """The sequence numbers of some records, sorted."""
    return sorted(int(dict(record.headers)[names.HEADER_SEQ]) for record in records)


def test_what_a_record_carries(broker: Daemon, shard: int) -> None:
    sink = KafkaSink(broker.url, shard)
    assert 0 == sink.open()
    entries = entries_of(1, 50)
    assert 50 == sink.write(entries)
    sink.close()
    by_seq = {e.seq: e for e in entries}
    records = committed_of(broker.url, shard, 50)
    assert list(range(1, 51)) == seqs_of(records)
    for record in records:
        headers = dict(record.headers)
        entry = by_seq[int(headers[names.HEADER_SEQ])]
        assert (entry.type.encode(), entry.event) == (headers[names.HEADER_TYPE], record.value)
        if entry.type == BARRIER_TYPE:
            assert (0, None) == (record.partition, record.key)
        else:
            user = decode(entry.event).user_id
            assert (answers_partition(user), user.encode()) == (record.partition, record.key)
    again = KafkaSink(broker.url, shard)
    assert 50 == again.open()
    again.close()


def test_a_predecessor_is_fenced(broker: Daemon, shard: int) -> None:
    first, second = KafkaSink(broker.url, shard), KafkaSink(broker.url, shard)
    first.open()
    first.write(entries_of(1, 10))
    assert 10 == second.open()
    with pytest.raises(SystemMissing):
        first.write(entries_of(11, 20))
    assert 25 == second.write(entries_of(11, 25))
    assert 25 == first.open()
    first.close()
    second.close()
    assert list(range(1, 26)) == seqs_of(committed_of(broker.url, shard, 25))


class _Died(BaseException):
    """Stands for a crash in the middle of a transaction."""


def test_a_transaction_cut_off_leaves_nothing(broker: Daemon, shard: int) -> None:
    def die(step: str) -> None:
        if step == "kafka_sent":
            raise _Died

    dying = KafkaSink(broker.url, shard, die)
    dying.open()
    with pytest.raises(_Died):
        dying.write(entries_of(1, 20))
    successor = KafkaSink(broker.url, shard)
    assert 0 == successor.open()
    successor.write(entries_of(1, 30))
    successor.close()
    dying.close()
    assert list(range(1, 31)) == seqs_of(committed_of(broker.url, shard, 30))


def test_the_position_is_read_past_another_shards_open_transaction(broker: Daemon, shard: int) -> None:
    other = KafkaProducer(bootstrap_servers=broker.url, transactional_id=f"other-{shard}")
    other.init_transactions()
    other.begin_transaction()
    other.send(names.POSITIONS, key=b"other", value=b"1", partition=0).get(timeout=10)
    mine = KafkaSink(broker.url, shard)
    mine.open_producer()
    mine.write(entries_of(1, 5))
    threading.Timer(1.0, other.commit_transaction).start()
    successor = KafkaSink(broker.url, shard)
    started = time.monotonic()
    assert 5 == successor.open()
    assert time.monotonic() - started > 0.3, "it did not wait for the other shard's transaction"
    successor.close()
    mine.close()
    other.close()


@pytest.mark.parametrize("restart", ["outbox", pytest.param("history", marks=pytest.mark.long)])
def test_kill_9_between_steps(tmp_path: Path, new_postgres_url: Callable[[], str], restart: str) -> None:
    """A relay killed at each step of Kafka; then caught up from the outbox, or from history where that was trimmed."""
    answers = model.play(11, days=2, users=40, quizzes=9, sessions=12)
    counted = model.counted(arrivals(answers))
    kafka = start_kafka(tmp_path / "kafka")
    try:
        with fresh_stack(tmp_path, new_postgres_url()) as (stack, _):
            outboxes = [Outbox(url) for url in stack["LAKEBOARD_VALKEY_URLS"].split(",")]
            full = stack | {"LAKEBOARD_KAFKA_BOOTSTRAP": kafka.url}
            steps = ["kafka_fenced", "kafka_sent", "kafka"]
            if restart == "history":  # profile live first: history takes all and the outbox is trimmed
                import_answers(stack, answers)
                relay = start_relay(stack)
                wait_for_relay(stack, len(counted), relay)
                wait_until(lambda: not any(o.read_after(0, 1) for o in outboxes))
                relay.kill()
                relay.wait()
                forget_leases(stack)
            for number, step in enumerate(steps):
                if restart == "outbox":
                    part = sorted({a.session_id for a in answers})[number::3]
                    import_answers(stack, [a for a in answers if a.session_id in part])
                relay = start_relay(full, step)
                relay.wait(timeout=60)
                forget_leases(stack)
            relay = start_relay(full)
            try:
                wait_for_kafka(kafka.url, len(counted), relay)
            finally:
                relay.kill()
                relay.wait()
            assert_same_as_history(kafka.url, stack["LAKEBOARD_POSTGRES_URL"], len(counted))
    finally:
        kafka.stop()


def wait_for_kafka(bootstrap: str, count: int, relay: subprocess.Popen[bytes]) -> None:
    """Until that many records are committed."""
    deadline = time.monotonic() + 60
    while len(committed(bootstrap)) < count:
        assert time.monotonic() < deadline and relay.poll() is None
        time.sleep(0.1)


def assert_same_as_history(bootstrap: str, postgres_url: str, count: int) -> None:
    """Kafka holds what history holds: the same (shard, seq) and bytes, each once, in order within a partition."""
    records = committed(bootstrap)
    found = {}
    last: dict[tuple[int, bytes], int] = {}
    for record in records:
        headers = dict(record.headers)
        shard, seq = headers[names.HEADER_SHARD], int(headers[names.HEADER_SEQ])
        assert last.get((record.partition, shard), 0) < seq
        last[(record.partition, shard)] = seq
        found[(int(shard), seq)] = record.value
    assert count == len(records) == len(found)
    with psycopg.connect(postgres_url) as sql:
        rows = sql.execute("SELECT shard, seq, event FROM history").fetchall()
    assert {(shard, seq): bytes(event) for shard, seq, event in rows} == found


def test_a_lost_end_alarms(broker: Daemon, shard: int, valkey_urls: list[str]) -> None:
    sink = KafkaSink(broker.url, shard)
    sink.open()
    sink.write(entries_of(1, 9))
    sink.close()
    progress = Progress(leading=True, last_seq=4)
    stopping = threading.Event()
    loop = KafkaLoop(
        shard, valkey_urls[0], "postgresql://nobody@127.0.0.1:1/none", broker.url, progress, stopping
    )
    loop.start()
    deadline = time.monotonic() + 20
    while not progress.kafka_alarm and time.monotonic() < deadline:
        time.sleep(0.05)
    stopping.set()
    loop.join(20)
    assert "position_lost" == progress.kafka_alarm


def _corrections(broker: Daemon, count: int) -> list[int]:
    """The ids that a reader of committed records sees, in order; read again while they are fewer than `count`."""
    deadline = time.monotonic() + 30
    while len(found := _corrections_now(broker)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _corrections_now(broker: Daemon) -> list[int]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.url,
        isolation_level="read_committed",
        group_id=None,
        consumer_timeout_ms=1_500,
    )
    partition = TopicPartition(names.CORRECTIONS, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    found = [corrections.decode(record.value).correction_id for record in consumer]
    consumer.close()
    return found


def test_corrections_are_sent_once_in_their_order_by_whoever_leads(
    broker: Daemon, new_postgres_url: Callable[[], str]
) -> None:
    url = new_postgres_url()
    upgrade(url)

    def decide(*ids: int) -> None:
        with psycopg.connect(url) as sql:
            for number in ids:
                one = corrections.Correction(number, corrections.REMOVAL, 1, "cheated", user_id="u1")
                sql.execute("INSERT INTO corrections VALUES (%s, %s)", (number, corrections.encode(one)))

    def die(step: str) -> None:
        raise OSError("killed before the commit")

    stopping = threading.Event()
    decide(1, 2)
    dying = TableLoop(CORRECTIONS, url, broker.url, stopping, after=die)
    with pytest.raises(SystemMissing):
        dying.step()
    waiting = TableLoop(CORRECTIONS, url, broker.url, stopping)
    assert not waiting.step(), "the other one holds the lease until it gives up"
    dying.stop_leading()
    wait_until(waiting.step)  # Postgres frees the lease when it sees that the connection has ended
    assert not waiting.step()
    assert [1, 2] == _corrections(broker, 2)
    decide(3)
    waiting.stop_leading()
    third = TableLoop(CORRECTIONS, url, broker.url, stopping)
    wait_until(third.step)
    assert not third.step()
    assert [1, 2, 3] == _corrections(broker, 3)
    decide(5)
    with pytest.raises(BrokenContract, match="sequence_gap"):
        third.step()
    third.stop_leading()
