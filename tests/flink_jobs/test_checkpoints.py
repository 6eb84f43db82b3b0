"""Where a submission goes on: the newest complete state of a local folder or of (a stand-in for) WebHDFS."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from contracts.errors import BadInput, SystemMissing
from flink_jobs.checkpoints import newest_state, savepoint_dir

pytestmark = pytest.mark.unit

TREE = {
    "/f/checkpoints": [("job1", 30), ("job2", 20)],
    "/f/checkpoints/job1": [("chk-9", 5), ("chk-10", 6), ("shared", 50), ("taskowned", 50)],
    "/f/checkpoints/job1/chk-9": [("_metadata", 7)],
    "/f/checkpoints/job1/chk-10": [("part", 99)],
    "/f/checkpoints/job2": [("chk-3", 1)],
    "/f/checkpoints/job2/chk-3": [("_metadata", 8)],
    "/f/savepoints": [("savepoint-a", 1)],
    "/f/savepoints/savepoint-a": [("_metadata", 6)],
}


class Listing(BaseHTTPRequestHandler):
    """LISTSTATUS of TREE."""

    def do_GET(self) -> None:
        folder = self.path.removeprefix("/webhdfs/v1").partition("?")[0]
        entries = [
            {"pathSuffix": name, "modificationTime": at, "length": 1} for name, at in TREE.get(folder, ())
        ]
        body = json.dumps({"FileStatuses": {"FileStatus": entries}}).encode()
        self.send_response(200 if folder in TREE else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def webhdfs() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_hdfs(webhdfs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert newest_state("hdfs://n:1/f/checkpoints", webhdfs) == "hdfs://n:1/f/checkpoints/job2/chk-3"
    monkeypatch.setitem(TREE, "/f/savepoints/savepoint-a", [("_metadata", 9)])
    assert newest_state("hdfs://n:1/f/checkpoints/", webhdfs) == "hdfs://n:1/f/savepoints/savepoint-a"
    assert newest_state("hdfs://n:1/empty/checkpoints", webhdfs) is None


def test_not_knowing_is_an_error_not_a_start_from_nothing() -> None:
    with pytest.raises(SystemMissing):
        newest_state("hdfs://n:1/f/checkpoints", "http://127.0.0.1:1")
    for folder in ("hdfs://n:1/f/checkpoints", "s3://bucket/checkpoints"):
        with pytest.raises(BadInput):
            newest_state(folder)


def test_local_folder(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert newest_state(str(folder)) is None
    for number, name in enumerate(("job/chk-2", "job/chk-10", "job/chk-11")):
        (folder / name).mkdir(parents=True)
        if name != "job/chk-11":
            (folder / name / "_metadata").write_text("x")
            os.utime(folder / name / "_metadata", (number, number))
    assert newest_state(str(folder)) == (folder / "job/chk-10").as_uri()
    assert savepoint_dir(folder.as_uri()) == (tmp_path / "savepoints").as_uri()
