"""Ranges over two years of real answers equal SQL over the file, row for row: months, days, edges, zones, tags.

The lake is loaded from the file by DuckDB and pyarrow, without Spark. What is expected is summed here from the file's own
lines, not from the tables that the planner reads.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import httpx
import psycopg
import pyarrow as pa
import pytest

from contracts import names
from contracts.periods import iso_ms
from tests.conftest import SHARED
from tests.serving.api_process import ApiProcess
from tests.serving.recorded import recorded
from tests.small_lake import SmallLake, schema_of

pytestmark = [pytest.mark.service, pytest.mark.needs_shared, pytest.mark.long]
PATH = SHARED / "data" / "ednet_answers.csv.gz"
SEED = 20
RANGES = 20
# Each part's quiz in a zone of its own: half hours, clocks that change, and UTC.
ZONES = {
    "part-1": "Asia/Kolkata",
    "part-2": "America/St_Johns",
    "part-3": "Europe/Paris",
    "part-4": "Australia/Lord_Howe",
    "part-5": "UTC",
    "part-6": "America/New_York",
    "part-7": "Pacific/Auckland",
}
# Ranges that hold a change of clocks in most of those zones.
CHANGES = ((date(2018, 3, 1), date(2018, 4, 10)), (date(2018, 10, 1), date(2018, 11, 15)))
FIRST, LAST = date(2017, 9, 21), date(2019, 11, 30)
# Days that no settlement has published, and months that therefore are not either.
UNSETTLED = {date(2018, 5, 3), date(2019, 2, 28), *(date(2019, 11, 1) + timedelta(days=n) for n in range(30))}

_COUNTED = """
CREATE TABLE counted AS
SELECT at_us, user_id, session_id, quiz_id, question_id, tags, correct, elapsed_ms,
  CASE WHEN correct AND elapsed_ms <= 60000 THEN 500 + (500 * (60000 - elapsed_ms)) // 60000 ELSE 0 END AS points,
  dense_rank() OVER (ORDER BY user_id) AS user_no, row_number() OVER (ORDER BY at_us, question_id, user_id) AS seq
FROM (
  SELECT *, row_number() OVER (PARTITION BY session_id, question_id, user_id ORDER BY at_us, elapsed_ms, correct) AS attempt
  FROM (
    SELECT timestamp_ms::BIGINT * 1000 AS at_us, user_id, 'part-' || part AS quiz_id, question_id,
      user_id || '_' || strftime(make_timestamp(timestamp_ms::BIGINT * 1000), '%Y-%m-%d') || '_' || part AS session_id,
      string_split(tags, ';') AS tags, correct = '1' AS correct, elapsed_ms::BIGINT AS elapsed_ms
    FROM read_csv('{path}', header = true, all_varchar = true)))
