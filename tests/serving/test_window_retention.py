"""What the streams' topics keep: by level, never what QuestDB lacks, never twice."""

from __future__ import annotations

import json

import pytest

from contracts import names
from serving.relay.window_retention import HOUR_US, Seen, expired

pytestmark = pytest.mark.unit
NOW = 29_000_000 * 60_000_000


def sketch(level: str, hours_ago: float) -> bytes:
    start = round(NOW - hours_ago * HOUR_US)
    return json.dumps({"kind": "missed_questions", "level": level, "window_start_us": start}).encode()


def top(kind: str, hours_ago: float) -> bytes:
    start = round(NOW - hours_ago * HOUR_US)
    return json.dumps({"kind": kind, "window_start_us": start, "place": 1}).encode()


def gone(topic: str, *keys: bytes, written: int = 100) -> set[bytes]:
    seen = {key: Seen(0, number, False) for number, key in enumerate(keys)}
    return {key for _, key in expired(topic, seen, {0: written}, NOW)}


def test_each_level_has_its_time() -> None:
    for level, hours in (("minute", 2), ("hour", 48), ("day", 400 * 24)):
        young, old = sketch(level, hours), sketch(level, hours + 0.01)
        assert gone(names.SKETCHES, young, old) == {old}
    assert gone(names.TOPK, top("users", 48), top("users", 49)) == {top("users", 49)}
    assert gone(names.TOPK, top("health", 49), top("health", 200)) == {top("health", 200)}


def test_only_what_questdb_has_and_is_there() -> None:
    old = sketch("minute", 9)
    assert gone(names.SKETCHES, old, written=0) == set()
    assert list(expired(names.SKETCHES, {old: Seen(0, 0, True)}, {0: 9}, NOW)) == []
    assert list(expired(names.SKETCHES, {old: Seen(0, 0, False)}, {}, NOW)) == []
    assert gone(names.SKETCHES, b"odd", sketch("year", 99)) == set()
