"""Jobs as Airflow runs them: the stack's arguments fit, one JSON document comes out, and nothing new has its own exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.commands.jobs import TAKES, UNCHANGED
from cli.places import ROOT
from tests.spark_jobs.play import Outboxes, days_of_play

if TYPE_CHECKING:
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake


@pytest.mark.unit
def test_the_stacks_arguments_fit_the_jobs() -> None:
    from spark_jobs import ingest_answers, maintain_tables

    for module in (ingest_answers, maintain_tables):
        name = module.__name__.rpartition(".")[2]
        known = [f"--{argument}=x" for argument in TAKES[name]]
        assert "x" == module._arguments(known).warehouse
        with pytest.raises(SystemExit):
            module._arguments(known[1:])
    with pytest.raises(SystemExit):
        maintain_tables._arguments([*known, "--table", "no_such_table"])
    with pytest.raises(SystemExit):
        maintain_tables._arguments([*known, "--older-than-days", "-1"])


@pytest.mark.engine
@pytest.mark.long
def test_ingest_says_what_came_and_that_nothing_came(
    lake: Lake, broker: Broker, jars: Path, tmp_path: Path, empty_lake: None
) -> None:
    """Three processes: what they share is Kafka, the catalog and the checkpoint's folder, as between two tasks."""
    values = {
        "postgres-url": lake.postgres_url, "kafka-bootstrap": broker.bootstrap, "warehouse": lake.warehouse,
        "jars": jars / "spark", "local-dir": tmp_path / "local",
    }  # fmt: skip

    def run(name: str, *more: str) -> tuple[int, dict[str, Any]]:
        given = [f"--{key}={values[key]}" for key in TAKES[name] if key in values]
        done = subprocess.run(
            [sys.executable, "-m", f"spark_jobs.{name}", *given, *more],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)

    broker.send(Outboxes().answers(days_of_play(seed=3, count=12, first=date(2024, 4, 2), length_days=1)))
    code, document = run("ingest_answers", "--unchanged-exit", str(UNCHANGED))
    assert (0, 12) == (code, document["records"])
    code, document = run("ingest_answers", "--unchanged-exit", str(UNCHANGED))
    assert (UNCHANGED, 0) == (code, document["records"])
    code, document = run("maintain_tables", "--dry-run", "--table", "answers")
    assert (0, ["answers"], 12) == (
        code,
        list(document["tables"]),
        document["tables"]["answers"]["before"]["rows"],
    )
