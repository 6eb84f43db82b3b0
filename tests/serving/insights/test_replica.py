"""The replica's state and its routes, without Kafka: folds, bounds, coded errors. With it: test_replica_on_kafka."""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts import names
from contracts.settings import Settings
from contracts.sketched import DAY_US, HOUR_US, LEVEL_US
from serving import problems
from serving.insights import approx_routes, routes
from serving.insights import replica as replica_module
from serving.insights.replica import MINUTE_US, SketchReplica, Windows
from serving.relay.window_rows import Row, rows_of
from sketches.count_min import CountMin
from tests.serving.insights.sketched import Answer, minutes_of, misses, play

pytestmark = pytest.mark.unit
# In what the topic keeps as minutes, and not in the last hour.
START = (time.time_ns() // 1000 // MINUTE_US - 90) * MINUTE_US


def sketch_record(start: int, misses: dict[str, int]) -> tuple[bytes, bytes]:
    sketch = CountMin.from_error()
    for key, count in misses.items():
        sketch.update("question", key, count)
    key = {"kind": "missed_questions", "level": "minute", "window_start_us": start}
    row = {
        **key,
        "window_end_us": start + MINUTE_US,
        "answers": 9,
        "heaviest": sorted(misses),
        "sketch": base64.b64encode(sketch.to_bytes()).decode(),
    }
    return json.dumps(key).encode(), json.dumps(row).encode()


def top_record(start: int, place: int, subject: str, amount: int) -> tuple[bytes, bytes]:
    key = {"kind": "users", "scope": "global", "level": "minute", "window_start_us": start, "place": place}
    row = {
        **key,
        "window_end_us": start + MINUTE_US,
        "subject_id": subject,
        "amount": amount,
        "reached_at_us": start if amount else None,
    }
    return json.dumps(key).encode(), json.dumps(row).encode()


def test_top_records_that_fit_nothing_are_counted_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "MAX_WINDOWS", 2)
    windows = Windows()
    for record in ((b"{}", b"{}"), (b"x", b"{}"), (None, None)):
        windows.apply(*record)
    assert windows.skipped == 3
    for minute in range(3):
        for _ in range(2):  # a repeat changes nothing
            windows.apply(*top_record(START + minute * MINUTE_US, 1, "a", minute))
    assert [window["start_us"] for window in windows.top("users", 9)] == [
        START + 2 * MINUTE_US,
        START + MINUTE_US,
    ]


def client(replica: SketchReplica | None) -> TestClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(approx_routes.router)
    app.state.connections = SimpleNamespace(settings=Settings())
    if replica is not None:
        app.state.sketch_replica = replica
    return TestClient(app, raise_server_exceptions=False)


def filled(answers: list[Answer] = (), *, heard_s: float = 0.0, behind: int = 0) -> SketchReplica:  # type: ignore[assignment]
    """A replica that has read what Flink wrote of the answers, `heard_s` seconds ago."""
    replica = SketchReplica("127.0.0.1:1")
    for offset, record in enumerate(minutes_of(list(answers))):
        replica.sketches.apply(record.key.encode(), record.encode(), offset)
    replica._records, replica._seen = behind, time.monotonic() - heard_s
    return replica


