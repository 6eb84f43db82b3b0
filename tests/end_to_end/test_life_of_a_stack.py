"""A small stack through its life: open to the local network, down and up again with its data, purged."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.whole_stack import WholeStack
from tests.simulated_week import PATH

pytestmark = pytest.mark.end_to_end


def own_address() -> str:
    """This machine's address on a network, loopback where it has none."""
    found = (
        one.address for ones in psutil.net_if_addrs().values() for one in ones if one.family == socket.AF_INET
    )
    return next((address for address in found if not address.startswith("127.")), "127.0.0.1")


def doors(stack: WholeStack) -> set[tuple[str, int]]:
    """(address, port) of everything that listens beyond loopback."""
    supervisor = json.loads((stack.layout.run / "stack.json").read_text())["pid"]
    return {
        (one.laddr.ip, one.laddr.port)
        for process in psutil.Process(supervisor).children(recursive=True)
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN and one.laddr.ip not in ("127.0.0.1", "::ffff:127.0.0.1")
    }


def test_lan_opens_the_web_door_alone_and_data_outlives_down(tmp_path: Path) -> None:
    stack = WholeStack(tmp_path)
    web = stack.layout.port("web")
    try:
        shown = stack.run("up", "--profile", "live", "--lan")
        assert f"http://{own_address()}:{web}" in shown or own_address() == "127.0.0.1"
        assert "▄" in shown, "a QR code"
        assert {web} == {port for _, port in doors(stack)}
        outside = f"http://{own_address()}:{web}"
        assert 200 == httpx.get(outside).status_code
        if own_address() != "127.0.0.1":
            for path in ("/metrics", "/internal/barriers"):
                assert 404 == httpx.get(outside + path).status_code
        report = stack.document("replay", str(PATH), "--format", "csv", "--keep-boards", "--json")
        before = stack.document("board", "global", "all_time", "current", "--json")["participants"]
        stack.until_relayed()

        stack.run("up", "--profile", "live")  # changes over to loopback
        assert set() == doors(stack)
        again = stack.document("replay", str(PATH), "--format", "csv", "--json")
        assert (0, report["answers"]) == (again["counted"], again["repeated"])
        after = stack.document("board", "global", "all_time", "current", "--json")["participants"]
        assert 0 < before <= after
        assert (stack.layout.home / "data").exists()
    finally:
        stack.run("down", "--purge")
    assert not (stack.layout.home / "data").exists() and not (stack.layout.home / "secrets").exists()
