"""Where Prometheus' programs are; a test that needs one is skipped with the command that brings it."""

from __future__ import annotations

import pytest

from cli import prometheus


def program(name: str) -> str:
    """The path of `prometheus`, `promtool` or `amtool`; skips where it cannot be had."""
    found = prometheus.find().get(name)
    if found is None:
        pytest.skip(f"no {name}: run ./lakeboard test service, or: {prometheus.MEND}")
    return str(found)
