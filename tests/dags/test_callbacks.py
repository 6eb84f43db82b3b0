"""A task that failed says where and what next, tells the alert's address if there is one, and never fails again."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from dags.callbacks import ReportFailure

pytestmark = pytest.mark.unit
TASK = SimpleNamespace(
    dag_id="maintenance_weekly",
    task_id="maintenance",
    run_id="r 1",
    try_number=4,
    log_url="http://127.0.0.1/log",
)
CONTEXT = {"task_instance": TASK, "exception": RuntimeError("exit 1\nsecond line")}


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(address, what was posted there)."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_one_line_says_where_and_what_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEBOARD_ALERT_URL", raising=False)
    ReportFailure("docs/runbooks/maintenance.md")(CONTEXT)
    (line,) = caplog.records
    assert logging.ERROR == line.levelno
    assert (
        'task_failed dag="maintenance_weekly" task="maintenance" run="r 1" try="4" error="exit 1 second line" '
        'log_url="http://127.0.0.1/log" next_step="docs/runbooks/maintenance.md"'
    ) == line.getMessage()


def test_an_alert_is_sent_once_and_its_failure_is_a_line(
    received: tuple[str, list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, bodies = received
    monkeypatch.setenv("LAKEBOARD_ALERT_URL", url)
    ReportFailure("look")(CONTEXT)
    assert [("task_failed", "maintenance_weekly", "look")] == [
        (body["event"], body["dag"], body["next_step"]) for body in bodies
    ]
    for wrong in (f"{url}/broken", "http://127.0.0.1:1/secret", "file:///etc/secret", "no address"):
        caplog.clear()
        monkeypatch.setenv("LAKEBOARD_ALERT_URL", wrong)
        ReportFailure("look")({})
        assert ["task_failed", "alert_not_sent"] == [r.getMessage().partition(" ")[0] for r in caplog.records]
        assert "secret" not in caplog.text
