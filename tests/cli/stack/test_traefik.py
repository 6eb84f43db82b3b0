"""The gateway's routes, run by Traefik itself over two small servers."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.stack.process import free_port
from cli.stack.traefik import THIS_MACHINE, routes_over, static_with

pytestmark = pytest.mark.service


class Server(ThreadingHTTPServer):
    """Says its port; ready or not, as a test wants it."""

    ready = True
    forwarded_for = ""
    # The library's five are too few for 64 connections at once on a busy machine: the gateway would say 502.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Reply)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Reply(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        if self.path != "/readyz":
            server.forwarded_for = self.headers.get("X-Forwarded-For", "")
        self.send_response(200 if server.ready or self.path != "/readyz" else 503)
        self.end_headers()
        self.wfile.write(str(server.server_port).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gateway(folder: Path, ports: list[int], *, read_timeout_s: int = 20, **limits: Any) -> Iterator[str]:
    """Traefik over some ports, on a free one of its own, configured as the stack's is."""
    port = free_port()
    routes = folder / "routes.yml"
    routes.write_text(json.dumps(routes_over(ports, **limits)))
    web, inner = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
    static = static_with(web, inner, routes, read_timeout_s, limits.get("proxies", ()))
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


def test_a_process_that_has_just_died_costs_no_request(tmp_path: Path) -> None:
    servers = [Server(), Server()]
    with gateway(tmp_path, [server.server_port for server in servers]) as url:
        while 2 > len({until(f"{url}/v1/quizzes", 200).text for _ in range(4)}):
            pass
        servers[1].shutdown()
        servers[1].server_close()
        # Before the next health check: half of them are sent to it first.
        with httpx.Client() as client:
            replies = [client.get(f"{url}/v1/quizzes") for _ in range(40)]
    assert {(200, str(servers[0].server_port))} == {(one.status_code, one.text) for one in replies}
    servers[0].shutdown()


def test_only_allowed_networks_get_in(tmp_path: Path) -> None:
    server = Server()
    networks = ("192.0.2.0/24",)
    for limits, status in (({"always": ()}, 403), ({}, 200)):
        with gateway(tmp_path, [server.server_port], allowed_networks=networks, **limits) as url:
            until(f"{url}/v1/quizzes", status)
            # What a client says of its own address is not believed.
            forged = {"X-Forwarded-For": "192.0.2.9", "X-Real-Ip": "192.0.2.9"}
            assert status == httpx.get(f"{url}/v1/quizzes", headers=forged).status_code
    server.shutdown()


def test_a_denied_network_is_refused_live_and_let_in_again(tmp_path: Path) -> None:
    server = Server()
    with gateway(tmp_path, [server.server_port]) as url:
        until(f"{url}/v1/quizzes", 200)
        routes = tmp_path / "routes.yml"
        for denied, always, status in (
            (("192.0.2.0/24", "127.0.0.0/8"), (), 403),
            (("192.0.2.0/24",), (), 200),
            (("127.0.0.0/8",), (), 403),
            # The stack's own commands come in, whoever is denied.
            (("0.0.0.0/0", "::/0"), THIS_MACHINE, 200),
        ):
            found = routes_over([server.server_port], always=always, denied_networks=denied)
            draft = tmp_path / "draft"
            draft.write_text(json.dumps(found))
            draft.replace(routes)
            until(f"{url}/v1/quizzes", status)
            until(f"{url}/v1/live?handler=api-{server.server_port}", status)
    server.shutdown()


def test_the_application_gets_the_senders_true_address(tmp_path: Path) -> None:
    server = Server()
    with gateway(tmp_path, [server.server_port]) as url:
        until(f"{url}/v1/quizzes", 200)
        httpx.get(f"{url}/v1/quizzes", headers={"X-Forwarded-For": "192.0.2.9"})
    assert "127.0.0.1" == server.forwarded_for
    server.shutdown()


def test_behind_a_proxy_a_sender_is_who_the_proxy_says(tmp_path: Path) -> None:
    server = Server()
    # This test stands where the proxy does. What stands left of its own word is the sender's to invent.
    known = {"allowed_networks": ("192.0.2.0/24",), "proxies": ("127.0.0.0/8",), "rate": 1, "burst": 5}
    with gateway(tmp_path, [server.server_port], **known) as url:

        def asks(forwarded: str) -> int:
            return httpx.get(f"{url}/v1/quizzes", headers={"X-Forwarded-For": forwarded}).status_code

        until(f"{url}/v1/quizzes", 403)  # it is up, and who comes past the proxy is let in nowhere
        assert 403 == asks("192.0.2.1, 198.51.100.7")
        deadline = time.monotonic() + 30
        while 200 != asks("198.51.100.7, 192.0.2.2"):
            assert time.monotonic() < deadline
        assert "198.51.100.7, 192.0.2.2, 127.0.0.1" == server.forwarded_for
        assert 429 in {asks("192.0.2.3") for _ in range(20)}
        assert 429 in {asks(f"198.51.100.{number}, 192.0.2.3") for number in range(3)}, "one sender"
        assert 200 == asks("192.0.2.4"), "another"
    server.shutdown()


def test_an_address_that_asks_too_much_is_told_to_wait(tmp_path: Path) -> None:
    server = Server()
    with gateway(tmp_path, [server.server_port], rate=20, burst=60) as url:
        until(f"{url}/v1/quizzes", 200)

        async def flood() -> list[httpx.Response]:
            turns = asyncio.Semaphore(64)
            async with httpx.AsyncClient(timeout=60) as client:

                async def one() -> httpx.Response:
                    async with turns:
                        return await client.get(f"{url}/nothing")

                return await asyncio.gather(*(one() for _ in range(400)))

        began = time.monotonic()
        replies = asyncio.run(flood())
        taken = sum(reply.status_code == 200 for reply in replies)
        assert taken <= 60 + 20 * (time.monotonic() - began)
        refused = [reply for reply in replies if reply.status_code == 429]
        assert len(refused) == len(replies) - taken
        assert all("retry-after" in reply.headers for reply in refused)
    server.shutdown()


def test_who_sends_a_byte_now_and_then_holds_nobody_up(tmp_path: Path) -> None:
    server = Server()
    with gateway(tmp_path, [server.server_port], read_timeout_s=3) as url:
        until(f"{url}/v1/quizzes", 200)
        port = int(url.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        try:
            for line in slow:
                line.sendall(b"POST /v1/join HTTP/1.1\r\nHost: x\r\nX-A: ")
            began = time.monotonic()
            for _ in range(4):
                for line in slow:
                    with suppress(OSError):  # those that were closed meanwhile
                        line.sendall(b"a")
                assert 200 == httpx.get(f"{url}/v1/quizzes", timeout=2).status_code
                time.sleep(1)
            for line in slow:
                line.settimeout(10)
                with suppress(ConnectionResetError):
                    while line.recv(4096):  # perhaps a 408; then the end
                        pass
            assert time.monotonic() - began < 10
        finally:
            for line in slow:
                line.close()
    server.shutdown()