WHERE attempt = 1"""
_ZONES = " ".join(f"WHEN '{quiz}' THEN '{zone}'" for quiz, zone in ZONES.items())
_ZONE_OF = f"CASE quiz_id {_ZONES} END"
# What a column of `answers` is, where it is not a column of `counted` or the same for all.
_COLUMNS = {
    "occurred_at_us": "at_us",
    "occurred_at": "make_timestamptz(at_us)",
    "event_id": "seq::VARCHAR",
    "skill_tags": "tags",
    "session_started_at_us": "at_us",
    "kafka_offset": "seq - 1",
    "time_limit_ms": "60000",
    "rule": "'speed@1'",
    "quiz_zone": _ZONE_OF,
}


@pytest.fixture(scope="module")
def real() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the table `counted`: the file's counted answers, by SQL from the contract's text."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_COUNTED.format(path=PATH))
    return connection


def load(lake: SmallLake, name: str, real: duckdb.DuckDBPyConnection, query: str) -> None:
    table: pa.Table = real.sql(query).to_arrow_table()
    schema = schema_of(name)
    lake.catalog.load_table((names.NAMESPACE, name)).append(table.select(schema.names).cast(schema))


def fill(lake: SmallLake, real: duckdb.DuckDBPyConnection) -> None:
    """Every table that a range reads, and one settlement of all days and months but those of UNSETTLED."""
    same = {"BIGINT": "0", "INT": "0", "VARCHAR": "''"}
    there = {row[0] for row in real.execute("DESCRIBE counted").fetchall()}
    columns = []
    for field in schema_of("answers"):
        kind = "BIGINT" if pa.types.is_integer(field.type) else "VARCHAR"
        what = _COLUMNS.get(field.name, field.name if field.name in there else same[kind])
        columns.append(f"{what} AS {field.name}")
    load(lake, "answers", real, f"SELECT {', '.join(columns)} FROM counted")
    load(lake, "user_numbers", real, "SELECT DISTINCT user_no, user_id FROM counted")
    unsettled = ", ".join(f"DATE '{day}'" for day in sorted(UNSETTLED))
    real.execute(
        "CREATE OR REPLACE VIEW scoped AS SELECT *, timezone(zone, make_timestamptz(at_us))::DATE AS day FROM ("
        "SELECT 'global' AS scope, 'UTC' AS zone, * FROM counted UNION ALL "
        f"SELECT 'quiz:' || quiz_id, {_ZONE_OF}, * FROM counted)"
    )
    sums = (
        "sum(points)::BIGINT AS points, max(at_us) FILTER (points > 0) AS reached_at_us, count(*) AS plays, "
        "count(*) FILTER (NOT correct) AS misses FROM scoped"
    )
    load(
        lake,
        "user_days",
        real,
        f"SELECT scope, zone, day, user_no, {sums} WHERE day NOT IN ({unsettled}) GROUP BY ALL",
    )
    load(
        lake,
        "user_months",
        real,
        f"SELECT scope, zone, date_trunc('month', day)::DATE AS month, user_no, {sums} GROUP BY ALL",
    )
    days = [FIRST.replace(day=1) + timedelta(days=n) for n in range((LAST - FIRST.replace(day=1)).days + 1)]
    published = [("daily", str(day), zone) for day in days if day not in UNSETTLED for zone in ZONES.values()]
    months = {day.replace(day=1) for day in days} - {day.replace(day=1) for day in UNSETTLED}
    published += [("monthly", str(month), zone) for month in months for zone in ZONES.values()]
    tables = ("user_days", "user_months", "user_numbers", "answers")
    snapshots = {name: lake.catalog.load_table((names.NAMESPACE, name)).current_snapshot() for name in tables}
    lake._publish(published, 1, {name: one.snapshot_id for name, one in snapshots.items() if one})


@pytest.fixture(scope="module")
def http(
    real: duckdb.DuckDBPyConnection,
    valkey_urls: list[str],
    new_postgres_url: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    """A client of an api over the loaded lake; Redis keeps no day of that time."""
    folder: Path = tmp_path_factory.mktemp("real")
    url = new_postgres_url()
    record = recorded(
        valkey_urls, url, boards_since_us=int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**6
    )
    lake = SmallLake(url, folder / "warehouse")
    with psycopg.connect(record.postgres_url) as sql:
        for quiz, zone in ZONES.items():
            sql.execute("INSERT INTO quizzes (quiz_id, zone, origin) VALUES (%s, %s, 'import')", (quiz, zone))
    fill(lake, real)
    api = ApiProcess(folder / "api", valkey_urls, url, lake.warehouse)
    with httpx.Client(base_url=api.url, timeout=60) as client:
        yield client
    api.stop()


_IDS = {"user": "user_id", "quiz": "quiz_id", "question": "quiz_id || '/' || question_id"}
_VALUES = {
    "points": "sum(points)::BIGINT AS value, max(at_us // 1000000) FILTER (points > 0) AS reached",
    "plays": "count(*) AS value, NULL::BIGINT AS reached",
    "misses": "count(*) FILTER (NOT correct) AS value, NULL::BIGINT AS reached",
}


def expected(
    real: duckdb.DuckDBPyConnection,
    scope: str,
    low_us: int,
    high_us: int,
    counting: tuple[str, str] = ("user", "points"),
) -> list[tuple[Any, ...]]:
    kind, _, ident = scope.partition(":")
    inside = {"global": "true", "quiz": f"quiz_id = '{ident}'", "tag": f"list_contains(tags, '{ident}')"}[
        kind
    ]
    first = low_us // 1_000_000
    rows = real.execute(
        "SELECT id, value, CASE WHEN reached IS NOT NULL THEN least(reached, $first + 4194303) * 1000000 END FROM ("
        f"SELECT {_IDS[counting[0]]} AS id, {_VALUES[counting[1]]} FROM counted "
        f"WHERE at_us >= $low AND at_us < $high AND {inside} GROUP BY 1) "
        "ORDER BY value DESC, 3 ASC NULLS LAST, id::BLOB DESC",
        {"first": first, "low": low_us, "high": high_us},
    ).fetchall()
    return [
        (place, one, value, None if reached is None else iso_ms(reached))
        for place, (one, value, reached) in enumerate(rows, 1)
    ]


def asked(chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """(from, to, zone): days of some zone, instants, within a change of clocks, one whole year."""
    yield "2018-01-01", "2019-01-01", "UTC"
    for number in range(RANGES - 1):
        zone = chance.choice([*ZONES.values(), "Asia/Kathmandu", "America/Sao_Paulo"])
        first, last = CHANGES[number % 2] if number % 3 == 0 else (FIRST, LAST)
        low, high = sorted(
            first + timedelta(days=n) for n in chance.sample(range((last - first).days + 1), 2)
        )
        if number % 4 == 1:
            at = [
                datetime(
                    d.year, d.month, d.day, chance.randrange(24), chance.randrange(60), tzinfo=ZoneInfo(zone)
                )
                for d in (low, high)
            ]
            yield at[0].isoformat(), at[1].isoformat(), zone
        else:
            yield str(low), str(high), zone


def instant(text: str, zone: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp()) * 1_000_000


def test_ranges_equal_sql_over_the_file(http: httpx.Client, real: duckdb.DuckDBPyConnection) -> None:
    chance, sources, rows = random.Random(SEED), set(), 0
    for low, high, zone in asked(chance):
        for scope in ("global", f"quiz:{chance.choice(sorted(ZONES))}", f"tag:{chance.randrange(1, 30)}"):
            params = {"from": low, "to": high, "zone": zone, "k": 1000, "explain": True}
            reply = http.get(f"/v1/leaderboards/{scope}", params=params)
            assert 200 == reply.status_code, reply.text
            body = reply.json()
            wanted = expected(real, scope, instant(low, zone), instant(high, zone))
            found = [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in body["entries"]]
            assert wanted == found, (scope, low, high, zone)
            assert len(wanted) == body["participants"]
            sources |= {part["source"] for part in body["explain"]["parts"]}
            rows += len(wanted)
    assert {"user_months", "user_days", "answers"} == sources and rows > 1_000


def test_every_subject_and_measure_equals_sql_over_the_file(
    http: httpx.Client, real: duckdb.DuckDBPyConnection
) -> None:
    chance, sources, rows = random.Random(SEED + 1), set(), 0
    for low, high, zone in asked(chance):
        for counting in ((subject, measure) for subject in _IDS for measure in _VALUES):
            scope = chance.choice(
                ("global", f"quiz:{chance.choice(sorted(ZONES))}", f"tag:{chance.randrange(1, 30)}")
            )
            params = {"from": low, "to": high, "zone": zone, "k": 1000, "explain": True}
            params |= {"subject": counting[0], "measure": counting[1]}
            reply = http.get(f"/v1/leaderboards/{scope}", params=params)
            assert 200 == reply.status_code, reply.text
            body = reply.json()
            wanted = expected(real, scope, instant(low, zone), instant(high, zone), counting)
            found = [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in body["entries"]]
            assert wanted[:1000] == found, (counting, scope, low, high, zone)
            assert len(wanted) == body["participants"]
            sources |= {(counting[0], part["source"], part["zone"]) for part in body["explain"]["parts"]}
            rows += len(wanted)
    quizzes = {zone for subject, source, zone in sources if (subject, source) == ("quiz", "user_months")}
    assert {*ZONES.values()} == quizzes and rows > 1_000
    assert {"answers"} == {source for subject, source, _ in sources if subject == "question"}
    assert {"user_days", "answers"} < {source for subject, source, _ in sources if subject == "user"}
