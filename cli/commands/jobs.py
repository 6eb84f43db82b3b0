"""`job` and `settle`: a file of spark_jobs/ or flink_jobs/ in its environment, with the stack's addresses as arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.environments import child_env, ensure, say
from cli.jars import ensure_jars
from cli.java import java_home
from cli.places import ROOT
from cli.stack.hdfs import client_configuration
from cli.stack.layout import Layout, layout_from
from contracts.errors import BadInput
from contracts.periods import ENDING_PERIODS, next_start, parse_day
from contracts.settings import without_password

# What every job of the lake takes.
_LAKE = ("postgres-url", "postgres-password-file", "warehouse", "jars", "local-dir")
# The stack's arguments that each job takes; the user's own come after and win.
TAKES = {
    "settle": (*_LAKE, "kafka-bootstrap", "api-url", "importer-key-file", "shards"),
    "score_again": (*_LAKE, "kafka-bootstrap"),
    "ingest_answers": (*_LAKE, "kafka-bootstrap"),
    "count_enrolments": (*_LAKE, "kafka-bootstrap"),
    "maintain_tables": _LAKE,
    "archive_month": _LAKE,
    "submit": ("bootstrap", "connector-jar", "checkpoint-dir", "rest-url", "webhdfs-url"),
    "stop_streams": ("rest-url", "checkpoint-dir"),
}


def job(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file of spark_jobs/ or flink_jobs/, without .py.")],
) -> None:
    """Run one job; what follows NAME goes to it. A NAME that is none lists them; an argument that is none, its arguments.

    \b
    Examples:
      ./lakeboard job settle --period daily --from 2026-01-01 --to 2026-01-07
      ./lakeboard job archive_month --month 2026-01 --dry-run
      ./lakeboard job maintain_tables --dry-run
    """
    raise typer.Exit(run_job(name, context.args))


def settle(
    first: Annotated[str, typer.Option("--from", help="First UTC day, YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", help="Last UTC day, inclusive.")],
    json_: Annotated[bool, typer.Option("--json", help="The output is always one JSON document.")] = False,
) -> None:
    """Settle every ended day, week and month that a span touches.

    \b
    Example:
      ./lakeboard settle --from 2026-01-01 --to 2026-01-31
    """
    raise typer.Exit(run_job("settle", ["--from", first, "--to", last, *(["--json"] if json_ else [])]))


def backfill(
    month: Annotated[str, typer.Option(help="The month, YYYY-MM.")],
    json_: Annotated[bool, typer.Option("--json", help="The job's document on standard output.")] = False,
) -> None:
    """Settle every ended day, week and month that a month touches; without Airflow. Exit 1: days are incomplete.

    What is settled stays; answers that came late become the next version. Run again after a cut.

    \b
    Examples:
      ./lakeboard backfill --month 2026-01
      ./lakeboard backfill --month 2026-01 --json
    """
    try:
        first = parse_day(f"{month}-01")
    except BadInput:
        say(f"--month {month} is not YYYY-MM")
        raise typer.Exit(2) from None
    last = next_start("monthly", first) - timedelta(days=1)
    code, document = run_job_for_document("settle", ["--from", str(first), "--to", str(last)])
    if document is not None:
        print(json.dumps(document) if json_ else _backfilled(first, last, document))
    raise typer.Exit(code)


def _backfilled(first: date, last: date, document: dict[str, Any]) -> str:
    """What a settle job's document says, in a few lines, the next command last."""
    counts = Counter(one["period"] for one in document["settled"])
    parts = [f"{counts[period]} {period}" for period in ENDING_PERIODS if counts[period]]
    lines = [f"{first} to {last}: {', '.join(parts) or 'nothing new'} published"]
    incomplete = [one for one in document["skipped"] if one["why"] == "incomplete"]
    if waiting := len(document["skipped"]) - len(incomplete):
        lines.append(f"{waiting} periods have not ended")
    if incomplete:
        lines.append(f"{len(incomplete)} periods are incomplete, the first lacks {incomplete[0]['missing']}")
        lines.append("next: ./lakeboard status (the relay's lag), then the same command again")
    else:
        lines.append(f"next: ./lakeboard reconcile --from {first} --to {last}")
    return "\n".join(lines)


