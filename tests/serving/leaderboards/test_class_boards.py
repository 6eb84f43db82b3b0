"""Boards of classes, over HTTP: live, settled and any range, row for row as SQL over the answers and the stays says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contracts.corrections import REMOVAL, RULE_CHANGE, Correction
from contracts.periods import span
from contracts.ranking import HOUR_US, SECOND_US
from serving.access.tokens import PLAYER, Identity, sign
from tests import model
from tests.serving.api_process import IMPORTER_KEY, JWT_KEY, ApiProcess
from tests.serving.leaderboards.classes import (
    StayOf,
    accounts_of,
    class_board,
    counted_by,
    put_class,
    random_stays,
)
from tests.serving.leaderboards.test_any_range import DAY_US, FIRST_US, instant_of, shown
from tests.serving.leaderboards.test_as_published import correct
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
SEED = 71
PERIODS = (
    ("daily", "2024-03-30"),
    ("daily", "2024-03-31"),
    ("daily", "2024-04-01"),
    ("weekly", "2024-03-25"),
    ("weekly", "2024-04-01"),
    ("monthly", "2024-03-01"),
    ("monthly", "2024-04-01"),
    ("all_time", "current"),
)
RANGES = (
    ("2024-03-28", "2024-04-06"),
    ("2024-03-30", "2024-04-02"),
    ("2024-03-31T07:11:12.5Z", "2024-04-01T20:00:00Z"),
    ("2024-03-31T01:00:00Z", "2024-03-31T22:00:00Z"),
    ("2024-02-28", "2024-04-02T10:00:00Z"),
)


def client_of(api: ApiProcess) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60)


@pytest.fixture
def http(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client with the importer's key, of an api that has a lake."""
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    with client_of(api) as client:
        yield client
    api.stop()


@pytest.fixture
def live(record: Recorded, tmp_path: Path) -> Iterator[httpx.Client]:
    """The same of an api without a lake."""
    api = ApiProcess(tmp_path / "live", record.valkey_urls, record.postgres_url)
    with client_of(api) as client:
        yield client
    api.stop()


def ask(http: httpx.Client, path: str, **params: Any) -> dict[str, Any]:
    reply = http.get(f"/v1/leaderboards/class:c1{path}", params={"k": 1000, **params})
    assert 200 == reply.status_code, reply.text
    found: dict[str, Any] = reply.json()
    return found


def refused(http: httpx.Client, path: str, **params: Any) -> tuple[int, str]:
    reply = http.get(f"/v1/leaderboards/class:c1{path}", params=params)
    return reply.status_code, reply.json()["code"]


def bounds(period: str, start: str) -> tuple[int, int]:
    if period == "all_time":
        return 0, 1 << 62
    whole = span(period, date.fromisoformat(start))
    return whole.start_us, whole.end_us


def assert_boards(
    http: httpx.Client, counted: Any, chance: random.Random, ranges: tuple[tuple[str, str], ...] = RANGES
) -> set[str]:
    """Every period and range, around somebody and several users' ranks; the sources of all parts."""
    sources = set()
    asks: list[tuple[str, dict[str, Any], int, int, int]] = [
        (f"/{period}/{start}", {}, *bounds(period, start), HOUR_US if period == "all_time" else SECOND_US)
        for period, start in PERIODS
    ]
    asks += [
        ("", {"from": low, "to": high}, instant_of(low, "UTC"), instant_of(high, "UTC"), SECOND_US)
        for low, high in ranges
    ]
    for path, params, low_us, high_us, tick_us in asks:
        reply = ask(http, path, explain=True, **params)
        rows = class_board(counted, low_us, high_us, tick_us)
        assert rows == shown(reply["entries"]), (SEED, path, params)
        assert len(rows) == reply["participants"]
        assert ("exact", "class:c1") == (reply["provenance"]["exactness"], reply["scope"])
        sources |= {part["source"] for part in reply["explain"]["parts"]} | {reply["provenance"]["source"]}
        if rows:
            row = chance.choice(rows)
            near = ask(http, path, k=1, around=row[1], m=2, users=f"{row[1]},nobody", **params)
            assert rows[max(row[0] - 3, 0) : row[0] + 2] == shown(near["around"])
            assert (rows[:1], row[0]) == (shown(near["entries"]), near["me"]["rank"])
            assert [row] == shown([rank["entry"] for rank in near["ranks"] if rank["entry"]])
            assert near["ranks"][1]["entry"] is None
    return sources


def played(record: Recorded, seed: int, **more: int) -> list[model.Answer]:
    answers = model.play(seed, **{"days": 4, "users": 14, "sessions": 14, **more})
    record.play(answers)
    record.relay()
    return arrivals(answers)


def users_of(answers: list[model.Answer]) -> list[str]:
    return sorted({answer.user_id for answer in answers})


