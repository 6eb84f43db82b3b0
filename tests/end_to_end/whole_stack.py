"""A full stack of a test's own: a fresh home and free ports, driven through ./lakeboard like a user's."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from cli.places import ROOT
from cli.stack.layout import PORTS, Layout, layout_from
from serving.boards.whole_boards import WholeBoards

# Airflow and Flink are 1.5 GB and half of the start, and no board needs them: their own tests run them.
LEFT_OUT = "airflow,flink,questdb"


def free_offset() -> int:
    """A port offset at which every door of the stack is free."""
    while True:
        offset = random.randrange(2_000, 20_000)
        try:
            for port in PORTS.values():
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
            return offset
        except OSError:
            continue


def until(said: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits; fails naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


class WholeStack:
    """`up` in a home of its own; `down` ends it."""

    def __init__(self, home: Path) -> None:
        self.env = {
            **os.environ,
            "LAKEBOARD_CACHE_DIR": os.environ.get("LAKEBOARD_CACHE_DIR", str(ROOT / ".lakeboard" / "cache")),
            "LAKEBOARD_HOME": str(home),
            "LAKEBOARD_PORT_OFFSET": str(free_offset()),
        }
        self.layout: Layout = layout_from(self.env)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command; standard output is kept, progress goes to the test's log."""
        command = [str(ROOT / "lakeboard"), *arguments]
        return subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> str:
        """Standard output of a command that must succeed."""
        child = self.start(*arguments)
        out, _ = child.communicate(timeout=900)
        assert 0 == child.returncode, (
            f"./lakeboard {' '.join(arguments)} ended with {child.returncode}: {out}"
        )
        return out

    def document(self, *arguments: str) -> Any:
        """The JSON document on the last line of a command's output."""
        return json.loads(self.run(*arguments).strip().splitlines()[-1])

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows from the lake."""
        found: list[dict[str, Any]] = self.document("sql", query, "--json")
        return found

    def process(self, name: str) -> dict[str, Any]:
        """The supervisor's row of a process."""
        state = json.loads((self.layout.run / "stack.json").read_text())
        return next(row for row in state["processes"] if row["name"] == name)

    def kill(self, name: str) -> None:
        """kill -9 of one process; the supervisor starts it again."""
        os.kill(self.process(name)["pid"], signal.SIGKILL)

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """The processes neither run nor end meanwhile: down, and the supervisor does not start them again."""
        family = [psutil.Process(self.process(name)["pid"]) for name in names]
        family += [child for process in family for child in process.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def listening(self) -> set[str]:
        """The addresses at which any process of the stack listens."""
        supervisor = json.loads((self.layout.run / "stack.json").read_text())["pid"]
        return {
            one.laddr.ip.removeprefix("::ffff:")
            for process in psutil.Process(supervisor).children(recursive=True)
            for one in process.net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        }

    def until_relayed(self) -> None:
        """Waits until history and the global boards have every entry of every outbox."""
        live = WholeBoards(self.layout.settings("full").valkey_urls)
        with psycopg.connect(self.layout.settings("full").postgres_url, autocommit=True) as sql:

            def level() -> bool:
                query = "select position from relay_position where sink = 'history' order by shard"
                history = [row[0] for row in sql.execute(query)]
                return history == live.global_positions() == live.last_seqs()

            until(level, 60, "the relay has brought every answer to history and the global boards")
        live.close()

    def client(self) -> httpx.Client:
        """The gateway, with the importer key."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.layout.port('web')}",
            headers={"X-API-Key": self.layout.secrets["importer_key"]},
            timeout=60,
        )
