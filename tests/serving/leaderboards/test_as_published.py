"""Ranges and periods as a settlement left them, months taken whole, corrections, estimates, ranks and ETags, over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contracts.corrections import REMOVAL, RULE_CHANGE, Correction, encode
from contracts.sampling import bucket
from contracts.settings import Settings
from serving.connections import Connections
from tests import model
from tests.serving.api_process import ApiProcess
from tests.serving.leaderboards.test_any_range import expected, instant_of, rows_shown, shown
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
WHOLE = ("2024-03-29", "2024-04-03")
# March whole, from its month; the end of February and April from days and answers.
MONTH = ("2024-02-28", "2024-04-02T10:00:00Z")


@pytest.fixture
def http(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of an api that has a lake."""
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    with httpx.Client(base_url=api.url, timeout=60) as client:
        yield client
    api.stop()


def ask(http: httpx.Client, scope: str, low: str, high: str, **more: Any) -> dict[str, Any]:
    reply = http.get(f"/v1/leaderboards/{scope}", params={"from": low, "to": high, "k": 1000, **more})
    assert 200 == reply.status_code, reply.text
    found: dict[str, Any] = reply.json()
    return found


def refused(http: httpx.Client, path: str, **params: Any) -> tuple[int, str]:
    reply = http.get(f"/v1/leaderboards/{path}", params=params)
    return reply.status_code, reply.json()["code"]


def rows_in(answers: list[model.Answer], scope: str, low: str, high: str, zone: str = "UTC") -> list[Any]:
    return rows_shown(expected(answers, scope, instant_of(low, zone), instant_of(high, zone)))


def sources_of(reply: dict[str, Any]) -> set[str]:
    return {part["source"] for part in reply["explain"]["parts"]}


def correct(record: Recorded, *corrections: Correction) -> None:
    """Put corrections in force now."""
    with psycopg.connect(record.postgres_url) as sql:
        for one in corrections:
            sql.execute(
                "INSERT INTO corrections (id, event, in_force_at) VALUES (%s, %s, now())",
                (one.correction_id, encode(one)),
            )


async def rename(record: Recorded, user: str, name: str) -> None:
    """Change a user's name as a user does, in another process than the one that is asked."""
    settings = Settings(valkey_urls=tuple(record.valkey_urls), postgres_url=record.postgres_url)
    connections = Connections.of(settings)
    await connections.postgres.open(wait=False)
    try:
        async with connections.sql() as sql, connections.profiles.change(sql, user):
            await sql.execute("UPDATE users SET name = %s WHERE user_id = %s", [name, user])
    finally:
        await connections.close()


def created_at(record: Recorded, settlement: str) -> datetime:
    with psycopg.connect(record.postgres_url) as sql:
        row = sql.execute("SELECT created_at FROM settlements WHERE id = %s", (settlement,)).fetchone()
        assert row is not None
        moment: datetime = row[0]
        return moment.astimezone(UTC)


