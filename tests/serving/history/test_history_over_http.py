"""A user's answers and sessions over HTTP, across the archive's boundary: every filter, page by page, as files."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contracts import names
from contracts.answer_filters import AnswerFilters
from contracts.events import AnswerEvent
from contracts.periods import Span, iso_ms, span
from serving.access.tokens import PLAYER, Identity, sign
from serving.history import routes
from serving.migrations.upgrade import upgrade
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.api_process import IMPORTER_KEY, JWT_KEY, ApiProcess
from tests.serving.recorded import Recorded, recorded
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
SEED = 111
MARCH = date(2024, 3, 1)
MARCH_SPAN = span("monthly", MARCH)
MODES = ("hosted", "challenge", "import")


@pytest.fixture
def record(tmp_path: Path, postgres_url: str) -> Iterator[Recorded]:
    daemons = [start_valkey(tmp_path / f"valkey_{number}") for number in (1, 2)]
    upgrade(postgres_url)
    yield recorded([daemon.url for daemon in daemons], postgres_url)
    for daemon in daemons:
        daemon.stop()


@pytest.fixture
def small_lake(record: Recorded, tmp_path: Path) -> SmallLake:
    return SmallLake(record.postgres_url, tmp_path / "warehouse")


@pytest.fixture
def http(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> Iterator[httpx.Client]:
    api = ApiProcess(
        tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse, limit_requests=""
    )
    with httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as client:
        yield client
    api.stop()


def archive_march(record: Recorded, lake: SmallLake, stays: Callable[[AnswerEvent], bool]) -> None:
    """March into the lake and out of history, but for answers that `stays` in both, as after a restore."""
    rows: dict[tuple[str, str], list[AnswerEvent]] = {}
    for event in lake.events:
        if MARCH_SPAN.holds(event.occurred_at_us):
            rows.setdefault((event.user_id, event.session_id), []).append(event)
    lake.append("user_sessions", [session_row(events) for events in rows.values()])
    snapshot = lake.catalog.load_table((names.NAMESPACE, "user_sessions")).current_snapshot()
    assert snapshot is not None
    gone = [e.event_id for e in lake.events if MARCH_SPAN.holds(e.occurred_at_us) and not stays(e)]
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute("DELETE FROM history WHERE event_id = ANY(%s::uuid[])", (gone,))
        sql.execute(
            "INSERT INTO archived_months (month, entries, checksum, through, snapshots) VALUES (%s, 0, 0, '{}', %s)",
            (MARCH, json.dumps({"user_sessions": snapshot.snapshot_id})),
        )


def session_row(events: list[AnswerEvent]) -> dict[str, Any]:
    events = sorted(events, key=lambda e: (e.occurred_at_us, e.event_id))
    one = events[0]
    kept = (
        "event_id", "occurred_at_us", "question_id", "question_type", "choice", "correct", "elapsed_ms", "points", "rule",
    )  # fmt: skip
    return {
        "month": MARCH,
        "user_id": one.user_id,
        "user_no": one.user_no,
        "session_id": one.session_id,
        "quiz_id": one.quiz_id,
        "session_started_at_us": one.session_started_at_us,
        "first_at_us": one.occurred_at_us,
        "last_at_us": events[-1].occurred_at_us,
        "plays": len(events),
        "hits": sum(e.correct for e in events),
        "points": sum(e.points for e in events),
        "elapsed_ms": sum(e.elapsed_ms for e in events),
        "answers": [
            {**{name: getattr(e, name) for name in kept}, "skill_tags": [], "shard": 0, "seq": number}
            for number, e in enumerate(events)
        ],
    }


def as_told(event: AnswerEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "occurred_at": iso_ms(event.occurred_at_us),
        **{
            name: getattr(event, name)
            for name in (
                "session_id", "quiz_id", "question_id", "choice", "correct", "elapsed_ms", "points", "rule"
            )
        },
    }  # fmt: skip


def newest_first(events: list[AnswerEvent]) -> list[AnswerEvent]:
    return sorted(events, key=lambda e: (e.occurred_at_us, e.event_id), reverse=True)


def paged(http: httpx.Client, user: str, what: str, **params: Any) -> list[dict[str, Any]]:
    """All rows, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(200):
        reply = http.get(
            f"/v1/users/{user}/{what}", params={**params, **({"cursor": cursor} if cursor else {})}
        )
        assert 200 == reply.status_code, reply.text
        body = reply.json()
        rows = body["answers" if what == "history" else "sessions"]
        assert len(rows) <= params.get("limit", 50)
        found += rows
        cursor = body["next"]
        if not cursor:
            return found
    raise AssertionError("no end of pages")


