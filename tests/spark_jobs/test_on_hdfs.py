"""The settle job as a process on hdfs://, as the command runs it; then its boards through hdfs-native and DuckDB."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.places import ROOT
from tests.spark_jobs.play import Outboxes, days_of_play, model

if TYPE_CHECKING:
    from tests.services.daemons import HdfsDaemon
    from tests.spark_jobs.broker import Broker

pytestmark = [pytest.mark.engine]
DAY = date(2024, 4, 2)


@contextmanager
def _barriers_api(broker: Broker, outboxes: Outboxes) -> Iterator[str]:
    """Stands in for the api's internal route; the real one is in test_barriers_api."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            broker.send(outboxes.barriers(body["zone"], [date.fromisoformat(day) for day in body["days"]]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_settled_on_hdfs_and_read_by_duckdb(
    jars: Path,
    broker: Broker,
    hdfs_daemon: HdfsDaemon,
    new_postgres_url: Callable[[], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lake.rankings import page
    from lake.sql import main as sql
    from lake.storage import storage
    from lake.views import Lake
    from serving.migrations.upgrade import upgrade

    url, warehouse = new_postgres_url(), f"{hdfs_daemon.url}/lakeboard/warehouse"
    upgrade(url)
    broker.empty_topics()
    play, outboxes = days_of_play(seed=21, count=200, first=DAY, length_days=1), Outboxes()
    broker.send(outboxes.answers(play))
    key = tmp_path / "importer_key"
    key.write_text("a key")
    with _barriers_api(broker, outboxes) as api:
        addresses = {
            "postgres-url": url, "kafka-bootstrap": broker.bootstrap, "warehouse": warehouse, "api-url": api,
            "importer-key-file": key, "jars": jars / "spark", "local-dir": tmp_path / "spark",
            "shards": outboxes.shards, "from": DAY, "to": DAY, "period": "daily",
        }  # fmt: skip
        known = [f"--{name}={value}" for name, value in addresses.items()]
        command = [sys.executable, "-m", "spark_jobs.settle", *known]
        done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert 0 == done.returncode
    document = json.loads(done.stdout)
    assert (["1"], []) == (document["settlements"], document["skipped"])

    reader = Lake(url, warehouse, tmp_path / "cache")
    snapshot = reader.catalog.load_table(("lakeboard", "rankings")).current_snapshot()
    assert snapshot is not None
    expected = model(play)[("daily", DAY, "global")]
    for _ in range(2):
        found = page(reader, snapshot.snapshot_id, "global", "daily", DAY, k=1000)
        assert [row[:3] for row in expected] == [(e.rank, e.user_id, e.points) for e in found.entries]
    assert list((tmp_path / "cache").glob("*.parquet"))
    known = [f"--postgres-url={url}", f"--warehouse={warehouse}", f"--cache={tmp_path / 'cache'}"]
    assert 0 == sql(["select count(*) n, sum(points)::bigint p from answers", *known, "--json"])
    assert [{"n": 200, "p": sum(event.points for event in play)}] == json.loads(capsys.readouterr().out)
    assert 2 == sql(["select wrong from answers", *known])
    assert storage(hdfs_daemon.webhdfs_url, warehouse).warehouse_files > 10