def test_the_past_stays_as_it_was_published(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    first = model.play(91, days=4, users=12, sessions=12)
    record.play(first)
    record.relay()
    small_lake.take()
    before = arrivals(first)
    assert (404, "unknown_settlement") == refused(http, "global", **_range(WHOLE), as_of="2026-01-01")
    april = [
        (period, start)
        for _, period, start in small_lake.boards()
        if start == "2024-04-01" and period == "daily"
    ]
    one = small_lake.settle(leave_out=april)
    reply = ask(http, "global", *MONTH, explain=True)
    assert rows_in(before, "global", *MONTH) == shown(reply["entries"])
    assert {"user_months", "redis", "answers"} <= sources_of(reply)
    months = [part for part in reply["explain"]["parts"] if part["month"]]
    assert ["2024-03-01"] == [part["month"] for part in months]
    # A late answer, and another settlement that knows it: now and then differ, and both stay.
    late = replace(before[0], question_id="late", correct=True, elapsed_ms=1)
    record.play([late])
    record.relay()
    small_lake.take()
    two = small_lake.settle(version=2)
    now = [*before, late]
    moment = created_at(record, one)
    for low, high in (WHOLE, MONTH, ("2024-03-29T12:34:56.5Z", "2024-04-02T01:00:00Z")):
        assert rows_in(now, "global", low, high) == shown(ask(http, "global", low, high)["entries"])
        for then in ({"settlement": one}, {"as_of": moment.isoformat()}):
            reply = ask(http, "global", low, high, explain=True, **then)
            assert rows_in(before, "global", low, high) == shown(reply["entries"])
            assert one == reply["provenance"]["settlement"]
            assert "redis" not in sources_of(reply) and "lake" == reply["provenance"]["source"]
        assert two == ask(http, "global", low, high, settlement=two)["provenance"]["settlement"]
    # What a published board says it is as of asks for the same again.
    told = ask(http, "global", "2024-03-01", "2024-04-01", settlement=one)["provenance"]["as_of"]
    assert one == ask(http, "global", *WHOLE, as_of=told)["provenance"]["settlement"]
    assert_periods_as_published(http, before, now, one, moment)


def assert_periods_as_published(
    http: httpx.Client, before: list[model.Answer], now: list[model.Answer], one: str, moment: datetime
) -> None:
    """A day that the first settlement left out comes from its answers; a month as it was published."""

    def board(period: str, start: str, **params: Any) -> dict[str, Any]:
        reply = http.get(f"/v1/leaderboards/global/{period}/{start}", params={"k": 1000, **params})
        assert 200 == reply.status_code, reply.text
        found: dict[str, Any] = reply.json()
        return found

    then = {"as_of": moment.isoformat(), "explain": True}
    day = board("daily", "2024-04-01", **then)
    assert rows_in(before, "global", "2024-04-01", "2024-04-02") == shown(day["entries"])
    assert ("lake", "provisional", {"answers"}) == (
        day["provenance"]["source"],
        day["provenance"]["state"],
        sources_of(day),
    )
    assert ("daily", "2024-04-01", None) == (day["period"], day["start"], day["end"])
    month = board("monthly", "2024-03-01", **then)
    assert rows_in(before, "global", "2024-03-01", "2024-04-01") == shown(month["entries"])
    assert (one, {"rankings"}) == (month["provenance"]["settlement"], sources_of(month))
    assert month["explain"]["files"] >= 1
    assert rows_in(now, "global", "2024-03-01", "2024-04-01") == shown(
        board("monthly", "2024-03-01")["entries"]
    )
    assert (404, "unknown_settlement") == refused(http, "global/monthly/2024-03-01", as_of="2020-01-01")
    assert (422, "unknown_period") == refused(http, "global/all_time/current", as_of=moment.isoformat())
    assert (422, "invalid_field") == refused(
        http, "global/monthly/2024-03-01", as_of="2030-01-01", settlement=one
    )
    assert (404, "unknown_settlement") == refused(http, "global", **_range(WHOLE), settlement="77")


def _range(bounds: tuple[str, str]) -> dict[str, str]:
    return {"from": bounds[0], "to": bounds[1]}


def test_corrections_in_force_change_edges_and_only_since(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    answers = model.play(92, days=4, users=10, sessions=10)
    record.play(answers)
    record.relay()
    small_lake.take()
    mine = arrivals(answers)
    one = small_lake.settle()
    gone, changed = mine[0].user_id, mine[0].quiz_id
    correct(
        record,
        Correction(1, RULE_CHANGE, 1, "easier", quiz_id=changed, rule="correct@1"),
        Correction(2, REMOVAL, 2, "cheated", user_id=gone),
    )
    edge = ("2024-03-31T00:00:01Z", "2024-03-31T23:59:59Z")
    kept = [
        a
        for a in model.counted(mine)
        if a.user_id != gone and instant_of(edge[0], "UTC") <= a.occurred_at_us < instant_of(edge[1], "UTC")
    ]
    points: dict[str, int] = {}
    for a in kept:
        points[a.user_id] = points.get(a.user_id, 0) + (
            int(a.correct) if a.quiz_id == changed else model.points_of(a)
        )
    assert kept and any(a.quiz_id == changed for a in kept)
    reply = ask(http, "global", *edge)
    assert points == {entry["user_id"]: entry["points"] for entry in reply["entries"]}
    plays: dict[str, int] = {}
    for a in kept:
        plays[a.quiz_id] = plays.get(a.quiz_id, 0) + 1
    played = ask(http, "global", *edge, subject="quiz", measure="plays")
    assert plays == {entry["user_id"]: entry["points"] for entry in played["entries"]}
    assert played["provenance"]["exactness"] == "exact"
    # The first settlement was made before they held.
    assert rows_in(mine, "global", *edge) == shown(ask(http, "global", *edge, settlement=one)["entries"])


def test_days_are_the_scopes_and_bounds_the_callers(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    answers = model.play(93, days=4, users=10, sessions=12)
    record.play(answers)
    record.relay()
    small_lake.take()
    small_lake.settle()
    scopes = {f"quiz:{a.quiz_id}": a.zone for a in answers} | {"global": "UTC"}
    for scope, own in scopes.items():
        for zone in ("Asia/Kolkata", "America/St_Johns", "Europe/Paris", own):
            reply = ask(http, scope, "2024-03-30", "2024-04-02", zone=zone, explain=True)
            assert rows_in(arrivals(answers), scope, "2024-03-30", "2024-04-02", zone) == shown(
                reply["entries"]
            )
            assert ("answers" in sources_of(reply)) == (_midnight(zone) != _midnight(own))
    assert (422, "unknown_zone") == refused(http, "global", **_range(WHOLE), zone="Mars/Base")
    assert (401, "unauthenticated") == refused(http, "global", **_range(WHOLE), fresh=True)
    assert (422, "invalid_field") == refused(http, "global", **_range(WHOLE), accuracy="best")
    assert (401, "unauthenticated") == refused(http, "class:c1", **_range(WHOLE))


def _midnight(zone: str) -> tuple[int, int]:
    return instant_of("2024-03-30", zone), instant_of("2024-04-02", zone)


def test_several_users_and_many_boards(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    answers = model.play(94, days=4, users=10, sessions=12)
    record.play(answers)
    record.relay()
    small_lake.take()
    small_lake.settle(leave_out={("daily", "2024-04-01")})
    chance = random.Random(94)
    users = sorted({a.user_id for a in answers})
    chance.shuffle(users)
    wanted = ["nobody", *users[:5]]
    paths = (
        "global/daily/2024-04-01",
        "global/daily/2024-03-31",
        "global/monthly/2024-03-01",
        f"quiz:{answers[0].quiz_id}/all_time/current",
    )
    for path in paths:
        full = http.get(f"/v1/leaderboards/{path}", params={"k": 1000}).json()
        ranks = http.get(f"/v1/leaderboards/{path}", params={"k": 0, "users": ",".join(wanted)}).json()[
            "ranks"
        ]
        assert_ranks(full, wanted, ranks)
    for bounds in (WHOLE, MONTH, ("2024-03-31", "2024-04-02")):
        full = ask(http, "global", *bounds)
        assert_ranks(full, wanted, ask(http, "global", *bounds, users=",".join(wanted), k=0)["ranks"])
    user = users[0]
    asked_for = [*paths, "global/daily/2024-04-31", "quiz:none/daily/2024-04-01", "nonsense"]
    reply = http.get(f"/v1/users/{user}/ranks", params={"boards": ",".join(asked_for)}).json()
    assert asked_for == [one["board"] for one in reply["ranks"]]
    for one in reply["ranks"][: len(paths)]:
        full = http.get(f"/v1/leaderboards/{one['board']}", params={"k": 1000}).json()
        assert next((e for e in full["entries"] if e["user_id"] == user), None) == one["entry"]
        assert (full["participants"], None) == (one["participants"], one["error"])
        assert full["provenance"]["source"] == one["provenance"]["source"]
    errors = [one["error"]["code"] for one in reply["ranks"][len(paths) :]]
    assert ["wrong_start", "unknown_quiz", "unknown_scope"] == errors
    many = ",".join(f"u{n}" for n in range(101))
    assert (422, "invalid_field") == refused(http, "global", **_range(WHOLE), users=many)
    assert (422, "invalid_id") == refused(http, "global", **_range(WHOLE), users="a b")
    too_many = http.get(
        f"/v1/users/{user}/ranks", params={"boards": ",".join(f"global/daily/{n}" for n in range(51))}
    )
    assert (422, "invalid_field") == (too_many.status_code, too_many.json()["code"])


def assert_ranks(full: dict[str, Any], wanted: list[str], ranks: list[dict[str, Any]]) -> None:
    by_user = {entry["user_id"]: entry for entry in full["entries"]}
    assert [(user, by_user.get(user)) for user in wanted] == [(one["user_id"], one["entry"]) for one in ranks]


def test_a_reply_that_the_caller_has_is_not_sent_again(
    http: httpx.Client, record: Recorded, small_lake: SmallLake
) -> None:
    answers = model.play(95, users=8, sessions=6)
    record.play(answers)
    record.relay()
    small_lake.take()
    small_lake.settle()
    for path, params in (("global", _range(("2024-03-30", "2024-04-02"))), ("global/monthly/2024-03-01", {})):
        first = http.get(f"/v1/leaderboards/{path}", params=params)
        tag = first.headers["etag"]
        again = http.get(f"/v1/leaderboards/{path}", params=params, headers={"If-None-Match": f'"x", {tag}'})
        assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
        asyncio.run(rename(record, answers[0].user_id, path))
        # Names are not kept with the rows: a new one shows at once, and is another reply.
        renamed = http.get(f"/v1/leaderboards/{path}", params=params, headers={"If-None-Match": tag})
        assert 200 == renamed.status_code and tag != renamed.headers["etag"]
        assert path in {entry["name"] for entry in renamed.json()["entries"]}


def test_an_estimate_says_its_bound(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    answers = model.play(96, days=4, users=140, sessions=4)
    record.play(answers)
    record.relay()
    small_lake.take()
    small_lake.settle(leave_out={("daily", "2024-04-01")})
    numbers = {event.user_id: event.user_no for event in small_lake.events}
    bounds = ("2024-03-28", "2024-04-03")
    exact = ask(http, "global", *bounds)
    by_user = {entry["user_id"]: entry for entry in exact["entries"]}
    # Users of days that are in Redis alone have no number in the lake; all of these are in answers or user_numbers.
    sample = [user for user in by_user if bucket(numbers[user]) == 0]
    other = next(user for user in by_user if bucket(numbers[user]) != 0)
    reply = ask(http, "global", *bounds, accuracy="fast", users=f"{other},nobody", around=other)
    provenance = reply["provenance"]
    assert ("estimate", 0.95) == (provenance["exactness"], provenance["bound"]["confidence"])
    assert 64 * len(sample) == reply["participants"]
    assert abs(len(by_user) - reply["participants"]) <= provenance["bound"]["value"]
    assert sample == [entry["user_id"] for entry in reply["entries"]]
    for place, entry in enumerate(reply["entries"]):
        truth = by_user[entry["user_id"]]
        assert (1 + 64 * place, truth["points"], truth["reached_at"]) == (
            entry["rank"],
            entry["points"],
            entry["reached_at"],
        )
    ahead = sum(by_user[user]["rank"] < by_user[other]["rank"] for user in sample)
    assert (1 + 64 * ahead, by_user[other]["points"]) == (reply["me"]["rank"], reply["me"]["points"])
    assert [(other, reply["me"]), ("nobody", None)] == [(r["user_id"], r["entry"]) for r in reply["ranks"]]
    assert reply["me"] in reply["around"] and len(reply["around"]) <= 11


def test_without_a_lake_there_is_no_estimate_and_no_past(record: Recorded, tmp_path: Path) -> None:
    record.play(model.play(97, users=4, sessions=2))
    record.relay()
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url)
    try:
        with httpx.Client(base_url=api.url, timeout=60) as http:
            assert (404, "board_not_kept") == refused(http, "global", **_range(WHOLE), accuracy="fast")
            assert (404, "unknown_settlement") == refused(http, "global", **_range(WHOLE), as_of="2030-01-01")
            day = (datetime(2024, 3, 30, tzinfo=UTC) + timedelta(days=1)).date()
            told = http.get(f"/v1/leaderboards/global/daily/{day}", params={"explain": True}).json()
            assert {"redis"} == sources_of(told)
    finally:
        api.stop()
