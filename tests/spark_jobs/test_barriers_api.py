"""The settle job's barrier call against a real api process: written once in each shard's outbox, refusals told."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import redis

from cli.stack.process import free_port
from contracts import names
from contracts.errors import BadInput, SystemMissing
from contracts.events import BARRIER_TYPE, decode_barrier
from contracts.identity import barrier_id
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

pytestmark = [pytest.mark.service]
ZONE = "Pacific/Apia"
DAYS = [date(2011, 12, 29), date(2011, 12, 31)]
"""The zone left out 30 December 2011."""


def _barriers(valkey_urls: list[str]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for shard, url in enumerate(valkey_urls):
        entries = redis.Redis.from_url(url).xrange(names.outbox())
        found[shard] = [
            fields[b"e"]
            for _, fields in entries
            if fields[b"t"] == BARRIER_TYPE.encode() and ZONE.encode() in fields[b"e"]
        ]
    return found


def test_barriers_are_written_once_a_shard(valkey_urls: list[str], postgres_url: str, tmp_path: Path) -> None:
    from serving.play.barriers import DAYS_MAX
    from spark_jobs.barriers import DAYS_A_REQUEST, http_barriers

    assert DAYS_A_REQUEST <= DAYS_MAX
    api = ApiProcess(tmp_path, valkey_urls, postgres_url)
    try:
        ask = http_barriers(api.url + "/", IMPORTER_KEY)
        ask(ZONE, DAYS)
        ask(ZONE, DAYS)
        for shard, events in _barriers(valkey_urls).items():
            decoded = [decode_barrier(event) for event in events]
            assert [barrier_id(ZONE, str(day), shard) for day in DAYS] == [
                event.event_id for event in decoded
            ]
            assert all(event.end_us - event.start_us == 86_400_000_000 for event in decoded)
        with pytest.raises(BadInput, match=r"40[13]"):
            http_barriers(api.url, "wrong")(ZONE, DAYS)
        with pytest.raises(BadInput, match="period_not_ended"):
            ask(ZONE, [date(2999, 1, 1)])
    finally:
        api.stop()


def test_no_api_is_a_missing_system() -> None:
    from spark_jobs.barriers import http_barriers

    with pytest.raises(SystemMissing):
        http_barriers(f"http://127.0.0.1:{free_port()}", IMPORTER_KEY)(ZONE, DAYS)
