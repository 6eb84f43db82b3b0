"""`test` and `check`: the one way that people and CI run them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer

from cli import chromium, containers, prometheus
from cli.environments import child_env, ensure, say
from cli.jars import GROUPS, ensure_jars
from cli.java import java_home
from cli.places import ROOT

KINDS = ("unit", "property", "service", "engine", "repository", "browser", "end_to_end", "faults")
CI = KINDS[:-1]
# pytest's own: everything was deselected or nothing was collected.
NO_TESTS = 5
# Kinds that start Kafka, HDFS, QuestDB, Spark or Flink.
WITH_JARS = {"service", "engine", "end_to_end", "faults"}
WITH_FLINK = {"engine", "end_to_end", "faults"}
WITH_AIRFLOW = {"repository", "end_to_end"}
# Kinds that check the monitoring's configuration, or run it.
WITH_PROMETHEUS = {"repository", "service"}
# The container files are checked and run.
WITH_CONTAINERS = {"repository", "end_to_end"}


def test(
    context: typer.Context,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{' '.join(KINDS)} all; none: check and all but faults and what is marked long. "
            "pytest options follow --."
        ),
    ] = None,
) -> None:
    """Run the tests of some kinds.

    \b
    Examples:
      ./lakeboard test
      ./lakeboard test unit property
      ./lakeboard test service -- -x -k valkey
    """
    asked = [kind for kind in kinds or [] if kind in (*KINDS, "all")]
    rest = [kind for kind in kinds or [] if kind not in asked] + context.args
    wrong = (
        [word for word in rest if not word.startswith("-")]
        if not any(w.startswith("-") for w in rest)
        else []
    )
    if wrong:
        say(f"no kind of test {wrong[0]!r}; there are {', '.join(KINDS)} and all")
        raise typer.Exit(2)
    everything = "all" in asked
    chosen = KINDS if everything else tuple(kind for kind in KINDS if kind in asked) or CI
    results: dict[str, str] = {}
    failed = False
    if not asked:
        failed = _check() != 0
        results["check"] = "failed" if failed else "passed"
    ran = _run_kinds(chosen, rest, results, strict=everything, long=bool(asked))
    for name, outcome in results.items():
        say(f"{name:<11}{outcome}")
    if not ran and not results.get("check"):
        say("no test ran")
        raise typer.Exit(NO_TESTS)
    failed = failed or any(outcome.startswith("failed") for outcome in results.values())
    raise typer.Exit(1 if failed else 0)


def _run_kinds(
    chosen: tuple[str, ...], rest: list[str], results: dict[str, str], strict: bool, long: bool
) -> bool:
    """Runs pytest once a kind, so that each kind's daemons end before the next begins; True if any test ran."""
    python = ensure("test")
    env = child_env()
    if strict:
        rest = ["-p", "tests.skips", *rest]
    _provide(set(chosen), python, env, long)
    ran = False
    for kind in chosen:
        say(f"test {kind}")
        began = time.monotonic()
        which = kind if long else f"{kind} and not long"
        command = [str(python), "-m", "pytest", "-m", which, "-q", *rest]
        code = subprocess.run(command, cwd=ROOT, env=env).returncode
        took = f"{time.monotonic() - began:.0f} s"
        ran = ran or code != NO_TESTS
        results[kind] = {0: f"passed, {took}", NO_TESTS: "has no tests"}.get(
            code, f"failed (exit {code}), {took}"
        )
    return ran


def _provide(kinds: set[str], python: Path, env: dict[str, str], long: bool) -> None:
    """Fetches what the kinds start, before pytest's clock runs."""
    if "browser" in kinds:
        found = chromium.ensure(python)
        if found:
            env["LAKEBOARD_CHROMIUM"] = str(found)
        else:
            say(f"the browser tests will fail: no Chromium can be had here. Run: {chromium.MEND}")
    if kinds & WITH_PROMETHEUS and len(prometheus.ensure()) < len(prometheus.PROGRAMS):
        say(f"tests of the monitoring will be skipped: no Prometheus can be had here. Run: {prometheus.MEND}")
    if kinds & WITH_CONTAINERS:
        ensure("containers")
    if "end_to_end" in kinds and long and containers.ensure():
        say(f"the tests of containers will be skipped: podman cannot be had here. Run: {containers.MEND}")
    if kinds & WITH_AIRFLOW:
        ensure("airflow")
    if kinds & WITH_FLINK:
        ensure("flink")
    if kinds & WITH_JARS:
        ensure_jars(*GROUPS)
        env["JAVA_HOME"] = str(java_home())


def check() -> None:
    """Check format, lint, types and import rules."""
    raise typer.Exit(_check())


def _check() -> int:
    bin_folder = Path(ensure("test")).parent
    rooms = [
        room
        for room in ("contracts", "sketches", "serving", "lake", "spark_jobs", "cli", "clients", "benchmarks")
        if (ROOT / room).exists()
    ]
    steps = {
        "format": ["ruff", "format", "--check", "--output-format", "concise", "."],
        "lint": ["ruff", "check", "."],
        "types": ["mypy", *rooms],
        "imports": ["lint-imports", "--no-cache"],
    }
    failed = []
    for name, (program, *arguments) in steps.items():
        done = subprocess.run(
            [str(bin_folder / program), *arguments], cwd=ROOT, env=child_env(), capture_output=True, text=True
        )
        say(f"check {name}: {'failed' if done.returncode else 'passed'}")
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    if failed:
        say(
            "mend format with: " + os.path.join(str(bin_folder), "ruff") + " format ."
        ) if "format" in failed else None
    return 1 if failed else 0
