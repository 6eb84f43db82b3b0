"""Prometheus' configuration beside a running stack: docker/monitoring copied, and the addresses of what is to be scraped.

Written to `run/monitoring` by the supervisor; Prometheus itself is not part of the stack (docs/monitoring.md). The api
processes listed are those that are wanted, ready or not: one that is gone is then seen to be gone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from cli.stack.layout import REPOSITORY, Layout
from cli.stack.scale import read_scale

SOURCE = REPOSITORY / "docker" / "monitoring"


def monitoring_folder(layout: Layout) -> Path:
    """Where Prometheus' configuration of this stack lies."""
    return layout.run / "monitoring"


def write_configuration(layout: Layout) -> None:
    """Prometheus' configuration and rules, as the repository has them now, and the targets."""
    folder = monitoring_folder(layout)
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    for file in (SOURCE / "prometheus.yml", *(SOURCE / "rules").glob("*.yml")):
        shutil.copyfile(file, folder / file.relative_to(SOURCE))
    write_targets(layout)


def write_targets(layout: Layout) -> None:
    """Whom Prometheus scrapes; it reads the files again when they change."""
    count = read_scale(layout.run).count
    _write(layout, "api", [f"api_{number}" for number in range(1, count + 1)])
    _write(layout, "relay", ["relay_metrics"])
    _write(layout, "traefik", ["traefik"])


def _write(layout: Layout, name: str, doors: Sequence[str]) -> None:
    text = json.dumps([{"targets": [f"127.0.0.1:{layout.port(door)}" for door in doors]}])
    file = monitoring_folder(layout) / "targets" / f"{name}.json"
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(file)
