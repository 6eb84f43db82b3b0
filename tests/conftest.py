"""Fixtures all rooms share: daemons that start once a session, isolation by fresh names."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from cli.places import ROOT
from tests.services.daemons import (
    Daemon,
    HdfsDaemon,
    PostgresDaemon,
    QuestdbDaemon,
    start_hdfs,
    start_kafka,
    start_postgres,
    start_questdb,
    start_valkey,
)

# A busy machine is no failure: a first example that took 644 ms of 24 was seen.
settings.register_profile("lakeboard", deadline=None)
settings.load_profile("lakeboard")
# Data that does not ship with the repository lies beside it.
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked needs_shared where the data is absent; the skip is counted and shown."""
    if not SHARED.exists():
        for item in items:
            if item.get_closest_marker("needs_shared"):
                item.add_marker(pytest.mark.skip(reason="../shared is not here"))


@pytest.fixture(scope="session")
def valkey_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """Two primaries; tests that kill one start it again before they end."""
    daemons = [start_valkey(tmp_path_factory.mktemp(f"valkey_{number}")) for number in (1, 2)]
    yield daemons
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="session")
def valkey_urls(valkey_daemons: list[Daemon]) -> list[str]:
    """Addresses of the two primaries; isolate by fresh ids, never by FLUSHALL."""
    return [daemon.url for daemon in valkey_daemons]


@pytest.fixture(scope="session")
def postgres_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresDaemon]:
    """One Postgres server."""
    daemon = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def new_postgres_url(postgres_daemon: PostgresDaemon) -> Callable[[], str]:
    """A function that makes an empty database and returns its address."""
    return postgres_daemon.new_database


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """Address of an empty database of this test's own."""
    return new_postgres_url()


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker with the project's topics; isolate by consumer group or a topic of your own."""
    try:
        daemon = start_kafka(tmp_path_factory.mktemp("kafka"))
    except FileNotFoundError as error:  # counted by `test all`, which fails if anything was skipped
        pytest.skip(str(error))
    yield daemon.url
    daemon.stop()


@pytest.fixture(scope="session")
def hdfs_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsDaemon]:
    """NameNode and DataNode; isolate by a folder of your own."""
    try:
        daemon = start_hdfs(tmp_path_factory.mktemp("hdfs"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def questdb_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestdbDaemon]:
    """A QuestDB; isolate by fresh table names."""
    try:
        daemon = start_questdb(tmp_path_factory.mktemp("questdb"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield daemon
    daemon.stop()
