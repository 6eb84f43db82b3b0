"""The gateway as a part by itself: Traefik, and beside it a loop that follows the api processes as DNS names them.

A platform says by a name's addresses which processes there are (a Compose service, a headless Kubernetes Service). Which of
them take play is Traefik's own look at /readyz, and which socket goes to which is placement's, as on one machine.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from cli.stack.traefik import replace_routes, routes_to, static_with
from contracts.settings import Settings

_log = logging.getLogger("lakeboard.gateway")
LOOK_S = 1.0
# Its own figures and its health: for who is in the container only.
INNER = "127.0.0.1:8081"
# Longer than Traefik waits for requests that are open.
STOP_S = 15.0


def name_of(address: str) -> str:
    """What the api process at an address is called by itself and by the gateway. Pure."""
    return "api-" + address.replace(".", "-").replace(":", "-")


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses that a name has now, sorted. Raises OSError where the name cannot be looked up."""
    found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    return sorted({str(one[4][0]) for one in found})


def servers_of(addresses: Sequence[str], port: int) -> dict[str, str]:
    """Name → URL of the processes at these addresses. Pure."""
    return {name_of(address): f"http://{address}:{port}" for address in addresses}


def run_gateway(settings: Settings, folder: Path, web_port: int, host: str, port: int) -> int:
    """Runs Traefik until a signal or its end; returns its exit code. host, port: where the api processes are found.

    Where a name is not found the routes stay: an outage of DNS is none of the api's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The default is the api's, before which a gateway stands; before a gateway nobody does until he is named.
    proxies = () if settings.trusted_proxies == Settings().trusted_proxies else settings.trusted_proxies
    routes, static = folder / "routes.yml", folder / "traefik.yml"
    static.write_text(json.dumps(static_with(f":{web_port}", INNER, routes, proxies=proxies)))

    def follow() -> None:
        try:
            found = servers_of(addresses_of(host, port), port)
        except OSError as error:
            _log.warning("api_not_found host=%s error=%s", host, error)
            found = {}
        if found or not routes.exists():
            replace_routes(
                routes, routes_to(found, allowed_networks=settings.allowed_networks, proxies=proxies)
            )

    follow()
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    program = str(Path(sys.prefix) / "bin" / "traefik")
    with subprocess.Popen([program, "--configFile", str(static)]) as child:
        while not stopping.wait(LOOK_S) and child.poll() is None:
            follow()
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
        code = child.wait()
    return 0 if stopping.is_set() else code or 1
