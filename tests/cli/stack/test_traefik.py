"""The gateway's routes, run by Traefik itself over two small servers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from cli.stack.process import free_port
from cli.stack.traefik import routes_over

pytestmark = pytest.mark.service


class Server(ThreadingHTTPServer):
    """Says its port; ready or not, as a test wants it."""

    ready = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Reply)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Reply(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.send_response(200 if server.ready or self.path != "/readyz" else 503)
        self.end_headers()
        self.wfile.write(str(server.server_port).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gateway(folder: Path, ports: list[int]) -> Iterator[str]:
    """Traefik over some ports, on a free one of its own."""
    port = free_port()
    (folder / "routes.yml").write_text(json.dumps(routes_over(ports)))
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
        "providers": {"file": {"filename": str(folder / "routes.yml")}},
        "log": {"level": "ERROR"},
    }
    (folder / "static.yml").write_text(json.dumps(static))
    program = Path(sys.prefix) / "bin" / "traefik"
    child = subprocess.Popen([str(program), "--configFile", str(folder / "static.yml")])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)


def until(url: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + 30
    while True:
        try:
            if (reply := httpx.get(url)).status_code == status:
                return reply
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, url
        time.sleep(0.1)


def test_a_socket_goes_to_the_handler_that_placement_named(tmp_path: Path) -> None:
    servers = [Server(), Server()]
    ports = [server.server_port for server in servers]
    with gateway(tmp_path, ports) as url:
        for port in ports:
            until(f"{url}/v1/live?handler=api-{port}&token=t", 200)
        for port in ports * 3:
            assert str(port) == httpx.get(f"{url}/v1/live?handler=api-{port}&token=t").text
        # Without a name, and anywhere else, it balances.
        for path in ("/v1/live?token=t", "/v1/quizzes", f"/v1/quizzes?handler=api-{ports[0]}"):
            assert {str(port) for port in ports} == {httpx.get(url + path).text for _ in range(6)}, path
        servers[1].ready = False
        until(f"{url}/v1/live?handler=api-{ports[1]}", 503)
        assert {str(ports[0])} == {httpx.get(f"{url}/v1/live").text for _ in range(6)}
    for server in servers:
        server.shutdown()
