"""A record of one's own (fresh shards and database) and a small lake beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.daemons import start_valkey
from tests.serving.recorded import Recorded, recorded
from tests.small_lake import SmallLake


@pytest.fixture
def record(tmp_path: Path, postgres_url: str) -> Iterator[Recorded]:
    """Two empty shards and an empty database; boards kept from 1970."""
    daemons = [start_valkey(tmp_path / f"valkey_{number}") for number in (1, 2)]
    yield recorded([daemon.url for daemon in daemons], postgres_url)
    for daemon in daemons:
        daemon.stop()


@pytest.fixture
def small_lake(record: Recorded, tmp_path: Path) -> SmallLake:
    """An empty lake over the record's database."""
    return SmallLake(record.postgres_url, tmp_path / "warehouse")