def modes_of(record: Recorded, sessions: list[str]) -> dict[str, str]:
    """Gives each session a way it was played: by its row, by what sealing noted, or as it was imported."""
    found = {}
    with psycopg.connect(record.postgres_url) as sql:
        for number, session in enumerate(sessions):
            mode = MODES[number % 3]
            if mode != "import":
                by_row = number % 2 == 0
                sql.execute(
                    "UPDATE sessions SET origin = 'live', mode = %s, at_seal = %s WHERE session_id = %s",
                    (mode if by_row else None, None if by_row else json.dumps({"mode": mode}), session),
                )
            found[session] = mode
    return found


def test_histories_over_the_boundary(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    chance = random.Random(SEED)
    answers = model.play(SEED, days=4, users=5, sessions=40, quizzes=3)
    # An id that a spreadsheet would take for a formula.
    answers = [replace(a, quiz_id="-q0" if a.quiz_id == "q0" else a.quiz_id) for a in answers]
    record.play(answers)
    record.relay()
    small_lake.take()
    events = small_lake.events
    modes = modes_of(record, sorted({e.session_id for e in events}))
    users = sorted({e.user_id for e in events})
    for archived in (False, True):
        if archived:
            archive_march(record, small_lake, lambda e: e.user_id == users[0] and e.correct)
        for user in users[:4]:
            mine = [e for e in events if e.user_id == user]
            assert [as_told(e) for e in newest_first(mine)] == paged(http, user, "history", limit=7)
            assert_filtered(http, user, mine, modes, chance)
            assert_sessions(http, user, mine, modes, chance)
        assert_files(http, users[0], [e for e in events if e.user_id == users[0]])


def assert_filtered(
    http: httpx.Client, user: str, mine: list[AnswerEvent], modes: dict[str, str], chance: random.Random
) -> None:
    """Filters alone and together, on both sides of the end of March."""
    for number in range(8):
        one = chance.choice(mine)
        low, high = sorted(chance.choice(mine).occurred_at_us for _ in range(2))
        given = {
            "quiz": one.quiz_id,
            "session": one.session_id,
            "correct": chance.random() < 0.5,
            "mode": modes[one.session_id],
            "from": iso_ms(low // 1000 * 1000),
            "to": iso_ms(high // 1000 * 1000 + 1000),
        }
        chosen = chance.sample(sorted(given), 1 if number < 3 else 2)
        params = {name: given[name] for name in chosen}
        when = Span(
            low // 1000 * 1000 if "from" in params else 0,
            high // 1000 * 1000 + 1000 if "to" in params else 1 << 62,
        )
        filters = AnswerFilters(
            one.quiz_id if "quiz" in params else "",
            one.session_id if "session" in params else "",
            params.get("correct"),
            when,
            tuple(s for s, mode in modes.items() if mode == given["mode"]) if "mode" in params else None,
        )
        wanted = [
            e for e in newest_first(mine) if filters.lets({**as_told(e), "occurred_at_us": e.occurred_at_us})
        ]
        assert [as_told(e) for e in wanted] == paged(http, user, "history", limit=5, **params), (
            SEED,
            user,
            params,
        )


def assert_sessions(
    http: httpx.Client, user: str, mine: list[AnswerEvent], modes: dict[str, str], chance: random.Random
) -> None:
    """Each session once with its sums, also where its answers are on both sides of the boundary, or twice."""
    by_session: dict[str, list[AnswerEvent]] = {}
    for event in mine:
        by_session.setdefault(event.session_id, []).append(event)
    rows = []
    for session, own in by_session.items():
        at = [e.occurred_at_us for e in own]
        rows.append(
            {
                "session_id": session,
                "quiz_id": own[0].quiz_id,
                "mode": modes[session],
                "started_at": iso_ms(own[0].session_started_at_us),
                "first_at": iso_ms(min(at)),
                "last_at": iso_ms(max(at)),
                "answered": len(own),
                "right": sum(e.correct for e in own),
                "points": sum(e.points for e in own),
                "elapsed_ms": sum(e.elapsed_ms for e in own),
            }
        )
    order = {s: (own[0].session_started_at_us, s) for s, own in by_session.items()}
    rows.sort(key=lambda row: order[row["session_id"]], reverse=True)

    def told(**params: Any) -> list[dict[str, Any]]:
        found = paged(http, user, "sessions", limit=6, **params)
        return [{name: row[name] for name in rows[0]} for row in found]

    assert rows == told()
    one = chance.choice(rows)
    opened = http.get(f"/v1/users/{user}/sessions/{one['session_id']}").raise_for_status().json()
    assert one == {name: opened["session"][name] for name in one}
    earliest_first = newest_first(by_session[one["session_id"]])[::-1]
    # Imported questions have no text.
    assert [{**as_told(event), "prompt": ""} for event in earliest_first] == opened["answers"]
    quiz, mode = chance.choice(rows)["quiz_id"], chance.choice(MODES)
    assert [r for r in rows if r["quiz_id"] == quiz] == told(quiz=quiz)
    assert [r for r in rows if r["mode"] == mode] == told(mode=mode)
    middle = rows[len(rows) // 2]["started_at"]
    assert [r for r in rows if r["started_at"] < middle] == told(to=middle)


def assert_files(http: httpx.Client, user: str, mine: list[AnswerEvent]) -> None:
    """All of them in one file, as CSV and as JSON."""
    wanted = [as_told(e) for e in newest_first(mine)]
    reply = http.get(f"/v1/users/{user}/history", params={"format": "csv"}).raise_for_status()
    assert "attachment" in reply.headers["content-disposition"] and reply.text.startswith("\ufeff")
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.text.removeprefix("\ufeff"))))
    assert [row["event_id"] for row in wanted] == [row["event_id"] for row in rows]
    for row, want in zip(rows, wanted, strict=True):
        assert str(want["points"]) == row["points"] and ("yes" if want["correct"] else "no") == row["correct"]
        assert ("'-q0" if want["quiz_id"] == "-q0" else want["quiz_id"]) == row["quiz_id"]
        assert "" == row["choice"]
    reply = http.get(f"/v1/users/{user}/history", params={"file": True}).raise_for_status()
    assert wanted == reply.json() and "attachment" in reply.headers["content-disposition"]
    nothing = http.get(f"/v1/users/{user}/history", params={"file": True, "quiz": "none"})
    assert [] == nothing.json()
    nothing = http.get(f"/v1/users/{user}/history", params={"format": "csv", "quiz": "none"})
    assert [list(routes.FIELDS)] == list(csv.reader(io.StringIO(nothing.text.removeprefix("\ufeff"))))


def test_a_file_goes_over_pages(record: Recorded, http: httpx.Client) -> None:
    """More answers than one query of a file takes: none is lost between two of them."""
    count = routes.FILE_PAGE_ROWS + 7
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "CREATE TABLE history_2024_05 PARTITION OF history FOR VALUES FROM ('2024-05-01Z') TO ('2024-06-01Z')"
        )
        sql.execute(
            "INSERT INTO history (shard, seq, type, event_id, occurred_at, occurred_at_us, user_id, session_id, quiz_id,"
            " session_started_at_us, question_id, correct, elapsed_ms, points, rule, mode, event)"
            " SELECT 0, n, 'answer.v1', gen_random_uuid(), to_timestamp(at), at * 1000000, 'many', 's', 'q', 1, 'w' || n,"
            " true, 1, 1, 'speed@1', 'live', '' FROM (SELECT n, 1715000000::bigint + n / 3 AS at"
            " FROM generate_series(1, %s) n) r",
            (count,),
        )
    rows = http.get("/v1/users/many/history", params={"file": True}).json()
    assert count == len(rows) == len({row["event_id"] for row in rows})
    text = http.get("/v1/users/many/history", params={"format": "csv"}).text
    assert count + 1 == len(text.splitlines())


