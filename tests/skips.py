"""A pytest plugin of `./lakeboard test all`: a skipped test fails the run.

A test that needs data which does not ship (needs_shared) may be skipped where that data is absent.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_skipped: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None] | pytest.TestReport:
    """Notes every skip that is not allowed."""
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("needs_shared") is None:
        _skipped.append(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns a green run with skips red."""
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says why."""
    if _skipped:
        terminalreporter.section("skipped, which `test all` does not allow")
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
