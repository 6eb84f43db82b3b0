"""Reconcile on real Redis, Postgres and Iceberg files: equal where equal, and every disagreement found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from contracts import names
from contracts.settings import Settings
from serving.leaderboards.reconcile import LATER_ANSWERS, NOT_SETTLED, main, reconcile
from tests import model
from tests.serving.recorded import Recorded
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
FIRST, LAST = date(2024, 3, 25), date(2024, 4, 7)
SPAN = ["--from", str(FIRST), "--to", str(LAST), "--json"]


def settings_of(record: Recorded, lake: SmallLake, folder: Path) -> Settings:
    return Settings(
        valkey_urls=tuple(record.valkey_urls),
        postgres_url=record.postgres_url,
        lake_warehouse=lake.warehouse,
        cache_dir=str(folder),
    )


def everywhere(record: Recorded, key: str) -> Any:
    """The shard that has a board."""
    return next(one for one in map(Redis.from_url, record.valkey_urls) if one.exists(key))


def test_redis_and_the_lake_agree_and_each_fault_is_found(
    record: Recorded, small_lake: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(record, small_lake, tmp_path)
    answers = model.play(11, users=30, sessions=10)
    record.play(answers)
    record.relay()
    assert 2 == main(SPAN, settings.to_env())
    assert 99 == main([*SPAN, "--nothing-exit", "99"], settings.to_env())
    assert 2 == main(["--from", str(LAST), "--to", str(FIRST), "--nothing-exit", "99"], settings.to_env())
    capsys.readouterr()
    small_lake.take()
    small_lake.settle(leave_out=[("daily", "2024-03-31")])
    expected = small_lake.boards()
    compared = {key: rows for key, rows in expected.items() if key[1:] != ("daily", "2024-03-31")}

    assert 0 == main(SPAN, settings.to_env())
    document = json.loads(capsys.readouterr().out)
    assert (len(compared), sum(map(len, compared.values())), 0) == (
        document["boards"],
        document["rows"],
        document["differences"],
    )
    left = [item for item in document["skipped"] if item["why"] == NOT_SETTLED]
    assert len(expected) - len(compared) == sum(item["boards"] for item in left) > 0

    scope, period, start = next(key for key in compared if key[:2] == ("quiz:q1", "weekly"))
    key, rows = names.board(scope, period, start), compared[(scope, period, start)]
    client = everywhere(record, key)
    before = client.dump(key)
    client.zadd(key, {rows[0].user_id: int(client.zscore(key, rows[0].user_id)) - 1})
    found = reconcile(settings, FIRST, LAST)
    assert (1, 1, [rows[0].user_id]) == (
        found.exit_code,
        found.differences,
        [one.user_id for one in found.examples],
    )
    client.delete(key)
    assert len(rows) == reconcile(settings, FIRST, LAST).differences
    client.restore(key, 0, before)
    client.zadd(key, {"nobody": 0})
    assert reconcile(settings, FIRST, LAST).differences >= 1
    client.zrem(key, "nobody")
    # One who joined and has not answered is on a session's board alone in Redis.
    everywhere(record, names.session_board("s0")).zadd(names.session_board("s0"), {"joined": 0})
    assert 0 == reconcile(settings, FIRST, LAST).exit_code

    # A board of a settled period that the lake does not have at all.
    start = next(start for scope, period, start in compared if (scope, period) == ("global", "weekly"))
    client.zadd(names.board("quiz:nobody", "weekly", start), {"ghost": 5, "other": 5})
    ghosts = reconcile(settings, FIRST, LAST)
    assert ["other", "ghost"] == [one.user_id for one in ghosts.examples]


def test_answers_after_the_settlement_are_told_apart_from_faults(
    record: Recorded, small_lake: SmallLake, tmp_path: Path
) -> None:
    settings = settings_of(record, small_lake, tmp_path)
    answers = model.play(12, users=20, sessions=6)
    record.play(answers)
    record.relay()
    small_lake.take()
    small_lake.settle()
    late = [replace(answers[0], question_id="late", correct=True, elapsed_ms=1)]
    record.play(late)
    record.relay()
    found = reconcile(settings, FIRST, LAST)
    assert 0 == found.exit_code
    # The day, week, month and all-time of the quiz and of everybody, and the session.
    assert 9 == sum(count for (*_, why), count in found.skipped.items() if why == LATER_ANSWERS)
    small_lake.take()
    small_lake.settle(version=2)
    again = reconcile(settings, FIRST, LAST)
    assert (0, {}) == (again.exit_code, again.skipped)
    assert len(small_lake.boards()) == again.boards


def test_wrong_use_and_missing_systems(
    record: Recorded, small_lake: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(record, small_lake, tmp_path)
    assert 2 == main(["--from", "soon", "--to", "2024-01-01"], settings.to_env())
    assert 2 == main(["--from", "2024-02-01", "--to", "2024-01-01"], settings.to_env())
    assert 2 == main(SPAN, settings.to_env())
    assert 0 == json.loads(capsys.readouterr().out)["boards"]
    assert 3 == main(SPAN, replace(settings, lake_warehouse="", profile="live").to_env())
    assert 3 == main(SPAN, replace(settings, valkey_urls=("redis://127.0.0.1:1/0",)).to_env())
    assert 3 == main(SPAN, replace(settings, postgres_url="postgresql://x@127.0.0.1:1/x").to_env())
