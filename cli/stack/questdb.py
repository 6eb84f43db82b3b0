"""QuestDB: windows and estimates over time.

The configuration is written before the first start: without it the server listens on every interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.stack.java import java, properties, write_if_changed
from cli.stack.process import Process, http_ok

# For dashboards, whose users write SQL of their own: it reads and changes nothing. No secret: the server is on loopback, and
# its owner (admin) has the server's own default password.
READER = ("reader", "reader")


@dataclass(frozen=True)
class QuestdbPorts:
    """The doors of the server."""

    http: int
    health: int
    pg: int
    line_tcp: int


def questdb(folder: Path, jars: Path, ports: QuestdbPorts) -> Process:
    """Defines the server on loopback."""
    jar = next(jars.rglob("questdb-*.jar"))
    text = properties(
        {
            "http.bind.to": f"127.0.0.1:{ports.http}",
            "http.min.bind.to": f"127.0.0.1:{ports.health}",
            "pg.net.bind.to": f"127.0.0.1:{ports.pg}",
            "pg.readonly.user.enabled": "true",
            "pg.readonly.user": READER[0],
            "pg.readonly.password": READER[1],
            "line.tcp.net.bind.to": f"127.0.0.1:{ports.line_tcp}",
            "line.udp.enabled": "false",
            "telemetry.enabled": "false",
            # Two cores are shared with everything else.
            "shared.worker.count": 2,
        }
    )
    return Process(
        name="questdb",
        command=(
            java(),
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-p",
            str(jar),
            "-m",
            "io.questdb/io.questdb.ServerMain",
            "-d",
            str(folder),
        ),
        folder=folder,
        port=ports.http,
        prepare=lambda: write_if_changed(folder / "conf" / "server.conf", text),
        ready=lambda: http_ok(f"http://127.0.0.1:{ports.http}/exec?query=select%201"),
    )
