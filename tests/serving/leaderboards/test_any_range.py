"""Boards over any range, over HTTP: settled days, Redis' days and cut days together equal the slow model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.periods import iso_ms
from tests import model
from tests.serving.api_process import ApiProcess
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals
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


def test_ranges_equal_the_model(api: ApiProcess, record: Recorded, small_lake: SmallLake) -> None:
    chance = random.Random(SEED)
    answers = model.play(SEED, days=4, users=10, sessions=14)
    record.play(answers)
    record.relay()
    small_lake.take()
    before = assert_ranges(api, arrivals(answers), chance)
    assert {"redis", "answers", "mixed", "lake"} <= before and "user_days" not in before
    middle = {(period, start) for _, period, start in small_lake.boards()} - {("daily", "2024-04-02")}
    small_lake.settle(leave_out={key for key in middle if key[1] == "2024-03-31"})
    after = assert_ranges(api, arrivals(answers), chance)
    assert {"user_days", "redis", "answers", "mixed", "rankings"} <= after


def test_what_a_range_cannot_be(api: ApiProcess, record: Recorded) -> None:
    def code(scope: str, low: str, high: str) -> tuple[int, str]:
        reply = ask(api, scope, low, high)
        return reply.status_code, reply.json()["code"]

    assert (422, "wrong_start") == code("global", "2024-04-02", "2024-04-02")
    assert (422, "wrong_start") == code("global", "soon", "2024-04-02")
    assert (422, "wrong_start") == code("global", "1971-01-01", "2024-04-02")
    assert (422, "unknown_scope") == code("session:s1", "2024-04-01", "2024-04-02")
    assert (404, "unknown_quiz") == code("quiz:nobody", "2024-04-01", "2024-04-02")
    reply = httpx.get(f"{api.url}/v1/leaderboards/global", params={"from": "2024-04-01"})
    assert (422, "missing_field") == (reply.status_code, reply.json()["code"])


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
    finally:
        api.stop()


def test_a_stopped_query_ends_and_a_large_one_is_refused(
    record: Recorded, small_lake: SmallLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contracts.boards import Scope
    from contracts.errors import BadInput, SystemMissing
    from contracts.periods import Span
    from contracts.replies import Wanted
    from lake import ranges
    from lake.views import Lake

    answers = model.play(83, users=30, sessions=9)
    record.play(answers)
    record.relay()
    small_lake.take()
    lake = Lake(record.postgres_url, small_lake.warehouse, tmp_path / "cache")

    def query() -> ranges.RangeQuery:
        whole = Span(FIRST_US, FIRST_US + 9 * DAY_US)
        return ranges.RangeQuery(lake, Scope("global"), "UTC", whole, ranges.Sources(answers=[whole]))

    stopped = query()
    stopped.stop()
    with pytest.raises(SystemMissing, match="stopped"):
        stopped.run(Wanted())
    stopped.stop()
    monkeypatch.setattr(ranges, "MEMORY_LIMIT", "1KB")
    with pytest.raises(BadInput, match="range_too_large"):
        query().run(Wanted())
