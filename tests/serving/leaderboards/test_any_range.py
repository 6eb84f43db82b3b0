"""Boards over any range, over HTTP: settled days, Redis' days and cut days together equal the slow model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psycopg
import pyarrow as pa
import pytest

from contracts import names
from contracts.periods import iso_ms
from serving.access.tokens import HOST, Identity, sign
from tests import model
from tests.serving.api_process import IMPORTER_KEY, JWT_KEY, ApiProcess
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals, wait_until
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
SEED = 81
FIRST_US = int(datetime(2024, 3, 29, tzinfo=UTC).timestamp()) * SECOND_US
BOUNDS = (
    "2024-03-28",
    "2024-03-29",
    "2024-03-30",
    "2024-03-31",
    "2024-04-01",
    "2024-04-02",
    "2024-04-03",
    "2024-04-06",
)


@pytest.fixture
def api(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    yield process
    process.stop()


def instant_of(text: str, zone: str) -> int:
    """A bound as the model reads it."""
    if len(text) == 10:
        return model.anchor_of("daily", datetime.fromisoformat(text).date(), zone)
    return round(datetime.fromisoformat(text).timestamp() * SECOND_US)


def expected(answers: list[model.Answer], scope: str, low_us: int, high_us: int) -> list[model.Row]:
    """The board of a range by the slow model: only counted answers, ticks of 1 s from its start."""
    mine = [
        a
        for a in model.counted(answers)
        if low_us <= a.occurred_at_us < high_us and scope in ("global", f"quiz:{a.quiz_id}")
    ]
    return model.rows_of(mine, low_us, SECOND_US)


def ranges_of(chance: random.Random, zone: str) -> Iterator[tuple[str, str]]:
    """Days alone, days with a cut one at each end, within one day, in another zone."""
    for _ in range(8):
        yield tuple(sorted(chance.sample(BOUNDS, 2)))  # type: ignore[misc]
    for _ in range(8):
        low, high = sorted(FIRST_US + chance.randrange(6 * DAY_US) for _ in range(2))
        step = chance.choice([timedelta(0), timedelta(hours=5, minutes=30), timedelta(hours=-3, minutes=-30)])
        form = [
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).replace(tzinfo=UTC)
            for at in (low, high)
        ]
        yield tuple(one.astimezone(timezone(step)).isoformat() for one in form)  # type: ignore[misc]


def ask(api: ApiProcess, scope: str, low: str, high: str, **more: Any) -> httpx.Response:
    params = {"from": low, "to": high, "k": 1000, **more}
    return httpx.get(f"{api.url}/v1/leaderboards/{scope}", params=params, timeout=60)


def shown(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in entries]


def rows_shown(rows: list[model.Row]) -> list[tuple[Any, ...]]:
    return [
        (r.rank, r.user_id, r.points, None if r.reached_at_us is None else iso_ms(r.reached_at_us))
        for r in rows
    ]


def assert_ranges(api: ApiProcess, answers: list[model.Answer], chance: random.Random) -> set[str]:
    """Every scope and range against the model; the sources that were used."""
    zones = {f"quiz:{a.quiz_id}": a.zone for a in answers}
    sources = set()
    for scope in ("global", *sorted(zones)):
        zone = zones.get(scope, "UTC")
        for low, high in ranges_of(chance, zone):
            reply = ask(api, scope, low, high, explain=True)
            assert 200 == reply.status_code, reply.text
            body = reply.json()
            rows = expected(answers, scope, instant_of(low, zone), instant_of(high, zone))
            assert rows_shown(rows) == shown(body["entries"]), (SEED, scope, zone, low, high)
            assert len(rows) == body["participants"]
            assert ["speed@1"] == body["provenance"]["rules"]
            assert body["provenance"]["as_of"] > "2026"
            sources |= {part["source"] for part in body.get("explain", {}).get("parts", ())}
            sources.add(body["provenance"]["source"])
            if rows:
                row = chance.choice(rows)
                near = ask(api, scope, low, high, around=row.user_id, m=2, k=0).json()
                assert row.rank == near["me"]["rank"]
                assert rows_shown(rows[max(row.rank - 3, 0) : row.rank + 2]) == shown(near["around"])
    return sources


# Whose, which measure: all that Redis and `rankings` do not have.
COUNTINGS = [
    (subject, measure)
    for subject in ("user", "quiz", "question")
    for measure in ("points", "plays", "misses")
    if (subject, measure) != ("user", "points")
]
_IDS = {"user": "user_id", "quiz": "quiz_id", "question": "quiz_id || '/' || question_id"}
_MEASURES = {
    "points": "sum(CASE WHEN correct AND elapsed_ms <= 60000 THEN 500 + (500 * (60000 - elapsed_ms)) // 60000 ELSE 0 END)",
    "plays": "count(*)",
    "misses": "count(*) - count(*) FILTER (correct)",
}


def counted_table(answers: list[model.Answer]) -> duckdb.DuckDBPyConnection:
    """The answers that count, as the table `counted` of a DuckDB."""
    connection = duckdb.connect()
    rows = [
        {name: getattr(a, name) for name in model.Answer.__dataclass_fields__} for a in model.counted(answers)
    ]
    connection.register("taken", pa.Table.from_pylist(rows))
    connection.execute("CREATE TABLE counted AS SELECT * FROM taken")
    return connection


def ranked_by_sql(
    counted: duckdb.DuckDBPyConnection, counting: tuple[str, str], scope: str, low_us: int, high_us: int
) -> list[tuple[Any, ...]]:
    """A board as replies show it, by SQL of its own: points with their instant, plays and misses with none."""
    subject, measure = counting
    instant = "NULL"
    if measure == "points":
        # floored to whole seconds; a subject without points has none
        scored = "correct AND elapsed_ms <= 60000"
        instant = f"max(occurred_at_us) FILTER ({scored}) // 1000000 * 1000000"
    found = counted.execute(
        f"SELECT row_number() OVER (ORDER BY value DESC, reached ASC NULLS LAST, id::BLOB DESC), id, value, reached FROM ("
        f"SELECT {_IDS[subject]} AS id, ({_MEASURES[measure]})::BIGINT AS value, {instant} AS reached FROM counted "
        f"WHERE occurred_at_us >= {low_us} AND occurred_at_us < {high_us} "
        f"AND ('{scope}' = 'global' OR '{scope}' = 'quiz:' || quiz_id) GROUP BY 1) ORDER BY 1"
    ).fetchall()
    return [(place, one, value, None if at is None else iso_ms(at)) for place, one, value, at in found]


def assert_countings(api: ApiProcess, answers: list[model.Answer], chance: random.Random) -> set[str]:
    """Every subject and measure over a few ranges against SQL over the answers; the sources that were used."""
    zones = {f"quiz:{a.quiz_id}": a.zone for a in answers} | {"global": "UTC"}
    counted, sources = counted_table(answers), set()
    for counting in COUNTINGS:
        named = dict(zip(("subject", "measure"), counting, strict=True))
        for scope in ("global", chance.choice(sorted(zones))):
            zone = zones[scope]
            cut = chance.choice(list(ranges_of(chance, zone))[8:])
            for low, high in (("2024-02-28", "2024-04-06"), ("2024-03-30", "2024-04-02"), cut):
                body = ask(api, scope, low, high, explain=True, **named).raise_for_status().json()
                rows = ranked_by_sql(counted, counting, scope, instant_of(low, zone), instant_of(high, zone))
                assert rows == shown(body["entries"]), (SEED, counting, scope, low, high)
                assert (len(rows), *counting) == (body["participants"], body["subject"], body["measure"])
                assert "lake" == body["provenance"]["source"]
                sources |= {f"{counting[0]} {part['source']}" for part in body["explain"]["parts"]}
                if rows:
                    row = chance.choice(rows)
                    near = ask(api, scope, low, high, around=row[1], m=1, users=row[1], k=0, **named).json()
                    assert rows[max(row[0] - 2, 0) : row[0] + 1] == shown(near["around"])
                    assert [row] == shown([rank["entry"] for rank in near["ranks"]])
        board = httpx.get(
            f"{api.url}/v1/leaderboards/global/daily/2024-03-31", params={"k": 1000, **named}, timeout=60
        )
        bounds = (instant_of(day, "UTC") for day in ("2024-03-31", "2024-04-01"))
        assert ranked_by_sql(counted, counting, "global", *bounds) == shown(board.json()["entries"])
        assert ("daily", "2024-03-31") == (board.json()["period"], board.json()["start"])
    return sources


def test_ranges_equal_the_model(api: ApiProcess, record: Recorded, small_lake: SmallLake) -> None:
    chance = random.Random(SEED)
    answers = model.play(SEED, days=4, users=10, sessions=14)
    record.play(answers)
    record.relay()
    small_lake.take()
    before = assert_ranges(api, arrivals(answers), chance)
    assert {"redis", "answers", "mixed", "lake"} <= before and "user_days" not in before
    answered = {"user answers", "quiz answers", "question answers"}
    assert answered == assert_countings(api, arrivals(answers), chance)
    middle = {(period, start) for _, period, start in small_lake.boards()} - {("daily", "2024-04-02")}
    small_lake.settle(leave_out={key for key in middle if key[1] == "2024-03-31"})
    after = assert_ranges(api, arrivals(answers), chance)
    assert {"user_days", "redis", "answers", "mixed", "rankings"} <= after
    rolled_up = {f"{subject} user_{unit}" for subject in ("user", "quiz") for unit in ("days", "months")}
    assert answered | rolled_up == assert_countings(api, arrivals(answers), chance)


def test_parts_of_a_day_are_as_of_the_last_ingest_also_of_one_that_brought_nothing(
    api: ApiProcess, record: Recorded, small_lake: SmallLake
) -> None:
    answers = model.play(SEED, users=4, quizzes=1, sessions=2)
    record.play(answers)
    record.relay()
    small_lake.take()
    low = min(a.occurred_at_us for a in answers) // DAY_US * DAY_US + 3600 * SECOND_US

    def as_of() -> str:
        reply = ask(api, "global", iso_ms(low), iso_ms(low + 3600 * SECOND_US)).raise_for_status()
        return str(reply.json()["provenance"]["as_of"])

    committed = as_of()
    later_us = round(datetime.now(UTC).timestamp() * SECOND_US) + 5_000
    with psycopg.connect(record.postgres_url, autocommit=True) as sql:
        for at_us in (1, later_us):  # an ingest that began before the snapshot says nothing newer
            sql.execute("DELETE FROM deployment WHERE key = %s", (names.ANSWERS_INGESTED,))
            sql.execute(
                "INSERT INTO deployment (key, value) VALUES (%s, %s)", (names.ANSWERS_INGESTED, str(at_us))
            )
            assert (committed if at_us == 1 else iso_ms(later_us)) == as_of()


def test_what_a_range_cannot_be(api: ApiProcess, record: Recorded) -> None:
    def code(scope: str, low: str, high: str) -> tuple[int, str]:
        reply = ask(api, scope, low, high)
        return reply.status_code, reply.json()["code"]

    assert (422, "wrong_start") == code("global", "2024-04-02", "2024-04-02")
    assert (422, "wrong_start") == code("global", "soon", "2024-04-02")
    assert (422, "wrong_start") == code("global", "1971-01-01", "2024-04-02")
    assert (422, "unknown_scope") == code("session:s1", "2024-04-01", "2024-04-02")
    assert (404, "unknown_quiz") == code("quiz:nobody", "2024-04-01", "2024-04-02")
    for more in (
        {"subject": "word", "accuracy": "fast"},
        {"subject": "team"},
        {"measure": "wins"},
        {"subject": "quiz", "accuracy": "fast"},
    ):
        refused = ask(api, "global", "2024-04-01", "2024-04-02", **more)
        assert (422, "invalid_field") == (refused.status_code, refused.json()["code"]), more
    for subject, user in (("question", "w1"), ("word", "Ice cream"), ("word", "a" * 65)):
        unnamed = ask(api, "global", "2024-04-01", "2024-04-02", subject=subject, users=user)
        assert (422, "invalid_id") == (unnamed.status_code, unnamed.json()["code"])
    for where, more in (
        ("", {"from": "2024-04-01", "to": "2024-04-02"}),
        ("/daily/current", {"measure": "plays"}),
    ):
        address, params = f"{api.url}/v1/leaderboards/global{where}", {**more, "fresh": True}
        assert 401 == httpx.get(address, params=params).status_code
        by_host = {"Authorization": f"Bearer {sign(Identity('h', HOST), JWT_KEY)}"}
        assert 403 == httpx.get(address, params=params, headers=by_host).status_code
        # This api was given no command that ingests.
        stale = httpx.get(address, params=params, headers={"X-API-Key": IMPORTER_KEY})
        assert (422, "./lakeboard board … --fresh") == (stale.status_code, stale.json()["next_step"])
    ever = httpx.get(f"{api.url}/v1/leaderboards/global/all_time/current", params={"measure": "plays"})
    assert (422, "unknown_period") == (ever.status_code, ever.json()["code"])
    reply = httpx.get(f"{api.url}/v1/leaderboards/global", params={"from": "2024-04-01"})
    assert (422, "missing_field") == (reply.status_code, reply.json()["code"])


def has_duckdb(api: ApiProcess) -> bool:
    """Whether the process has loaded DuckDB's library."""
    return "duckdb" in Path(f"/proc/{api.child.pid}/maps").read_text()


