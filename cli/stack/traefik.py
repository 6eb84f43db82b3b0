"""Traefik: the one door. Balances over the api processes that say they are ready.

Only its web entry point may listen beyond loopback, and only with `--lan`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.stack.layout import Layout
from cli.stack.process import Process, http_ok


def _static(layout: Layout, lan: bool, routes: Path) -> dict[str, Any]:
    host = "0.0.0.0" if lan else "127.0.0.1"
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {
                "address": f"{host}:{layout.port('web')}",
                # Sockets live for hours; the default read timeout of 60 s is for the request, not for them.
                "transport": {"respondingTimeouts": {"readTimeout": "60s", "idleTimeout": "180s"}},
            },
            "traefik": {"address": f"127.0.0.1:{layout.port('traefik')}"},
        },
        "api": {"dashboard": False},
        "ping": {"entryPoint": "traefik"},
        "metrics": {"prometheus": {"entryPoint": "traefik"}},
        "providers": {"file": {"filename": str(routes), "watch": True}},
        "log": {"level": "WARN"},
    }


def routes_over(ports: Sequence[int]) -> dict[str, Any]:
    """Routes to the api processes on these ports: balanced over all, and a socket to the one that placement names.

    A named process that is not ready (it drains, or is gone) answers 503 here; a client then asks placement again.
    """
    check = {"path": "/readyz", "interval": "1s", "timeout": "900ms"}

    def service(*found: int) -> dict[str, Any]:
        servers = [{"url": f"http://127.0.0.1:{port}"} for port in found]
        return {"loadBalancer": {"servers": servers, "healthCheck": check}}

    placed = {
        f"api-{port}": {
            "rule": f"Path(`/v1/live`) && Query(`handler`, `api-{port}`)",
            "entryPoints": ["web"],
            "service": f"api-{port}",
        }
        for port in ports
    }
    everything = {
        # Internal routes and metrics are for this machine only, whatever the network.
        "rule": "ClientIP(`127.0.0.1/32`) || !(PathPrefix(`/internal`) || PathPrefix(`/metrics`))",
        "entryPoints": ["web"],
        "service": "api",
        # Traefik takes longer rules first; a placed socket's must win whatever their lengths.
        "priority": 1,
    }
    return {
        "http": {
            "routers": {**placed, "all": everything},
            "services": {"api": service(*ports), **{f"api-{port}": service(port) for port in ports}},
        }
    }


def traefik(layout: Layout, lan: bool, after: tuple[str, ...]) -> Process:
    """Defines the gateway; its configuration is written anew before each start."""
    folder = layout.run / "traefik"
    static, routes = folder / "traefik.yml", folder / "routes.yml"

    def write_configuration() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        routes.write_text(
            json.dumps(routes_over([layout.port(name) for name in ("api_1", "api_2")]), indent=1)
        )  # JSON is YAML
        static.write_text(json.dumps(_static(layout, lan, routes), indent=1))

    program = Path(sys.prefix) / "bin" / "traefik"
    return Process(
        name="traefik",
        command=(str(program), "--configFile", str(static)),
        folder=folder,
        port=layout.port("web"),
        after=after,
        prepare=write_configuration,
        ready=lambda: http_ok(f"http://127.0.0.1:{layout.port('traefik')}/ping"),
    )
