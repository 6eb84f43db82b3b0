"""History made again: rows, partitions and positions that were lost come back with the same bytes, whatever dies meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from contracts.errors import BrokenContract
from contracts.settings import Settings
from serving.history import rebuild as module
from serving.history.rebuild import main, rebuild
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.recorded import Recorded, recorded
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
_ROWS = "SELECT shard, seq, type, event_id, occurred_at, event FROM history ORDER BY shard, seq"


class Killed(Exception):
    """Stands in for the end of the process."""


@pytest.fixture
def record(tmp_path: Path, postgres_url: str) -> Iterator[Recorded]:
    daemons = [start_valkey(tmp_path / f"valkey_{number}") for number in (1, 2)]
    yield recorded([daemon.url for daemon in daemons], postgres_url)
    for daemon in daemons:
        daemon.stop()


def _all(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as sql:
        return sql.execute(query).fetchall()


def test_what_history_lost_comes_back(
    record: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, lake = record.postgres_url, SmallLake(record.postgres_url, tmp_path / "warehouse")
    record.play(model.play(71, users=15, sessions=6))
    record.relay()
    lake.take()
    record.play(model.play(72, users=15, sessions=3, prefix="later-"))
    record.relay()
    settings = Settings(
        valkey_urls=tuple(record.valkey_urls),
        postgres_url=url,
        lake_warehouse=lake.warehouse,
        cache_dir=str(tmp_path),
    )
    # What the outbox has trimmed and the lake has not got yet is a gap, told with what to do.
    assert 1 == main([], settings.to_env())
    assert "job ingest_answers" in capsys.readouterr().err
    lake.take()
    record.play(model.play(74, users=15, sessions=3, prefix="last-"))  # in the outbox alone
    sessions_sql = "SELECT session_id, shard, started_at_us, tick_ms, rule FROM sessions ORDER BY 1"
    positions = "SELECT shard, position FROM relay_position WHERE sink = 'history' ORDER BY 1"
    users, sessions = _all(url, "SELECT user_id, user_no FROM users ORDER BY 1"), _all(url, sessions_sql)
    before = _all(url, _ROWS)
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("TRUNCATE history")
        sql.execute(
            "DELETE FROM sessions; DELETE FROM users; UPDATE relay_position SET position = 0 WHERE sink = 'history'"
        )

    original, calls = module._insert, []

    def cut(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(module, "_BATCH", 20)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_insert", cut)
        with pytest.raises(Killed):
            rebuild(settings)
    # The rows that are in and the position agree: the relay that comes between finds a gap, not its own rows.
    with pytest.raises(BrokenContract, match="sequence_gap"):
        record.relay()
    assert 0 == main(["--json"], settings.to_env())
    document = json.loads(capsys.readouterr().out)
    assert (len(before), 0, []) == (document["entries"], document["differences"], document["shards_behind"])
    assert before == _all(url, _ROWS)
    record.relay()  # what was in the outbox alone is the relay's to bring, and what comes now
    record.play(model.play(73, users=20, sessions=2, prefix="new-"))
    record.relay()
    rows = _all(url, _ROWS)
    assert len(rows) > len(before) and before == [
        row for row in rows if row[:2] in {one[:2] for one in before}
    ]
    last = {shard: max(row[1] for row in rows if row[0] == shard) for shard in (0, 1)}
    assert sorted(last.items()) == _all(url, positions)
    there = _all(url, "SELECT user_id, user_no FROM users")
    assert set(users) <= set(there) and len(there) == len({number for _, number in there})
    assert set(sessions) <= set(_all(url, sessions_sql))
    lake.take()
    assert 0 == rebuild(settings)["inserted"]
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute("UPDATE history SET event = 'x' WHERE seq = 3 AND shard = 0")
    assert 1 == main([], settings.to_env())
    _assert_the_lakes_part_comes_back(record, settings, len(rows))


def _assert_the_lakes_part_comes_back(record: Recorded, settings: Settings, count: int) -> None:
    """Shards that have lost everything: the lake has it all, and that the outboxes are behind is said."""
    with psycopg.connect(record.postgres_url, autocommit=True) as sql:
        sql.execute("TRUNCATE history")
    for one in record.valkey_urls:
        Redis.from_url(one).flushall()
    found = rebuild(settings)
    assert (count, [0, 1]) == (found["inserted"], found["shards_behind"])
