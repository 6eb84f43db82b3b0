"""The compose files over podman, from an image that is built here: games, a whole file of answers, restarts, an end.

What Docker adds to podman (a health check that holds back a dependent start) is not run here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.environments import child_env
from cli.places import ROOT
from cli.stack.process import free_port
from clients.live_client import LiveClient
from contracts.periods import iso_ms
from tests.containers.platform import IMAGE, Platform, require
from tests.independent import independent_boards
from tests.serving.live.test_play import bearer, right_choice
from tests.simulated_week import PATH

pytestmark = [pytest.mark.end_to_end, pytest.mark.long]
SERVICES = "compose.services.yaml"
PARTS = ("valkey-1", "valkey-2", "postgres", "api", "relay", "gateway")
# A machine that does other things too.
UP_S = 180.0


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Podman with the image."""
    require()
    made = Platform(tmp_path_factory.mktemp("podman"))
    try:
        made.import_base()
        seconds = made.build()
        size = int(made.podman("image", "inspect", IMAGE, "--format", "{{.Size}}"))
        print(f"image {size / 1e6:.0f} MB, built in {seconds:.0f} s")
        yield made
    finally:
        made.close()


@pytest.fixture
def port(platform: Platform) -> Iterator[int]:
    """The published port of the web door; whatever a test leaves is removed."""
    port = free_port()
    platform.env["LAKEBOARD_WEB_PORT"] = str(port)
    yield port
    platform.clear()