def test_the_lakes_libraries_are_there_before_anybody_asks(api: ApiProcess) -> None:
    wait_until(lambda: has_duckdb(api), 90)
    assert 200 == httpx.get(f"{api.url}/readyz").status_code


def test_without_a_lake_whole_days_of_redis_are_told(record: Recorded, tmp_path: Path) -> None:
    answers = model.play(82, users=8, sessions=9)
    record.play(answers)
    record.relay()
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url)
    try:
        for low, high in (
            ("2024-03-29", "2024-04-03"),
            ("2024-03-31", "2024-04-01"),
            ("2020-01-01", "2020-02-01"),
        ):
            body = ask(api, "global", low, high).raise_for_status().json()
            rows = expected(arrivals(answers), "global", instant_of(low, "UTC"), instant_of(high, "UTC"))
            assert rows_shown(rows) == shown(body["entries"])
            assert ("redis", "exact") == (body["provenance"]["source"], body["provenance"]["exactness"])
        cut = ask(api, "global", "2024-03-31T10:00:00Z", "2024-04-02")
        assert (404, "board_not_kept") == (cut.status_code, cut.json()["code"])
        assert "profile live" in cut.json()["detail"]
        for subject, measure in COUNTINGS:
            named = {"subject": subject, "measure": measure}
            lacking = ask(api, "global", "2024-03-31", "2024-04-01", **named)
            assert (404, "board_not_kept") == (lacking.status_code, lacking.json()["code"])
            assert "profile live" in lacking.json()["detail"]
        assert not has_duckdb(api)
    finally:
        api.stop()


def test_a_stopped_query_ends_and_a_large_one_is_refused(
    record: Recorded, small_lake: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contracts.boards import Scope
    from contracts.errors import BadInput, SystemMissing
    from contracts.periods import Span
    from contracts.replies import Wanted
    from lake import page_query, ranges
    from lake.views import Lake

    answers = model.play(83, users=30, sessions=9)
    record.play(answers)
    record.relay()
    small_lake.take()
    lake = Lake(record.postgres_url, small_lake.warehouse, tmp_path / "cache")

    def query() -> ranges.RangeQuery:
        whole = Span(FIRST_US, FIRST_US + 9 * DAY_US)
        return ranges.RangeQuery(lake, Scope("global"), whole, "UTC", page_query.Sources(answers=[whole]))

    stopped = query()
    stopped.stop()
    with pytest.raises(SystemMissing, match="stopped"):
        stopped.run(Wanted())
    stopped.stop()
    monkeypatch.setattr(page_query, "MEMORY_LIMIT", "1KB")
    with pytest.raises(BadInput, match="range_too_large"):
        query().run(Wanted())
