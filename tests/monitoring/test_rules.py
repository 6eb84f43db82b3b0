"""Prometheus' and Alertmanager's configuration, judged by their own tools; every alert fires and is quiet in a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.places import ROOT
from cli.stack.layout import Layout
from cli.stack.monitoring import monitoring_folder, write_configuration
from cli.stack.scale import Scale, write_scale
from tests.monitoring.programs import program

pytestmark = pytest.mark.repository
FOLDER = ROOT / "docker" / "monitoring"
ALERT_TESTS = sorted(Path(__file__).parent.glob("alerts*_test.yml"))
OFFSET = 30_000


def succeeds(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def test_the_configuration_beside_a_stack_is_whole(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, OFFSET)
    write_scale(layout.run, Scale(3))
    write_configuration(layout)
    folder = monitoring_folder(layout)
    assert [{"targets": ["127.0.0.1:38101", "127.0.0.1:38102", "127.0.0.1:38103"]}] == yaml.safe_load(
        (folder / "targets" / "api.json").read_text()
    )
    named = [
        pattern
        for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
        for found in job["file_sd_configs"]
        for pattern in found["files"]
    ]
    assert sorted(named) == sorted(f"targets/{file.name}" for file in (folder / "targets").iterdir())
    succeeds(program("promtool"), "check", "config", "--lint=all", str(folder / "prometheus.yml"))


def test_the_rules_are_rules() -> None:
    files = [str(file) for file in sorted((FOLDER / "rules").glob("*.yml"))]
    succeeds(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files)


def test_every_alert_fires_when_it_must_and_is_quiet_when_it_must() -> None:
    succeeds(program("promtool"), "test", "rules", *map(str, ALERT_TESTS))
    tested = {
        (rule["alertname"], bool(rule["exp_alerts"]))
        for file in ALERT_TESTS
        for one in yaml.safe_load(file.read_text())["tests"]
        for rule in one["alert_rule_test"]
    }
    assert {(rule["alert"], fires) for rule in alerts() for fires in (True, False)} == tested


def test_every_alert_names_a_runbook_and_the_page_names_every_alert() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for rule in alerts():
        runbook = rule["annotations"]["runbook"]
        assert (ROOT / runbook).is_file(), rule["alert"]
        row = next((line for line in page.splitlines() if line.startswith(f"| `{rule['alert']}`")), "")
        assert runbook.removeprefix("docs/") in row, f"{rule['alert']} is not in docs/monitoring.md as it is"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_alertmanager_takes_its_configuration() -> None:
    succeeds(program("amtool"), "check-config", str(FOLDER / "alertmanager.yml"))