def test_live_boards_without_a_lake(live: httpx.Client, record: Recorded) -> None:
    chance, answers = random.Random(SEED), played(record, SEED)
    for _ in range(3):
        stays = random_stays(chance, users_of(answers), FIRST_US, 6)
        put_class(record, "c1", stays)
        assert {"redis", "history", "mixed"} <= assert_boards(live, counted_by(answers, stays), chance)
    # Members all the time: the parent's boards alone, which is all that ZMSCORE has to say.
    always = [StayOf(user, 0, None) for user in users_of(answers)[::2]]
    put_class(record, "c1", always)
    for period, start in PERIODS:
        reply = ask(live, f"/{period}/{start}", explain=True)
        assert ("redis", 1) == (reply["provenance"]["source"], len(reply["explain"]["parts"]))
        tick_us = HOUR_US if period == "all_time" else SECOND_US
        assert class_board(counted_by(answers, always), *bounds(period, start), tick_us) == shown(
            reply["entries"]
        )
    put_class(record, "c1", [])
    empty = ask(live, "/weekly/2024-03-25")
    assert ([], 0, "exact") == (empty["entries"], empty["participants"], empty["provenance"]["exactness"])
    assert (404, "board_not_kept") == refused(live, "/daily/2024-03-30", measure="plays")
    assert (404, "board_not_kept") == refused(live, "/daily/2024-03-30", subject="quiz")


def settle_month(record: Recorded, settlement: str) -> None:
    """A published month has all its days published, empty ones too; the small lake publishes those with answers."""
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "INSERT INTO settlement_periods (settlement_id, period, start, zone, version)"
            " SELECT %s, 'daily', day::date, 'UTC', 1 FROM"
            " generate_series('2024-03-01'::timestamp, '2024-03-31'::timestamp, '1 day') day ON CONFLICT DO NOTHING",
            (settlement,),
        )


