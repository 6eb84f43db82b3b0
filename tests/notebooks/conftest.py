"""One small settled lake for all notebooks and for the page of metrics: five weeks of play, and some late answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from cli.places import ROOT
from contracts.settings import Settings
from serving.play.barriers import write_barriers
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.recorded import recorded
from tests.serving.relay_stack import importer_of
from tests.small_lake import SmallLake

FIRST, LAST = date(2024, 3, 30), date(2024, 5, 4)
LATE_USERS = 3


@pytest.fixture(scope="session")
def settled(
    new_postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings of a lake whose days are closed and settled; then some answers of the first days came late."""
    folder, postgres_url = tmp_path_factory.mktemp("notebooks"), new_postgres_url()
    with ExitStack() as stack:
        urls = []
        for number in (1, 2):
            daemon = start_valkey(folder / f"valkey_{number}")
            stack.callback(daemon.stop)
            urls.append(daemon.url)
        lake = _filled(urls, postgres_url, folder / "warehouse")
    yield Settings(postgres_url=postgres_url, lake_warehouse=lake.warehouse, cache_dir=str(folder / "cache"))


def _filled(urls: list[str], postgres_url: str, warehouse: Path) -> SmallLake:
    record = recorded(urls, postgres_url)
    lake = SmallLake(postgres_url, warehouse)
    record.play(model.play(61, days=30, users=20, sessions=30))
    asyncio.run(_close_days(urls, postgres_url))
    record.relay()
    lake.take()
    lake.settle()
    record.play(model.play(62, days=2, users=LATE_USERS, sessions=1, prefix="late"))
    record.relay()
    lake.take()
    lake.append(
        "dead_letters",
        [
            {
                "kafka_partition": 11,
                "kafka_offset": 4,
                "shard": None,
                "seq": None,
                "reason": "not UTF-8",
                "value": b"\xff",
            }
        ],
    )
    _enrol(lake)
    return lake


def _enrol(lake: SmallLake) -> None:
    """Two who begin a course on the first day, one of whom leaves it on the next."""
    days = [FIRST, FIRST + timedelta(days=1)]
    moves = [("enrolled", "u1", 0), ("enrolled", "u2", 0), ("left", "u1", 1)]
    rows = [
        {
            "enrolment_id": number,
            "kind": kind,
            "occurred_at_us": round(datetime(*days[day].timetuple()[:3], 12, tzinfo=UTC).timestamp() * 1e6)
            + number,
            "course_id": "starter-a1",
            "user_id": user,
            "kafka_partition": 0,
            "kafka_offset": number,
        }
        for number, (kind, user, day) in enumerate(moves, 1)
    ]
    lake.append("enrolments", rows)
    counts = [(days[0], 2, 0, 2), (days[1], 0, 1, 1)]
    names = ("day", "enrolled", "departed", "members")
    lake.append(
        "course_days",
        [{"course_id": "starter-a1", **dict(zip(names, one, strict=True))} for one in counts],
    )


async def _close_days(valkey_urls: list[str], postgres_url: str) -> None:
    """Barriers of every day, for the zones in which anybody plays."""
    stack = {"LAKEBOARD_VALKEY_URLS": ",".join(valkey_urls), "LAKEBOARD_POSTGRES_URL": postgres_url}
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    async with importer_of(stack) as importer:
        for zone in ("UTC", "Europe/Paris", "America/New_York"):
            await write_barriers(importer.shards, zone, days, time.time_ns() // 1000)


@pytest.fixture
def in_environment(settled: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The lake's settings, also as this process' and its children's environment."""
    for name, value in (settled.to_env() | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    return settled
