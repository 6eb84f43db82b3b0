"""A broker and a Flink cluster for each test of the streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flink_jobs.cluster import Cluster
from tests.services.daemons import HdfsDaemon, start_flink, start_kafka


@pytest.fixture
def bootstrap(tmp_path: Path) -> Iterator[str]:
    """A broker with the project's topics, empty."""
    try:
        broker = start_kafka(tmp_path / "kafka")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield broker.url
    broker.stop()


@pytest.fixture
def cluster(tmp_path: Path, hdfs_daemon: HdfsDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    broker = start_kafka(tmp_path / "kafka")
    try:
        flink = start_flink(tmp_path / "flink")
    except FileNotFoundError as error:
        broker.stop()
        pytest.skip(str(error))
    yield Cluster(flink, broker.url, hdfs_daemon)
    for log in sorted((tmp_path / "flink" / "logs").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}")
    flink.stop()
    broker.stop()
