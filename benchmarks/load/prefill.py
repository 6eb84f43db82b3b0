"""Runs `prefill_statements` in Flink's environment: python -m benchmarks.load.prefill ARGUMENTS (benchmarks/streams.py)."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.load.many_answers import Play, prefill_statements
from contracts import names
from contracts.events import flink_columns
from flink_jobs.table_jobs import environment_of


def main() -> None:
    """Fill the topic and wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--connector-jar", required=True, type=Path)
    for name in ("answers", "rate", "players", "quizzes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()
    play = Play(arguments.answers, arguments.rate, arguments.players, arguments.quizzes)
    options = {
        "execution.runtime-mode": "STREAMING",
        "execution.target": "local",
        "execution.attached": "true",
        # One after the other: the order of numbers is the order in each partition.
        "parallelism.default": "1",
        "pipeline.object-reuse": "true",
        "pipeline.jars": arguments.connector_jar.resolve().as_uri(),
        "table.local-time-zone": "UTC",
    }
    environment = environment_of(options)
    for text in prefill_statements(play, arguments.bootstrap, names.ANSWERS, flink_columns()):
        result = environment.execute_sql(text)
        if text.startswith("INSERT"):
            result.wait()


if __name__ == "__main__":
    main()
