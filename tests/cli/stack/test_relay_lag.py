"""`status` finds the relay's lag in what its metrics port really says."""

from __future__ import annotations

import pytest
from prometheus_client import start_http_server

from cli.commands.stack import relay_lag
from cli.stack.layout import PORTS, layout_from
from cli.stack.process import free_port
from serving.metrics import RELAY_LAG

pytestmark = pytest.mark.unit


def test_the_worst_sink_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    port = free_port()
    offset = port - PORTS["relay_metrics"]
    layout = layout_from(
        {"LAKEBOARD_HOME": str(tmp_path_factory.mktemp("home")), "LAKEBOARD_PORT_OFFSET": str(offset)}
    )
    assert relay_lag(layout) is None
    server, thread = start_http_server(port, addr="127.0.0.1")
    try:
        RELAY_LAG.labels("0", "history").set(1.5)
        RELAY_LAG.labels("1", "kafka").set(7.25)
        assert 7.25 == relay_lag(layout)
    finally:
        server.shutdown()
        thread.join()
        RELAY_LAG.clear()