def until(said: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits; fails naming what did not happen; returns the seconds."""
    began = time.monotonic()
    while not said():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


def until_ready(url: str) -> float:
    """Waits until an api process takes play through the published door."""

    def ready() -> bool:
        try:
            return 200 == httpx.get(f"{url}/readyz", timeout=5).status_code
        except httpx.TransportError:
            return False

    return until(ready, UP_S, "ready through the published door")


def replay(url: str, secrets: Path) -> Any:
    """`./lakeboard replay` of the shipped week, from outside of the containers."""
    env = child_env(LAKEBOARD_API_URL=url, LAKEBOARD_SECRETS_DIR=str(secrets))
    command = [sys.executable, "-P", "-m", "cli", "replay", str(PATH), "--format", "csv", "--keep-boards"]
    done = subprocess.run([*command, "--json"], env=env, cwd=ROOT, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def differing(url: str) -> list[str]:
    """Boards that are not, row for row, what independent SQL makes of the shipped week."""
    expected: dict[tuple[str, str, str], list[tuple[Any, ...]]] = {}
    query = "SELECT * FROM boards ORDER BY scope, period, start, rank"
    for scope, period, start, *row in independent_boards(PATH, "csv").execute(query).fetchall():
        rank, user, points, reached_us = row
        reached = None if reached_us is None else iso_ms(reached_us)
        expected.setdefault((scope, period, start), []).append((rank, user, points, reached))
    assert len(expected) > 50
    wrong = []
    with httpx.Client(base_url=url, timeout=30) as http:
        for (scope, period, start), rows in expected.items():
            reply = http.get(f"/v1/leaderboards/{scope}/{period}/{start}", params={"k": len(rows)})
            shown = reply.raise_for_status().json()
            found = [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in shown["entries"]]
            if (rows, len(rows)) != (found, shown["participants"]):
                wrong.append(f"{scope} {period} {start}")
    return wrong


async def play(url: str) -> tuple[str, str]:
    """A game of two, one of them on the handler that placement names. Returns that name, and who let the player in."""
    live = url.replace("http", "ws")
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        made = (await http.post("/v1/sessions", json={"quiz_id": "starter-a1"})).raise_for_status().json()
        session, host = made["session_id"], bearer(made["token"])

        async def join(name: str) -> str:
            joined = await http.post("/v1/join", json={"pin": made["pin"], "name": name})
            return str(joined.raise_for_status().json()["token"])

        ada, grace = await join("Ada"), await join("Grace")
        placed = await http.get(f"/v1/sessions/{session}/handler", headers=bearer(grace))
        place = placed.raise_for_status().json()
        async with (
            LiveClient(f"{live}/v1/live", ada) as player,
            LiveClient(live + place["path"], grace) as other,
        ):
            (await http.post(f"/v1/sessions/{session}/next", headers=host)).raise_for_status()
            question = await player.until("question")
            result = await player.answer(question["question_id"], right_choice(question))
            assert result["correct"] and 500 <= result["total"] <= 1000
            board = await http.get(f"/v1/leaderboards/session:{session}/all_time/current")
            entries = board.raise_for_status().json()["entries"]
            assert [("Ada", result["total"]), ("Grace", 0)] == [(e["name"], e["points"]) for e in entries]
    return place["handler"], other.welcome["handler"]


def listening(port: int) -> set[str]:
    """This machine's addresses at which the port answers."""
    found = set()
    for address in ("127.0.0.1", socket.gethostbyname(socket.gethostname())):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                found.add(address)
    return found


def assert_shut_in(platform: Platform, names: list[str]) -> None:
    """No root, no capability, nothing to write to but what was given; no secret among what podman shows."""
    api = next(name for name in names if "_api_" in name)
    secrets = {
        name: platform.podman("exec", api, "cat", f"/run/secrets/{name}")
        for name in ("jwt_key", "importer_key", "postgres_password", "valkey_password")
    }
    assert all(len(text) >= 32 for text in secrets.values())
    for name in names:
        shown = platform.inspect(name)
        assert [] == [one for one, text in secrets.items() if text in json.dumps(shown)], name
        assert "10001:10001" == shown["Config"]["User"], name
        assert shown["HostConfig"]["ReadonlyRootfs"] and shown["HostConfig"]["Memory"], name
        assert not shown["EffectiveCaps"], name
        platform.podman("exec", name, "sh", "-c", "! touch /opt/lakeboard/x /var/lib/lakeboard/x 2>/dev/null")


def test_services_of_their_own(platform: Platform, port: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{port}"
    platform.compose(SERVICES, "up", "-d", "--no-build")
    print(f"ready {until_ready(url):.1f} s after `up` returned")
    names = [name for name in platform.names() if "_secrets_" not in name]
    assert 7 == len(names), "two api processes and one of each other part"
    until(lambda: all(platform.healthy(name) for name in names), UP_S, "every part is healthy")
    assert_shut_in(platform, names)
    bound = [platform.inspect(name)["HostConfig"]["PortBindings"].values() for name in names]
    assert [[{"HostIp": "127.0.0.1", "HostPort": str(port)}]] == [
        door for doors in bound for door in doors if door
    ]
    assert {"127.0.0.1"} == listening(port)
    for path in ("/metrics", "/internal/handlers"):
        assert 404 == httpx.get(url + path).status_code, path
    print(platform.podman("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"))

    apis = [name for name in names if "_api_" in name]
    key = platform.podman("exec", apis[0], "cat", "/run/secrets/importer_key")
    (tmp_path / "importer_key").write_text(key)
    report = replay(url, tmp_path)
    assert (0, 0) == (report["refused"], report["unreadable"]) and report["counted"] > 1000
    until(lambda: not differing(url), UP_S, "every board is what independent SQL says")

    for _ in range(3):
        wanted, handler = asyncio.run(play(url))
        assert wanted == handler.rsplit("-", 1)[0], "the gateway brings a socket to the handler that it names"

    add_admin = ("exec", apis[1], "./lakeboard", "user", "add", "root", "--role", "admin", "--json")
    assert json.loads(platform.podman(*add_admin))["ticket"]

    platform.podman("kill", apis[0])
    until_ready(url)
    asyncio.run(play(url))

    platform.compose(SERVICES, "down")
    assert [] == platform.names() and set() == listening(port)
    platform.compose(SERVICES, "up", "-d", "--no-build")
    until_ready(url)
    again = replay(url, tmp_path)
    assert (0, report["answers"]) == (again["counted"], again["repeated"])
    platform.compose(SERVICES, "down", "-v")
    assert_nothing_left(platform, port)


def test_all_in_one_container(platform: Platform, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    platform.compose("compose.yaml", "up", "-d", "--no-build")
    print(f"ready {until_ready(url):.1f} s after `up` returned")
    (name,) = platform.names()
    until(lambda: platform.healthy(name), UP_S, "healthy")
    asyncio.run(play(url))
    board = httpx.get(f"{url}/v1/leaderboards/quiz:starter-a1/all_time/current").raise_for_status().json()
    platform.compose("compose.yaml", "down")
    platform.compose("compose.yaml", "up", "-d", "--no-build")
    until_ready(url)
    kept = httpx.get(f"{url}/v1/leaderboards/quiz:starter-a1/all_time/current").raise_for_status().json()
    assert 1 <= len(board["entries"]) and board["entries"] == kept["entries"]
    platform.compose("compose.yaml", "down", "-v")
    assert_nothing_left(platform, port)


def assert_nothing_left(platform: Platform, port: int) -> None:
    """`down -v` leaves no container, volume, network or door."""
    assert [] == platform.names()
    assert "" == platform.podman("volume", "ls", "-q")
    assert ["podman"] == platform.podman("network", "ls", "--format", "{{.Name}}").split()
    assert set() == listening(port)
