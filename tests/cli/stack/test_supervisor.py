"""The supervisor with real daemons: order, restart with back-off, no orphans, loopback only."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.stack.layout import REPOSITORY, layout_from
from cli.stack.process import Process
from cli.stack.supervisor import (
    LOG_LIMIT_BYTES,
    LONGEST_DELAY_S,
    STALLED_S,
    _stalled,
    cut_log,
    delay_before,
)

STORES = "valkey_1,valkey_2,postgres"


def wait_for(what: Callable[[], Any], seconds: float = 30) -> Any:
    """Polls until `what` is true; fails with its last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > deadline:
            assert value
            return value
        time.sleep(0.05)


class Stack:
    """A supervisor of the stores in a home of its own."""

    def __init__(self, home: Path) -> None:
        # Far from the default ports and from other runs of this test.
        offset = 10_000 + os.getpid() % 1_000 * 10
        names = {"LAKEBOARD_HOME": str(home), "LAKEBOARD_PORT_OFFSET": str(offset)}
        self.environment = {**os.environ, **names}
        self.layout = layout_from(self.environment)
        self.home = home
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "cli.stack.run", "--profile", "live", "--only", STORES]
        with (self.home / "supervisor.log").open("ab") as log:
            self.child = subprocess.Popen(
                command, cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log
            )

    def rows(self) -> dict[str, dict[str, Any]]:
        try:
            state = json.loads((self.layout.run / "stack.json").read_text())
        except FileNotFoundError:
            return {}
        return {row["name"]: row for row in state["processes"]} if state["pid"] == self.child.pid else {}

    def ready(self) -> dict[str, dict[str, Any]]:
        def all_ready() -> dict[str, dict[str, Any]]:
            rows = self.rows()
            assert self.child.poll() is None, (self.home / "supervisor.log").read_text()
            return rows if rows and all(row["state"] == "ready" for row in rows.values()) else {}

        return dict(wait_for(all_ready))

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(60)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    if stack.child.poll() is None:
        stack.stop()


@pytest.mark.service
def test_restarts_what_is_killed(stack: Stack) -> None:
    first = stack.ready()["valkey_1"]
    os.kill(first["pid"], signal.SIGKILL)
    second = wait_for(
        lambda: (row := stack.rows()["valkey_1"])["restarts"] and row["state"] == "ready" and row
    )
    assert first["pid"] != second["pid"]
    assert 1 == second["restarts"]
    assert 0 == stack.rows()["valkey_2"]["restarts"]


@pytest.mark.service
def test_leaves_no_orphan_when_it_is_killed(stack: Stack) -> None:
    pids = [row["pid"] for row in stack.ready().values()]
    os.kill(stack.child.pid, signal.SIGKILL)
    stack.child.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    stack.start()  # and the next one starts on the same files
    stack.ready()


@pytest.mark.service
def test_stop_ends_everything_and_keeps_the_data(stack: Stack) -> None:
    pids = [row["pid"] for row in stack.ready().values()]
    stack.stop()
    assert 0 == stack.child.returncode
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert (stack.layout.data("postgres") / "PG_VERSION").exists()
    assert not (stack.layout.run / "stack.json").exists()


@pytest.mark.service
def test_a_second_supervisor_refuses(stack: Stack) -> None:
    stack.ready()
    command = [sys.executable, "-m", "cli.stack.run", "--profile", "live", "--only", STORES]
    second = subprocess.run(command, cwd=REPOSITORY, env=stack.environment, capture_output=True, check=False)
    assert 1 == second.returncode


@pytest.mark.service
def test_listens_on_loopback_only(stack: Stack) -> None:
    stack.ready()
    family = psutil.Process(stack.child.pid).children(recursive=True)
    sockets = [
        one
        for process in family
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert {"127.0.0.1"} == {one.laddr.ip for one in sockets}
    assert 3 <= len({one.laddr.port for one in sockets})


@pytest.mark.service
def test_secrets_are_for_the_owner_only(stack: Stack) -> None:
    stack.ready()
    files = list((stack.home / "secrets").iterdir())
    assert 4 == len(files)
    assert {0o600} == {file.stat().st_mode & 0o777 for file in files}


@pytest.mark.unit
def test_delay_doubles_with_jitter_and_is_bounded() -> None:
    rng = random.Random(7)
    for attempt, longest in ((0, 0.5), (1, 1.0), (3, 4.0), (60, LONGEST_DELAY_S)):
        delays = [delay_before(attempt, rng) for _ in range(100)]
        assert longest / 2 <= min(delays) and max(delays) <= longest
        assert 1 < len(set(delays))


@pytest.mark.unit
def test_stall_is_a_heartbeat_that_grew_old(tmp_path: Path) -> None:
    beat = tmp_path / "relay"
    process = Process(name="relay", command=("true",), folder=tmp_path, ready=lambda: True, heartbeat=beat)
    now = time.time()
    assert not _stalled(process, now - STALLED_S - 1)  # none yet: twice the time
    assert _stalled(process, now - 2 * STALLED_S - 1)
    beat.touch()
    assert not _stalled(process, now - 1000)
    os.utime(beat, (now - STALLED_S - 1, now - STALLED_S - 1))
    assert _stalled(process, now - 1000)


@pytest.mark.unit
def test_a_long_log_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with log.open("ab") as writer:
        writer.truncate(LOG_LIMIT_BYTES + 1)
        cut_log(log)
        writer.write(b"next\n")
    assert b"next\n" == log.read_bytes()
    assert LOG_LIMIT_BYTES + 1 == (tmp_path / "api.log.1").stat().st_size