def test_a_session_says_from_its_beginning_how_it_is_played(http: httpx.Client, record: Recorded) -> None:
    for more, mode in (({}, "hosted"), ({"open_for_s": 600}, "challenge")):
        made = http.post("/v1/sessions", json={"quiz_id": "starter-a1", **more}).raise_for_status().json()
        with psycopg.connect(record.postgres_url) as sql:
            row = sql.execute(
                "SELECT mode FROM sessions WHERE session_id = %s", (made["session_id"],)
            ).fetchone()
        assert (mode,) == row


def test_who_may_and_what_is_refused(http: httpx.Client) -> None:
    def code(path: str, **params: Any) -> tuple[int, str]:
        reply = http.get(path, params=params)
        return reply.status_code, reply.json()["code"]

    assert (404, "unknown_session") == code("/v1/users/u1/sessions/s0")
    for what in ("history", "sessions"):
        for params, expected in (
            ({"cursor": "MS94"}, "invalid_field" if what == "history" else ""),
            ({"cursor": "%%"}, "invalid_field"),
            ({"mode": "tournament"}, "invalid_field"),
            ({"quiz": "a b"}, "invalid_id"),
            ({"from": "2024-01-02", "to": "2024-01-01"}, "wrong_start"),
            ({"from": "soon"}, "wrong_start"),
            ({"limit": 0}, "invalid_field"),
        ):
            if expected:
                assert (422, expected) == code(f"/v1/users/u1/{what}", **params), (what, params)
        token = sign(Identity("u2", PLAYER), JWT_KEY)
        del_key = {"X-API-Key": "", "Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=http.base_url, timeout=60) as other:
            headers = {"Authorization": del_key["Authorization"]}
            assert 403 == other.get(f"/v1/users/u1/{what}", headers=headers).status_code
            assert 200 == other.get(f"/v1/users/u2/{what}", headers=headers).status_code
            assert 401 == other.get(f"/v1/users/u2/{what}").status_code
