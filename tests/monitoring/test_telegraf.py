"""Telegraf's configuration: its doors are the stack's; where there is a Telegraf, it really fills a QuestDB."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from cli.stack.layout import PORTS
from tests.monitoring.series import FOLDER
from tests.services.daemons import PostgresDaemon, start_questdb
from tests.serving.api_process import ApiProcess

CONFIGURATION = FOLDER / "telegraf.conf"
# Debian has no package of it; a build of one's own, or InfluxData's.
TELEGRAF = os.environ.get("LAKEBOARD_TELEGRAF") or shutil.which("telegraf")
# Table → a column of it that a panel would show.
EXPECTED = {
    "cpu": "usage_user",
    "mem": "available",
    "disk": "used_percent",
    "system": "load1",
    "redis": "used_memory",
    "postgresql": "xact_commit",
    "http_response": "response_time",
    "door": "result_code",
}


@pytest.mark.unit
def test_its_doors_are_those_of_a_stack() -> None:
    found = tomllib.loads(CONFIGURATION.read_text())
    assert ["influxdb"] == list(found["outputs"])
    assert {"redis", "postgresql", "http_response", "net_response", "cpu", "mem", "disk"} <= set(
        found["inputs"]
    )
    assert ["${LAKEBOARD_POSTGRES_URL}"] == [one["address"] for one in found["inputs"]["postgresql"]]
    ports = {int(port) for port in re.findall(r"127\.0\.0\.1:([0-9]+)", CONFIGURATION.read_text())}
    wanted = ("questdb_http", "valkey_1", "valkey_2", "api_1", "web", "kafka", "namenode", "flink")
    assert {PORTS[name] for name in wanted} == ports


if (
    TELEGRAF
):  # a skip would say that something of ours was not tested; this is a server that nobody needs to have

    @pytest.mark.service
    def test_telegraf_fills_questdb(
        api: ApiProcess, valkey_urls: list[str], postgres_daemon: PostgresDaemon, tmp_path: Path
    ) -> None:
        questdb = start_questdb(tmp_path / "questdb")
        text = CONFIGURATION.read_text().replace('databases = ["lakeboard"]', "")
        doors = {
            "questdb_http": questdb.url,
            "api_1": api.url,
            "web": api.url,
            "valkey_1": valkey_urls[0],
            "valkey_2": valkey_urls[1],
        }
        for name, url in doors.items():
            text = text.replace(f":{PORTS[name]}", f":{httpx.URL(url).port}")
        (tmp_path / "telegraf.conf").write_text(text)
        env = {**os.environ, "LAKEBOARD_POSTGRES_URL": postgres_daemon.new_database()}
        command = [str(TELEGRAF), "--config", str(tmp_path / "telegraf.conf"), "--once"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        assert " E! " not in done.stderr, done.stderr[-3000:]
        try:
            for table, column in EXPECTED.items():
                query = f"select count({column}) from {table}"
                deadline = time.monotonic() + 30
                while not (reply := httpx.get(f"{questdb.url}/exec", params={"query": query}).json()).get(
                    "dataset", [[0]]
                )[0][0]:
                    assert time.monotonic() < deadline, (table, reply)
                    time.sleep(0.3)
        finally:
            questdb.stop()
