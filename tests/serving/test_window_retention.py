"""What the top 10s' topic keeps: never what QuestDB lacks, never twice."""

from __future__ import annotations

import json

import pytest

from serving.relay.window_retention import HOUR_US, Seen, expired

pytestmark = pytest.mark.unit
NOW = 29_000_000 * 60_000_000


def top(kind: str, hours_ago: float) -> bytes:
    start = round(NOW - hours_ago * HOUR_US)
    level = "day" if kind == "health" else "hour"
    return json.dumps({"kind": kind, "level": level, "window_start_us": start, "place": 1}).encode()


def gone(*keys: bytes, written: int = 100) -> set[bytes]:
    seen = {key: Seen(0, number, False) for number, key in enumerate(keys)}
    return {key for _, key in expired(seen, {0: written}, NOW)}


def test_each_kind_has_its_time() -> None:
    assert gone(top("users", 48), top("users", 49)) == {top("users", 49)}
    assert gone(top("words", 48), top("words", 49)) == {top("words", 49)}
    assert gone(top("health", 49), top("health", 200)) == {top("health", 200)}


def test_only_what_questdb_has_and_is_there() -> None:
    old = top("users", 99)
    assert gone(old, written=0) == set()
    assert list(expired({old: Seen(0, 0, True)}, {0: 9}, NOW)) == []
    assert list(expired({old: Seen(0, 0, False)}, {}, NOW)) == []
    assert gone(b"odd", b"{}") == set()