# Jobs that publish boards: what they adjust, Redis' boards must follow.
PUBLISHING = ("settle", "score_again")
# Jobs that write files into the lake.
WRITING = (*PUBLISHING, "ingest_answers", "count_enrolments", "maintain_tables", "archive_month")
# What `--unchanged-exit` asks for in the DAGs: Airflow takes it for "skipped".
UNCHANGED = 99


def run_job_for_document(name: str, arguments: list[str]) -> tuple[int, dict[str, Any] | None]:
    """Runs a job whose standard output is one JSON document: (exit code, the document where there is one)."""
    done = _run(name, arguments, capture=True)
    if done is None:
        return 2, None
    lines = (done.stdout or "").strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None


def run_job(name: str, arguments: list[str]) -> int:
    """Runs the job in its environment and returns its exit code; 2 if there is none of that name."""
    done = _run(name, arguments)
    return 2 if done is None else done.returncode


def _run(name: str, arguments: list[str], capture: bool = False) -> subprocess.CompletedProcess[str] | None:
    """The finished job, None if there is none of that name. Boards in Redis follow what it has published."""
    room = next((room for room in ("spark_jobs", "flink_jobs") if _is_job(room, name)), None)
    if room is None:
        say(f"no job {name!r}; there are {', '.join(sorted(TAKES))}")
        return None
    layout = layout_from(os.environ)
    python = ensure("main" if room == "spark_jobs" else "flink")
    ensure_jars("spark" if room == "spark_jobs" else "flink")
    values = stack_arguments(layout)
    given = [f"--{key}={values[key]}" for key in TAKES.get(name, ())]
    env = child_env(**layout.environment("full"), JAVA_HOME=str(java_home()))
    env.setdefault("HADOOP_CONF_DIR", str(client_configuration(layout.home / "data" / "hdfs")))
    command = [str(python), "-m", f"{room}.{name}", *given, *arguments]
    if name in WRITING:
        lacking = _storage(python, values, env)
        # A full disk is what maintenance is for.
        if lacking and (lacking, name) != (1, "maintain_tables"):
            return subprocess.CompletedProcess(command, lacking)
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE if capture else None)
    # Exit 1 may mean that some days are incomplete: others were published.
    if name in PUBLISHING and done.returncode in (0, 1, UNCHANGED):
        done.returncode = _redis_follows(python, env) or done.returncode
    return done


def _redis_follows(python: Path, env: dict[str, str]) -> int:
    """Makes Redis' boards again if they lack what an adjustment has published; nearly always they don't."""
    rebuild = [str(python), "-m", "serving.leaderboards.rebuild", "--if-stale"]
    return subprocess.run(rebuild, env=env, stdout=sys.stderr).returncode


def _storage(python: Path, values: dict[str, str], env: dict[str, str]) -> int:
    """Makes the lake's folder and looks at its space, a second's work; Spark would take a minute to find out.

    Returns 0, 1 if too little room is left, 3 if HDFS does not answer.
    """
    known = [f"--{name}={values[name]}" for name in ("webhdfs-url", "warehouse")]
    done = subprocess.run(
        [str(python), "-m", "lake.storage", "--make", *known], env=env, capture_output=True, text=True
    )
    if done.returncode:
        say(f"the lake cannot be written: {done.stderr.strip() or done.stdout.strip()}")
    return done.returncode


def _is_job(room: str, name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and (ROOT / room / f"{name}.py").exists()


def stack_arguments(layout: Layout) -> dict[str, str]:
    """Every argument about the stack that a job may take, without its dashes."""
    settings = layout.settings("full")
    return {
        # Everybody on the machine can read a process' arguments: secrets go as files.
        "postgres-url": without_password(settings.postgres_url),
        "postgres-password-file": f"{settings.secrets_dir}/postgres_password",
        "kafka-bootstrap": settings.kafka_bootstrap,
        "bootstrap": settings.kafka_bootstrap,
        "connector-jar": str(next((layout.cache / "jars" / "flink").glob("*.jar"), "")),
        "checkpoint-dir": f"{settings.hdfs_url}/lakeboard/flink/checkpoints",
        "rest-url": settings.flink_rest_url,
        "webhdfs-url": settings.webhdfs_url,
        "warehouse": settings.lake_warehouse,
        "api-url": f"http://127.0.0.1:{settings.api_ports[0]}",
        "importer-key-file": f"{settings.secrets_dir}/importer_key",
        "jars": str(layout.cache / "jars" / "spark"),
        "local-dir": str(layout.home / "data" / "spark"),
        "shards": str(len(settings.shards)),
    }
