"""The lake's disk, asked of a real NameNode and of one that is not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cli.stack.process import free_port
from contracts.errors import SystemMissing

if TYPE_CHECKING:
    from tests.services.daemons import HdfsDaemon

pytestmark = [pytest.mark.service]


def test_folder_space_and_health(hdfs_daemon: HdfsDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    from lake.iceberg import file_system_of
    from lake.storage import main, make_warehouse, storage

    warehouse = f"{hdfs_daemon.url}/storage/warehouse"
    before = storage(hdfs_daemon.webhdfs_url, warehouse)
    assert (0, 0) == (before.warehouse_bytes, before.warehouse_files)
    make_warehouse(hdfs_daemon.webhdfs_url, warehouse)
    make_warehouse(hdfs_daemon.webhdfs_url, warehouse)
    file_system_of(warehouse).pipe_file("/storage/warehouse/a", b"x" * 1000)
    found = storage(hdfs_daemon.webhdfs_url, warehouse)
    assert (1000, 1000, 1) == (found.warehouse_bytes, found.warehouse_stored_bytes, found.warehouse_files)
    assert found.capacity_bytes >= found.used_bytes + found.free_bytes > 0
    assert 0 == main([f"--webhdfs-url={hdfs_daemon.webhdfs_url}", f"--warehouse={warehouse}", "--make"])
    assert json.loads(capsys.readouterr().out)["healthy"] is True


def test_no_namenode_is_a_missing_system() -> None:
    from lake.storage import main, storage

    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SystemMissing):
        storage(url, "hdfs://127.0.0.1:1/x")
    assert 3 == main([f"--webhdfs-url={url}", "--warehouse=hdfs://127.0.0.1:1/x"])
