"""Who is primary is read from the sentinels' files, before a server starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stack.layout import keep_replicas, layout_from
from cli.stack.profiles import processes
from cli.stack.replication import ReplicatedShard

pytestmark = pytest.mark.unit


@pytest.fixture
def shard(tmp_path: Path) -> ReplicatedShard:
    return ReplicatedShard("valkey_1", (6401, 6411), (tmp_path / "s1.conf", tmp_path / "s2.conf"))


def role(shard: ReplicatedShard, folder: Path, port: int) -> list[str]:
    shard.write_role(folder / f"{port}.conf", port)
    return (folder / f"{port}.conf").read_text().split("\n")


def test_before_there_are_sentinels_the_first_server_is_the_primary(
    shard: ReplicatedShard, tmp_path: Path
) -> None:
    assert not any("replicaof" in line for line in role(shard, tmp_path, 6401))
    assert "replicaof 127.0.0.1 6401" in role(shard, tmp_path, 6411)


def test_the_newest_promotion_counts(shard: ReplicatedShard, tmp_path: Path) -> None:
    """A sentinel that slept through a promotion has the old one in its file, and another shard's are not ours."""
    old, new = shard.files
    old.write_text("sentinel monitor valkey_1 127.0.0.1 6401 2\nsentinel config-epoch valkey_1 1\n")
    new.write_text(
        "sentinel monitor valkey_10 127.0.0.1 7000 2\nsentinel config-epoch valkey_10 9\n"
        "sentinel monitor valkey_1 127.0.0.1 6411 2\nsentinel config-epoch valkey_1 2\n"
    )
    (tmp_path / "6401.conf").write_text("save 300 1\n")
    (tmp_path / "6411.conf").write_text("save 300 1\nreplicaof 127.0.0.1 6401\n")
    assert ["save 300 1", "replicaof 127.0.0.1 6411", ""] == role(shard, tmp_path, 6401)
    assert ["save 300 1", ""] == role(shard, tmp_path, 6411)


def test_without_sentinels_files_a_server_keeps_its_role(shard: ReplicatedShard, tmp_path: Path) -> None:
    (tmp_path / "6401.conf").write_text("replicaof 127.0.0.1 6411\n")
    assert "replicaof 127.0.0.1 6411" in role(shard, tmp_path, 6401)


def test_a_home_with_replicas_keeps_them(tmp_path: Path) -> None:
    layout = layout_from({"LAKEBOARD_HOME": str(tmp_path)})
    plain = {process.name for process in processes(layout, "live")}
    assert not layout.replicas and not layout.settings("live").valkey_sentinels
    keep_replicas(layout)
    found = {process.name: process for process in processes(layout, "live")}
    sentinels = {"sentinel_1", "sentinel_2", "sentinel_3"}
    servers = {"valkey_1", "valkey_2", "valkey_1_replica", "valkey_2_replica"}
    assert sentinels | servers | plain == set(found)
    # The sentinels end first: the end of a server must not look like its loss.
    assert all(servers <= set(found[name].after) for name in sentinels)
    settings = layout.settings("live")
    assert 1 == settings.valkey_wait_replicas and 3 == len(settings.valkey_sentinels)
    assert ["valkey_1", "valkey_2"] == [shard.primary for shard in settings.shards]
