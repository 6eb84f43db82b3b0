"""`sketches.v1` into the lake: all three levels, once, also after a crash; and the position that lets the relay delete."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from kafka import KafkaProducer

from contracts import names
from contracts.sketched import BY_KIND, DAY_US, HOUR_US, LEVEL_US, MINUTE_US, SketchKey, parse_record
from serving.relay.sketch_levels import GRACE_US
from tests.serving.insights.sketched import inside, misses, play, topic_of
from tests.spark_jobs.broker import Broker
from tests.spark_jobs.conftest import Lake

pytestmark = pytest.mark.engine
DAY = 20_000 * DAY_US
KINDS = ("missed_words", "participants")


def send(broker: Broker, records: list[tuple[bytes, bytes | None]]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", compression_type="gzip")
    for key, value in records:
        producer.send(names.SKETCHES, key=key, value=value)
    producer.flush()
    producer.close()


def position(lake: Lake) -> int:
    with psycopg.connect(lake.postgres_url) as sql:
        row = sql.execute("SELECT value FROM deployment WHERE key = %s", (names.SKETCHES_IN_LAKE,)).fetchone()
    return int(row[0]) if row else -1


def test_every_level_is_taken_once_and_read_back(
    lake: Lake, broker: Broker, empty_lake: None, tmp_path: Path
) -> None:
    from lake.sketches import read_sketches
    from lake.views import Lake as Reader
    from sketches import windows
    from spark_jobs.ingest_sketches import ingest_sketches

    def ingest() -> int:
        return ingest_sketches(lake.spark, postgres_url=lake.postgres_url, bootstrap=broker.bootstrap)

    with psycopg.connect(lake.postgres_url, autocommit=True) as sql:
        sql.execute("DELETE FROM deployment WHERE key = %s", (names.SKETCHES_IN_LAKE,))
    assert ingest() == 0
    answers = play(3, DAY, range(0, 130, 7))
    log = topic_of(answers, DAY + DAY_US + GRACE_US, KINDS)
    written = [one for one in log if one[1] is not None]
    odd: list[tuple[bytes, bytes | None]] = [
        (b"odd", b"{}"),
        (written[0][0], b"no JSON"),
        (written[0][0], None),
    ]
    send(broker, odd + log)
    assert ingest() == len(written)
    assert position(lake) == len(odd) + len(log)
    assert ingest() == 0, "a repeat takes nothing"
    table = lake.spark.table(names.table("sketches"))
    assert (
        table.count() == len(written) == table.select("kind", "level", "window_start_us").distinct().count()
    )
    rows = {(row.kind, row.level, row.window_start_us): row for row in table.collect()}
    for key, value in written:
        assert value is not None
        record = parse_record(key, value)
        row = rows[record.key.kind, record.key.level, record.key.window_start_us]
        assert (row.answers, row.late, tuple(row.parts)) == (record.answers, record.late, record.parts)
        assert row.window_end_us == record.key.window_end_us
        expected = windows.from_text(BY_KIND[record.key.kind], record.sketch)
        assert bytes(row.sketch) == expected.to_bytes()
    # A crash after the snapshot: the position was not told. The next run tells it.
    with psycopg.connect(lake.postgres_url, autocommit=True) as sql:
        sql.execute("UPDATE deployment SET value = '1' WHERE key = %s", (names.SKETCHES_IN_LAKE,))
    assert ingest() == 0 and position(lake) == len(odd) + len(log)
    # A window that is written again: the newer version counts.
    key = SketchKey("missed_words", "hour", DAY)
    newer = windows.of_counts(BY_KIND["missed_words"], {"run": 77})
    _, value = next(one for one in written if one[0] == key.encode())
    assert value is not None
    record = parse_record(key.encode(), value)
    again = value.replace(record.sketch.encode(), windows.as_text(newer).encode())
    send(broker, [(key.encode(), again)])
    assert ingest() == 1
    reader = Reader(lake.postgres_url, lake.warehouse, tmp_path)
    found = dict(
        read_sketches(reader, "missed_words", [("hour", DAY), ("hour", DAY + HOUR_US), ("day", DAY)])
    )
    assert set(found) == {("hour", DAY), ("hour", DAY + HOUR_US), ("day", DAY)}
    assert found["hour", DAY] == newer.to_bytes()
    day = windows.read(BY_KIND["missed_words"], found["day", DAY])
    truth = misses(inside(answers, DAY, DAY + DAY_US), "missed_words")
    assert {word: day.estimate("word", word).value for word in truth} == dict(truth)  # type: ignore[union-attr, call-arg]
    minutes = [("minute", DAY + minute * MINUTE_US) for minute in range(60)]
    assert len(read_sketches(reader, "participants", minutes)) == 9
    assert read_sketches(reader, "participants", [("day", DAY + LEVEL_US["day"])]) == []
