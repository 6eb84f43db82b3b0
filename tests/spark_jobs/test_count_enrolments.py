"""Enrolments from Postgres over Kafka into the lake, counted per course and day: equal to a slow count, once, all or nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kafka import KafkaProducer

from contracts import names
from contracts.enrolments import ENROLLED, LEFT, Enrolment, encode
from contracts.errors import BrokenContract, SystemMissing
from tests.spark_jobs.broker import Broker
from tests.spark_jobs.conftest import Lake

pytestmark = pytest.mark.engine
FIRST = date(2026, 3, 27)
DAYS = 6


def instant_us(day: date, seconds: float) -> int:
    return int((datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + seconds) * 1e6)


def moves(seed: int, count: int) -> list[Enrolment]:
    """Users who enrol and leave, some of them several times a day, in three courses."""
    chance = random.Random(seed)
    enrolled: set[tuple[str, str]] = set()
    found = []
    step = DAYS * 86_400 / count
    for number in range(1, count + 1):
        who = (f"course-{chance.randrange(3)}", f"u{chance.randrange(15)}")
        kind = LEFT if who in enrolled else ENROLLED
        enrolled ^= {who}
        at = instant_us(FIRST, number * step - 1)
        found.append(Enrolment(number, kind, at, *who))
    return found


def expected(events: Iterable[Enrolment], through: date) -> list[tuple[str, date, int, int, int]]:
    """(course, day, enrolled, departed, members), the slow way: a set of members, event after event."""
    members: dict[str, set[str]] = {}
    who: dict[tuple[str, date], dict[str, set[str]]] = {}
    at_end: dict[tuple[str, date], int] = {}
    for event in events:
        day = datetime.fromtimestamp(event.occurred_at_us / 1e6, UTC).date()
        there = members.setdefault(event.course_id, set())
        (there.add if event.kind == ENROLLED else there.remove)(event.user_id)
        key = (event.course_id, day)
        who.setdefault(key, {ENROLLED: set(), LEFT: set()})[event.kind].add(event.user_id)
        at_end[key] = len(there)
    return sorted(
        (course, day, len(kinds[ENROLLED]), len(kinds[LEFT]), at_end[course, day])
        for (course, day), kinds in who.items()
        if day <= through
    )


def put(lake: Lake, events: Iterable[Enrolment]) -> None:
    with psycopg.connect(lake.postgres_url) as sql:
        for event in events:
            sql.execute(
                "INSERT INTO enrolments (id, event) VALUES (%s, %s)", (event.enrolment_id, encode(event))
            )


def send(broker: Broker, *values: bytes) -> None:
    """Straight into the topic."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    for value in values:
        producer.send(names.ENROLMENTS, value=value)
    producer.flush()
    producer.close()


def take(lake: Lake, broker: Broker, wait_s: float = 30.0) -> int:
    from spark_jobs.ingest_enrolments import wait_for_enrolments

    with psycopg.connect(lake.postgres_url, autocommit=True) as sql:
        return wait_for_enrolments(
            lake.spark, sql, postgres_url=lake.postgres_url, bootstrap=broker.bootstrap, wait_s=wait_s
        )


def counted(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in lake.spark.table(names.table("course_days")).collect())


def snapshots(lake: Lake, name: str) -> int:
    return int(lake.spark.sql(f"SELECT count(*) FROM {names.table(name)}.snapshots").collect()[0][0])


def test_days_equal_a_slow_count_and_a_repeat_writes_nothing(
    lake: Lake, broker: Broker, empty_lake: None, tmp_path: Path
) -> None:
    from lake.courses import read_course_days
    from lake.views import Lake as Reader
    from spark_jobs.count_enrolments import count_days

    events = moves(5, 240)
    assert any(
        n > 1
        for n in Counter(
            (e.course_id, e.user_id, e.occurred_at_us // 86_400_000_000) for e in events
        ).values()
    )
    half = len(events) // 2
    put(lake, events[:half])
    broker.send_enrolments(lake.postgres_url)
    assert half == take(lake, broker)
    assert 0 == take(lake, broker)
    through = FIRST + timedelta(days=1)
    assert len(expected(events[:half], through)) == count_days(lake.spark, through)
    assert expected(events[:half], through) == counted(lake)

    put(lake, events[half:])
    broker.send_enrolments(lake.postgres_url)
    assert len(events) - half == take(lake, broker)
    through = FIRST + timedelta(days=DAYS - 1)
    count_days(lake.spark, through)
    assert expected(events, through) == counted(lake)
    before = snapshots(lake, "course_days"), snapshots(lake, "enrolments")
    assert (0, 0) == (count_days(lake.spark, through), take(lake, broker))
    assert before == (snapshots(lake, "course_days"), snapshots(lake, "enrolments"))

    # As the api reads it: a span with the members of the day before it.
    reader = Reader(lake.postgres_url, lake.warehouse, tmp_path)
    first, last = FIRST + timedelta(days=2), FIRST + timedelta(days=3)
    rows = read_course_days(reader, "course-1", first, last)
    wanted = [row[1:] for row in expected(events, last) if row[0] == "course-1"]
    assert [row for row in wanted if row[0] >= first] == [row for row in rows if row[0] >= first]
    assert [row for row in wanted if row[0] < first][-1:] == [row for row in rows if row[0] < first]
    assert [] == read_course_days(reader, "nobody", first, last)


def test_a_gap_or_an_odd_record_writes_nothing(lake: Lake, broker: Broker, empty_lake: None) -> None:
    from spark_jobs.ingest_enrolments import ingest_enrolments

    first, second, third = moves(1, 3)
    for wrong, code in (((encode(first), encode(third)), "sequence_gap"), ((b'{"kind": 1}',), "bad_event")):
        lake.empty(broker)
        send(broker, *wrong)
        with pytest.raises(BrokenContract, match=code):
            ingest_enrolments(lake.spark, postgres_url=lake.postgres_url, bootstrap=broker.bootstrap)
        assert 0 == lake.spark.table(names.table("enrolments")).count()
    lake.empty(broker)
    put(lake, [first, second, third])
    with pytest.raises(SystemMissing, match="the lake has 0 enrolments, Postgres 3"):
        take(lake, broker, wait_s=0.1)


def test_a_course_with_fewer_than_no_members_is_not_published(
    lake: Lake, broker: Broker, empty_lake: None
) -> None:
    from spark_jobs.count_enrolments import count_days

    send(broker, encode(Enrolment(1, LEFT, instant_us(FIRST, 1), "course-1", "u1")))
    assert 1 == take(lake, broker)
    with pytest.raises(BrokenContract, match="check_failed"):
        count_days(lake.spark, FIRST)
    assert [] == counted(lake)


def test_the_day_up_to_which_is_counted_never_goes_back(lake: Lake, empty_lake: None) -> None:
    from spark_jobs.count_enrolments import last_ended_day, tell

    with psycopg.connect(lake.postgres_url, autocommit=True) as sql:
        for day in (FIRST, FIRST + timedelta(days=1), FIRST):
            tell(sql, day)
        found = sql.execute(
            "SELECT value FROM deployment WHERE key = %s", (names.COURSES_COUNTED,)
        ).fetchone()
        assert (str(FIRST + timedelta(days=1)),) == found
        assert timedelta(days=1) <= datetime.now(UTC).date() - last_ended_day(sql) <= timedelta(days=2)
        sql.execute("DELETE FROM deployment WHERE key = %s", (names.COURSES_COUNTED,))
