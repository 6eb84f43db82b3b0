"""The two programs that are ours: api and relay."""

from __future__ import annotations

import sys

from cli.stack.layout import REPOSITORY, Layout
from cli.stack.process import Process, http_ok


def _python(layout: Layout, profile: str) -> str:
    # The same code in both profiles; `full` needs the lake's libraries beside it.
    try:
        return str(layout.python("live" if profile == "live" else "main"))
    except FileNotFoundError:
        # Started by hand from an environment of one's own (a container, a test): that one has to do.
        return sys.executable


def api(layout: Layout, profile: str, name: str, after: tuple[str, ...]) -> Process:
    """Defines one api process; it is ready when /readyz says so."""
    port = layout.port(name)
    return Process(
        name=name,
        command=(_python(layout, profile), "-m", "serving.api", "--port", str(port)),
        folder=REPOSITORY,
        port=port,
        after=after,
        environment={"LAKEBOARD_PROCESS": name},
        ready=lambda: http_ok(f"http://127.0.0.1:{port}/readyz"),
        heartbeat=layout.heartbeat(f"api-{port}"),
    )


def relay(layout: Layout, profile: str, after: tuple[str, ...]) -> Process:
    """Defines the relay; its first heartbeat says that it holds its leases or waits for them."""
    beat, port = layout.heartbeat("relay"), layout.port("relay_metrics")
    return Process(
        name="relay",
        command=(_python(layout, profile), "-m", "serving.relay.run", "--metrics-port", str(port)),
        folder=REPOSITORY,
        port=port,
        after=after,
        environment={"LAKEBOARD_PROCESS": "relay"},
        ready=beat.exists,
        heartbeat=beat,
    )