def test_boards_before_and_after_settling(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    chance, answers = random.Random(SEED), played(record, SEED + 2)
    small_lake.take()
    stays = random_stays(chance, users_of(answers), FIRST_US, 6)
    put_class(record, "c1", stays)
    counted = counted_by(answers, stays)
    assert {"redis", "history", "answers", "mixed"} <= assert_boards(http, counted, chance)
    open_days = {("daily", "2024-04-02"), ("weekly", "2024-04-01"), ("monthly", "2024-04-01")}
    settle_month(record, small_lake.settle(leave_out=open_days))
    settled = assert_boards(http, counted, chance)
    assert {"user_days", "user_months", "answers", "redis", "history", "mixed", "lake"} <= settled
    march = ask(http, "/monthly/2024-03-01", explain=True)
    assert ("lake", "settled", "1") == tuple(
        march["provenance"][name] for name in ("source", "state", "settlement")
    )
    assert {"user_months", "user_days", "answers"} == {part["source"] for part in march["explain"]["parts"]}
    assert ("daily", "2024-03-31", None) == tuple(
        ask(http, "/daily/2024-03-31")[name] for name in ("period", "start", "end")
    )
    # Other lists of members, over the same snapshots: pages that are kept are of their members.
    for _ in range(2):
        stays = random_stays(chance, users_of(answers), FIRST_US, 6)
        put_class(record, "c1", stays)
        assert_boards(http, counted_by(answers, stays), chance, RANGES[:2])


def test_other_subjects_and_measures(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    chance, answers = random.Random(SEED), played(record, SEED + 3)
    stays = random_stays(chance, users_of(answers), FIRST_US, 6)
    put_class(record, "c1", stays)
    counted = counted_by(answers, stays)
    small_lake.take()
    for settled in (False, True):
        if settled:
            small_lake.settle(leave_out={("daily", "2024-04-02")})
        for subject in ("user", "quiz", "question"):
            for measure in ("points", "plays", "misses"):
                named = {"subject": subject, "measure": measure}
                for low, high in chance.sample(RANGES, 2):
                    reply = ask(http, "", **{"from": low, "to": high}, **named)
                    at = instant_of(low, "UTC"), instant_of(high, "UTC")
                    rows = class_board(counted, *at, counting=(subject, measure))
                    assert rows == shown(reply["entries"]), (SEED, settled, named, low, high)
        month = bounds("monthly", "2024-03-01")
        reply = ask(http, "/monthly/2024-03-01", measure="plays")
        assert class_board(counted, *month, counting=("user", "plays")) == shown(reply["entries"])
    assert (422, "unknown_period") == refused(http, "/all_time/current", measure="plays")
    assert (422, "invalid_field") == refused(http, "/daily/current", subject="team")


def test_as_it_was_published(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    chance, answers = random.Random(SEED), played(record, SEED + 4)
    small_lake.take()
    stays = random_stays(chance, users_of(answers), FIRST_US, 6)
    # One who was there for the late answer, so that it shows.
    stays = [one for one in stays if one.user_id != answers[0].user_id]
    stays.append(StayOf(answers[0].user_id, 0, None))
    put_class(record, "c1", stays)
    one = small_lake.settle()
    late = replace(answers[0], question_id="late", correct=True, elapsed_ms=1)
    record.play([late])
    record.relay()
    small_lake.take()
    two = small_lake.settle(version=2)
    month = bounds("monthly", "2024-03-01")
    before = class_board(counted_by(answers, stays), *month)
    after = class_board(counted_by([*answers, late], stays), *month)
    assert before != after
    assert before == shown(ask(http, "/monthly/2024-03-01", settlement=one)["entries"])
    for then in ({}, {"settlement": two}):
        assert after == shown(ask(http, "/monthly/2024-03-01", **then)["entries"])
    assert (404, "unknown_settlement") == refused(http, "/monthly/2024-03-01", settlement="99")
    assert (422, "unknown_period") == refused(http, "/all_time/current", settlement=one)


def test_corrections_hold_on_cut_days_too(live: httpx.Client, record: Recorded) -> None:
    answers = played(record, SEED + 5)
    at = FIRST_US + 2 * DAY_US + DAY_US // 2
    stays = [StayOf(user, at, None) for user in users_of(answers)]
    put_class(record, "c1", stays)
    gone = next(a for a in answers if at <= a.occurred_at_us < FIRST_US + 3 * DAY_US)
    correct(
        record,
        Correction(1, RULE_CHANGE, 1, "easier", quiz_id="q1", rule="correct@1"),
        Correction(2, REMOVAL, 2, "cheated", user_id=gone.user_id),
    )
    reply = ask(live, "/daily/2024-03-31", explain=True)
    assert {"history"} == {part["source"] for part in reply["explain"]["parts"]}
    low, high = at, bounds("daily", "2024-03-31")[1]
    sums: dict[str, int] = {}
    for a in model.counted(answers):
        if low <= a.occurred_at_us < high and a.user_id != gone.user_id:
            points = int(a.correct) if a.quiz_id == "q1" else model.points_of(a)
            sums[a.user_id] = sums.get(a.user_id, 0) + points
    assert sums and sums == {one["user_id"]: one["points"] for one in reply["entries"]}


def test_a_member_on_many_boards_and_a_fast_estimate(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    answers = played(record, SEED + 6)
    small_lake.take()
    users = users_of(answers)
    put_class(record, "c1", [StayOf(user, 0, None) for user in users], owner="teacher")
    names = "class:c1/weekly/2024-03-25,global/weekly/2024-03-25,class:other/daily/current"
    logged_in = accounts_of(record.postgres_url, [users[0], "eve"])
    member, stranger = logged_in[users[0]], logged_in["eve"]
    seat = {"Authorization": f"Bearer {sign(Identity(users[0], PLAYER), JWT_KEY)}"}
    del http.headers["X-API-Key"]
    found = http.get(f"/v1/users/{users[0]}/ranks", params={"boards": names}, headers=member).json()["ranks"]
    assert found[0]["entry"] == found[1]["entry"] and found[0]["entry"]
    assert "unknown_class" == found[2]["error"]["code"]
    for headers, code in ((stranger, "forbidden"), (seat, "account_needed"), ({}, "unauthenticated")):
        found = http.get(f"/v1/users/{users[0]}/ranks", params={"boards": names}, headers=headers).json()
        assert code == found["ranks"][0]["error"]["code"] and found["ranks"][1]["entry"]
    fast = http.get(
        "/v1/leaderboards/class:c1",
        params={"from": "2024-03-28", "to": "2024-04-06", "accuracy": "fast", "users": users[0]},
        headers=member,
    ).json()
    assert "estimate" == fast["provenance"]["exactness"] and fast["provenance"]["bound"]["value"] > 0


def test_what_is_no_longer_live(live: httpx.Client, record: Recorded) -> None:
    answers = played(record, SEED + 7)
    put_class(record, "c1", [StayOf(users_of(answers)[0], FIRST_US + DAY_US + 5, None)])
    assert 200 == live.get("/v1/leaderboards/class:c1/weekly/2024-03-25").status_code
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "INSERT INTO archived_months (month, entries, checksum, through, snapshots)"
            " VALUES ('2024-03-01', 0, 0, '{}', '{}')"
        )
    assert (404, "board_not_kept") == refused(live, "/weekly/2024-03-25")
    # No piece of April is in an archived month.
    assert 200 == live.get("/v1/leaderboards/class:c1/daily/2024-04-01").status_code
    with psycopg.connect(record.postgres_url) as sql:
        now = int(datetime.now(UTC).timestamp() * 1e6)
        sql.execute("UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(now),))
    for path in ("/daily/2024-04-01", "/all_time/current"):
        assert (404, "board_not_kept") == refused(live, path)
    today = datetime.now(UTC).date()
    assert 200 == live.get(f"/v1/leaderboards/class:c1/daily/{today + timedelta(days=1)}").status_code