PLAYED = play(5, START, range(10))
SPAN = {"from": str(START // 1_000_000), "to": str(START // 1_000_000 + 600)}


def test_windows_are_told_with_lag() -> None:
    replica = filled()
    replica.windows.apply(*top_record(START, 2, "b", 0))
    replica.windows.apply(*top_record(START, 1, "a", 700))
    top = client(replica).get("/v1/windows/users").json()
    assert [(row["rank"], row["id"], row["amount"]) for row in top["windows"][0]["entries"]] == [
        (1, "a", 700),
        (2, "b", 0),
    ]
    assert top["replica"]["lag_records"] == 0
    empty = client(replica).get("/v1/windows/quizzes").json()
    assert (empty["windows"], empty["as_of"]) == ([], None)


def test_misses_of_each_subject() -> None:
    one = client(filled(PLAYED))
    for subject, kind in (
        ("question", "questions"),
        ("quiz", "quizzes"),
        ("type", "types"),
        ("word", "words"),
    ):
        truth = misses(PLAYED, f"missed_{kind}")
        key, count = max(truth.items())
        reply: dict[str, Any] = one.get(f"/v1/approx/misses/{subject}/{key}", params=SPAN).json()
        assert (reply["id"], reply["estimate"], reply["total"]) == (key, count, sum(truth.values()))
        assert reply["lower"] <= count <= reply["upper"] and reply["bound"] >= 1
        assert reply["confidence"] == pytest.approx(0.99)
        assert (reply["windows"], reply["from_lake"], reply["late"]) == (10, 0, 0)
        assert reply["provenance"]["exactness"] == "estimate"
        assert reply["as_of"] == reply["to"]
    word = one.get("/v1/approx/misses/word/Ice%20Cream", params=SPAN).json()
    assert (word["id"], word["estimate"]) == ("ice-cream", misses(PLAYED, "missed_words")["ice-cream"])


def test_heaviest_participants_and_quantiles() -> None:
    one = client(filled(PLAYED))
    truth = misses(PLAYED, "missed_words")
    heavy = one.get("/v1/approx/heaviest/word", params={**SPAN, "k": 2}).json()
    expected = sorted(truth.items(), key=lambda item: (-item[1], item[0]))[:2]
    assert [(row["place"], row["id"], row["estimate"]) for row in heavy["entries"]] == [
        (place, *item) for place, item in enumerate(expected, 1)
    ]
    users = one.get("/v1/approx/participants", params=SPAN).json()
    assert users["lower"] <= len({answer.user_id for answer in PLAYED}) <= users["upper"]
    times = one.get("/v1/approx/elapsed_ms", params={**SPAN, "q": [0.5, 1.0]}).json()
    assert times["answers"] == len(PLAYED)
    assert times["quantiles"][1]["estimate"] == max(answer.elapsed_ms for answer in PLAYED)
    points = one.get("/v1/approx/points", params={**SPAN, "q": [0.0, 1.0]}).json()
    extremes = [min(answer.points for answer in PLAYED), max(answer.points for answer in PLAYED)]
    assert [row["estimate"] for row in points["quantiles"]] == extremes
    assert [row["q"] for row in one.get("/v1/approx/elapsed_ms", params=SPAN).json()["quantiles"]] == [
        0.5,
        0.95,
        0.99,
    ]


def test_edges_that_cut_a_minute_are_left_out_and_the_reply_says_so() -> None:
    one = client(filled(PLAYED))
    inner = {"from": str(START / 1e6 + 1), "to": str(START / 1e6 + 599)}
    reply = one.get("/v1/approx/participants", params=inner).json()
    assert reply["windows"] == 8
    assert reply["from"] == routes.iso(START + MINUTE_US) and reply["to"] == routes.iso(START + 9 * MINUTE_US)
    past = {"from": SPAN["from"], "to": str(START // 1_000_000 + 3600)}
    reply = one.get("/v1/approx/participants", params=past).json()
    assert reply["as_of"] == routes.iso(START + 10 * MINUTE_US), "nothing is known of what comes after it"


def test_a_replica_that_is_behind_says_so() -> None:
    unread = SketchReplica("127.0.0.1:1")
    for replica in (unread, filled(PLAYED, heard_s=31), filled(PLAYED, behind=501)):
        for path in ("misses/word/run", "heaviest/word", "participants", "elapsed_ms", "points"):
            found = client(replica).get(f"/v1/approx/{path}", params=SPAN)
            assert (found.status_code, found.json()["code"]) == (503, "replica_behind")
    assert (
        client(filled(PLAYED, heard_s=20, behind=500)).get("/v1/approx/participants", params=SPAN).status_code
        == 200
    )


def test_windows_that_only_a_lake_has_need_one() -> None:
    answers = play(6, time.time_ns() // 1000 // DAY_US * DAY_US - 500 * DAY_US, range(2))
    start = answers[0].occurred_at_us // LEVEL_US["hour"] * LEVEL_US["hour"]
    span = {"from": str(start // 1_000_000), "to": str((start + HOUR_US) // 1_000_000)}
    found = client(filled()).get("/v1/approx/participants", params=span)
    assert (found.status_code, found.json()["code"]) == (503, "system_missing")


def health_record(day: int, place: int, reason: str, amount: int) -> tuple[bytes, bytes]:
    key = {"kind": "health", "window_start_us": day, "place": place}
    return json.dumps(key).encode(), json.dumps({**key, "subject_id": reason, "amount": amount}).encode()


def test_counts_of_skipped_records_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "MAX_HEALTH_DAYS", 2)
    replica, day = filled(), 86_400_000_000
    for record in (
        health_record(day, 1, "not_json", 1),
        health_record(2 * day, 1, "not_json", 2),
        health_record(3 * day, 1, "not_json", 3),
        health_record(3 * day, 2, "no_answer", 7),
        health_record(3 * day, 2, "no_answer", 8),
    ):
        replica.windows.apply(*record)
    assert replica.windows.health() == {2 * day: {"not_json": 2}, 3 * day: {"not_json": 3, "no_answer": 8}}
    reply = client(replica).get("/v1/windows/users").json()
    assert reply["replica"]["skipped"] == {"not_json": 3, "no_answer": 8}
    assert replica.windows.skipped == 0


def test_openapi_has_examples_with_the_fields_of_the_replies() -> None:
    one = client(filled(PLAYED))
    paths = one.get("/openapi.json").json()["paths"]
    for path, asked in {
        "/v1/approx/misses/{subject}/{id}": "/v1/approx/misses/word/run",
        "/v1/approx/misses/question/{quiz_id}/{question_id}": "/v1/approx/misses/question/z1/7",
        "/v1/approx/heaviest/{subject}": "/v1/approx/heaviest/word",
        "/v1/approx/participants": "/v1/approx/participants",
        "/v1/approx/elapsed_ms": "/v1/approx/elapsed_ms",
        "/v1/approx/points": "/v1/approx/points",
    }.items():
        said = paths[path]["get"]["responses"]
        example, found = (
            said["200"]["content"]["application/json"]["example"],
            one.get(asked, params=SPAN).json(),
        )
        assert (set(example), set(example["replica"])) == (set(found), set(found["replica"]))
        for rows in ("entries", "quantiles"):
            if rows in found:
                assert set(example[rows][0]) == set(found[rows][0])
        assert set(said) == {"200", "404", "422", "503"}
    top = paths["/v1/windows/{kind}"]["get"]["responses"]
    example = top["200"]["content"]["application/json"]["example"]
    assert set(example) == set(one.get("/v1/windows/users").json())


def test_routes_refuse_with_a_code() -> None:
    one = client(filled(PLAYED))
    assert one.get("/v1/approx/participants").json()["code"] == "not_found", "the last hour had no play"
    for path, code in {
        "participants?from=2026-01-02&to=2026-01-01": "invalid_field",
        "participants?from=2026-01-01T00:00:01Z&to=2026-01-01T00:00:59Z": "invalid_field",
        "participants?from=1900-01-01&to=2026-01-01": "range_too_large",
        "misses/question/7": "invalid_field",
        "misses/question/a%20b/7": "invalid_id",
        "misses/quiz/a%20b": "invalid_id",
        "misses/word/%20": "invalid_id",
        "misses/user/u1": "invalid_field",
        "heaviest/type": "invalid_field",
        "heaviest/word?k=101": "invalid_field",
        "elapsed_ms?q=1.5": "invalid_field",
    }.items():
        found = one.get(f"/v1/approx/{path}")
        assert (found.status_code, found.json()["code"]) == (422, code), path
    assert one.get("/v1/windows/words").json()["code"] == "invalid_field"
    for path in ("/v1/windows/users", "/v1/approx/participants"):
        missing = client(None).get(path)
        assert (missing.status_code, missing.json()["code"]) == (503, "system_missing")


def test_questdb_lines() -> None:
    _, sketch = sketch_record(START, {"1": 5})
    _, top = top_record(START, 1, "a b", 3)
    records = [
        SimpleNamespace(topic=names.SKETCHES, value=sketch),
        SimpleNamespace(topic=names.TOPK, value=top),
        SimpleNamespace(topic=names.TOPK, value=None),
        SimpleNamespace(topic=names.TOPK, value=b"{}"),
    ]
    rows, skipped = rows_of(records)
    assert skipped == 1
    estimate = {
        "estimate": 5,
        "lower": 4,
        "upper": 5,
        "bound": 1,
        "confidence": 0.99,
        "late": 0,
        "answers": 9,
    }
    place = {"place": 1, "amount": 3, "window_end": START + MINUTE_US, "reached_at": START}
    sketch_key = {"sketch": "missed_questions", "level": "minute", "subject_id": "1"}
    top_key = {"kind": "users", "scope": "global", "level": "minute", "subject_id": "a b"}
    assert rows == [
        Row(
            "missed_questions",
            START,
            {
                "question_id": "1",
                "level": "minute",
                **{name: value for name, value in estimate.items() if name != "late"},
                "total": 5,
                "window_end": START + MINUTE_US,
            },
        ),
        Row("estimates", START, {**sketch_key, **estimate, "window_end": START + MINUTE_US}),
        Row("top_k", START, {**top_key, **place}),
    ]
