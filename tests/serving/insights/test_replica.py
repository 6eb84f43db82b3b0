"""The replica's state and its routes, without Kafka: folds, bounds widened by late answers, coded errors."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts import names
from serving import problems
from serving.insights import replica as replica_module
from serving.insights.replica import MINUTE_US, SketchReplica, Windows
from serving.insights.routes import router
from serving.relay.to_questdb import Row, rows_of
from sketches.count_min import CountMin

pytestmark = pytest.mark.unit
START = 29_000_000 * MINUTE_US


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
    key = {"kind": "users", "window_start_us": start, "place": place}
    row = {
        **key,
        "window_end_us": start + MINUTE_US,
        "subject_id": subject,
        "amount": amount,
        "reached_at_us": start if amount else None,
    }
    return json.dumps(key).encode(), json.dumps(row).encode()


def late_record(event_id: str, at: int, question: str, correct: bool = False) -> bytes:
    return json.dumps(
        {"event_id": event_id, "occurred_at_us": at, "question_id": question, "correct": correct}
    ).encode()


def filled() -> Windows:
    windows = Windows()
    for minute, misses in enumerate(({"1": 5, "2": 1}, {"1": 2}, {})):
        for _ in range(2):  # a repeat changes nothing
            windows.apply(names.SKETCHES, *sketch_record(START + minute * MINUTE_US, misses))
    return windows


def test_range_is_the_merge_of_its_whole_minutes() -> None:
    windows = filled()
    found = windows.estimate("1", START, START + 3 * MINUTE_US)
    assert found is not None
    assert (found.value, found.total, found.windows, found.late) == (7, 8, 3, 0)
    assert (found.from_us, found.to_us) == (START, START + 3 * MINUTE_US)
    part = windows.estimate("1", START + 1, START + 3 * MINUTE_US - 1)
    assert part is not None and (part.value, part.windows) == (2, 1)
    assert windows.estimate("1", START - 9, START) is None
    assert windows.as_of_us == START + 3 * MINUTE_US


def test_late_misses_widen_the_bound_once_each() -> None:
    windows = filled()
    before = windows.estimate("1", START, START + MINUTE_US)
    for event_id, at, question, correct in (
        ("a", START, "1", False),
        ("a", START, "1", False),
        ("b", START + 5, "1", False),
        ("c", START, "2", False),
        ("d", START, "1", True),
        ("e", START + MINUTE_US, "1", False),
    ):
        windows.apply(names.LATE, None, late_record(event_id, at, question, correct))
    after = windows.estimate("1", START, START + MINUTE_US)
    assert before is not None and after is not None
    assert (after.late, after.bound, after.upper) == (2, before.bound + 2, before.upper + 2)
    assert (after.value, after.lower) == (before.value, before.lower)


def test_records_that_fit_nothing_are_counted_and_change_nothing() -> None:
    windows = filled()
    key, value = sketch_record(START, {"1": 999})
    broken = json.dumps({**json.loads(value), "sketch": "AAAA"}).encode()
    for record in (
        (names.SKETCHES, key, broken),
        (names.SKETCHES, b"x", value),
        (names.TOPK, b"{}", b"{}"),
        (names.LATE, None, b"[]"),
        (names.LATE, None, None),
    ):
        windows.apply(*record)
    assert windows.skipped == 5
    found = windows.estimate("1", START, START + MINUTE_US)
    assert found is not None and found.value == 5


def test_only_the_newest_windows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "MAX_WINDOWS", 2)
    windows = filled()
    assert windows.estimate("1", START, START + MINUTE_US) is None
    key, _ = sketch_record(START + MINUTE_US, {})
    windows.apply(names.SKETCHES, key, None)
    assert windows.estimate("1", START, START + 2 * MINUTE_US) is None


def client(windows: Windows | None) -> TestClient:
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    if windows is not None:
        app.state.sketch_replica = SketchReplica("127.0.0.1:1")
        app.state.sketch_replica.windows = windows
    return TestClient(app, raise_server_exceptions=False)


def test_routes_answer_with_bound_confidence_and_lag() -> None:
    windows = filled()
    windows.apply(names.TOPK, *top_record(START, 2, "b", 0))
    windows.apply(names.TOPK, *top_record(START, 1, "a", 700))
    span = {"from": str(START // 1_000_000), "to": str(START // 1_000_000 + 60)}
    reply: dict[str, Any] = client(windows).get("/v1/approx/missed_questions/1", params=span).json()
    assert (reply["estimate"], reply["bound"], reply["windows"]) == (5, 1, 1)
    assert reply["confidence"] == pytest.approx(0.99)
    assert reply["provenance"]["exactness"] == "estimate"
    assert reply["replica"] == {"lag_records": None, "last_heard_s": None, "skipped": {}}
    top = client(windows).get("/v1/windows/users").json()
    assert [(row["rank"], row["id"], row["amount"]) for row in top["windows"][0]["entries"]] == [
        (1, "a", 700),
        (2, "b", 0),
    ]
    empty = client(windows).get("/v1/windows/quizzes").json()
    assert (empty["windows"], empty["as_of"]) == ([], None)


def health_record(day: int, place: int, reason: str, amount: int) -> tuple[bytes, bytes]:
    key = {"kind": "health", "window_start_us": day, "place": place}
    return json.dumps(key).encode(), json.dumps({**key, "subject_id": reason, "amount": amount}).encode()


def test_counts_of_skipped_records_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "MAX_HEALTH_DAYS", 2)
    windows, day = filled(), 86_400_000_000
    for record in (
        health_record(day, 1, "not_json", 1),
        health_record(2 * day, 1, "not_json", 2),
        health_record(3 * day, 1, "not_json", 3),
        health_record(3 * day, 2, "no_answer", 7),
        health_record(3 * day, 2, "no_answer", 8),
    ):
        windows.apply(names.TOPK, *record)
    assert windows.health() == {2 * day: {"not_json": 2}, 3 * day: {"not_json": 3, "no_answer": 8}}
    reply = client(windows).get("/v1/windows/users").json()
    assert reply["replica"]["skipped"] == {"not_json": 3, "no_answer": 8}
    assert windows.skipped == 0


def test_openapi_has_examples_with_the_fields_of_the_replies() -> None:
    one = client(filled())
    span = {"from": str(START // 1_000_000), "to": str(START // 1_000_000 + 60)}
    found = one.get("/v1/approx/missed_questions/1", params=span).json()
    paths = one.get("/openapi.json").json()["paths"]
    estimate = paths["/v1/approx/missed_questions/{question_id}"]["get"]["responses"]
    example = estimate["200"]["content"]["application/json"]["example"]
    assert (set(example), set(example["replica"])) == (set(found), set(found["replica"]))
    assert set(estimate) == {"200", "404", "422", "503"}
    top = paths["/v1/windows/{kind}"]["get"]["responses"]
    example = top["200"]["content"]["application/json"]["example"]
    assert set(example) == set(one.get("/v1/windows/users").json())


def test_routes_refuse_with_a_code() -> None:
    one = client(filled())
    assert one.get("/v1/approx/missed_questions/1").json()["code"] == "not_found"
    assert (
        one.get("/v1/approx/missed_questions/1?from=2026-01-02&to=2026-01-01").json()["code"]
        == "invalid_field"
    )
    assert one.get("/v1/approx/missed_questions/a%20b").status_code == 422
    assert one.get("/v1/windows/words").json()["code"] == "invalid_field"
    missing = client(None).get("/v1/windows/users")
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
        "total": 5,
        "answers": 9,
    }
    place = {"place": 1, "amount": 3, "window_end": START + MINUTE_US, "reached_at": START}
    assert rows == [
        Row("missed_questions", START, {"question_id": "1"}, {**estimate, "window_end": START + MINUTE_US}),
        Row("top_k", START, {"kind": "users", "subject_id": "a b"}, place),
    ]
