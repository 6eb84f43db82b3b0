"""Submit the streams job: what is hot while the day runs (flink_jobs/*.sql), live or over a history.

    python -m flink_jobs.submit --bootstrap HOST:PORT --rest-url URL --connector-jar JAR --checkpoint-dir DIR
    …                           --from 2026-01-01 --to 2026-01-31     a backfill: a job that ends

Everything comes as arguments. A TableEnvironment with a remote target does not read the cluster's config.yaml, so
checkpointing and the restart strategy are put into this submission's Configuration, and after submitting this
asserts on the REST address that a checkpoint completed: without it, sinks would never flush after a fault. A job of
the same name that runs already is left alone; one that has ended goes on from its newest checkpoint or savepoint
(flink_jobs/checkpoints.py). A backfill always starts anew and is waited for: it is done when it has FINISHED. With
`--local` the job runs in this process until it is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
import tempfile
import time
import urllib.request
import zipfile
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from contracts import names
from contracts.errors import BadInput, BrokenContract, LakeboardError, SystemMissing
from contracts.periods import parse_day
from flink_jobs.checkpoints import as_url, newest_state, savepoint_dir
from flink_jobs.statements import HISTORY_FILES, LIVE_FILES, OPTIONAL_FILES, History, parameters, statements

ROOT = Path(__file__).resolve().parent.parent
# A partition silent for this long no longer holds the others' watermark back. Lower is dangerous: a source that needs
# longer than this for its first record (a restart on a busy machine; 5 s was seen to be too short) counts as idle,
# the ticker then closes every window, and the whole backlog is late. Higher delays the last window by as much.
IDLE_S = 30
# Before a checkpoint each sum empties its buffer into RocksDB: with 10 s a player's answers of a minute are six writes,
# with 30 two. Rows show before a checkpoint, so only what a fault reads again grows with it.
CHECKPOINT_INTERVAL_S = 30
# Rows that a sum may gather by key before RocksDB. Its memory ends it before.
BUFFER_ROWS = 1_000_000
# Finite, so that a job that can never run ends as FAILED and is seen, instead of restarting for ever.
RESTARTS = 20
ENDED = ("FAILED", "CANCELED", "FINISHED")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; exit 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="flink_jobs.submit", description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="Kafka, HOST:PORT")
    parser.add_argument("--connector-jar", required=True, type=Path, help="flink-sql-connector-kafka jar")
    parser.add_argument(
        "--checkpoint-dir", required=True, help="folder or URL of checkpoints, kept over restarts"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--rest-url", help="the JobManager, http://HOST:PORT")
    target.add_argument("--local", action="store_true", help="run in this process until killed")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the Python workers")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--from", dest="first", type=_day, help="backfill: first UTC day of a history")
    parser.add_argument("--to", dest="last", type=_day, help="its last UTC day, inclusive")
    parser.add_argument(
        "--window-s", type=int, default=60, help="a divisor of 60; other than 60 only in tests"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=[file.removesuffix(".sql") for file in OPTIONAL_FILES],
        help="leave one file's streams out, to see what it costs",
    )
    parser.add_argument(
        "--no-ticker", action="store_true", help="only answers close windows, not the clock: for tests"
    )
    parser.add_argument(
        "--webhdfs-url", help="the NameNode's HTTP address, to find retained state on hdfs://"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--fresh", action="store_true", help="ignore retained state and read from the start of the topic"
    )
    start.add_argument("--restore", help="URL of the checkpoint or savepoint to go on from")
    parser.add_argument(
        "--wait-s", type=float, default=240.0, help="how long to wait for the first checkpoint"
    )
    arguments = parser.parse_args(argv)
    if not arguments.connector_jar.is_file():
        parser.error(f"--connector-jar {arguments.connector_jar} is not a file")
    if arguments.window_s < 1 or 60 % arguments.window_s:
        parser.error("--window-s must divide 60")
    if (arguments.first is None) != (arguments.last is None):
        parser.error("a backfill needs --from and --to")
    if arguments.first and arguments.first > arguments.last:
        parser.error(f"--from {arguments.first} is after --to {arguments.last}")
    return arguments


def _day(text: str) -> date:
    try:
        return parse_day(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(f"{text} is not YYYY-MM-DD") from error


def history_of(arguments: argparse.Namespace) -> History | None:
    """The days of a backfill, None for live play."""
    return History(arguments.first, arguments.last) if arguments.first else None


def texts_of(arguments: argparse.Namespace) -> list[str]:
    """The statements of the job."""
    history = history_of(arguments)
    group = names.BACKFILL_JOB if history else names.STREAMS_JOB
    values = parameters(arguments.bootstrap, group, arguments.window_s, not arguments.no_ticker, history)
    files = HISTORY_FILES if history else LIVE_FILES
    return statements(
        values, tuple(file for file in files if file.removesuffix(".sql") not in arguments.without)
    )


def code_archive(folder: Path) -> Path:
    """A zip of the rooms that the Python workers import, since a cluster does not see this folder."""
    archive = folder / "lakeboard_code.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for room in ("contracts", "sketches", "flink_jobs"):
            for path in sorted((ROOT / room).rglob("*.py")):
                out.write(path, path.relative_to(ROOT))
    return archive


def options(arguments: argparse.Namespace, archive: Path) -> dict[str, str]:
    """Every option of the submission, by name. Raises LakeboardError where retained state cannot be looked for."""
    folder = as_url(arguments.checkpoint_dir)
    backfill = arguments.first is not None
    values = {
        # A backfill too: its watermark comes at the end, and the same plan runs.
        "execution.runtime-mode": "STREAMING",
        "execution.target": "local" if arguments.local else "remote",
        # The local executor takes nothing but attached jobs.
        "execution.attached": "true" if arguments.local else "false",
        "execution.checkpointing.interval": f"{CHECKPOINT_INTERVAL_S} s",
        "execution.checkpointing.dir": f"{folder}-backfill" if backfill else folder,
        "execution.checkpointing.savepoint-dir": savepoint_dir(folder),
        "execution.checkpointing.externalized-checkpoint-retention": (
            "DELETE_ON_CANCELLATION" if backfill else "RETAIN_ON_CANCELLATION"
        ),
        "execution.checkpointing.num-retained": "2",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": str(RESTARTS),
        "restart-strategy.fixed-delay.delay": "5 s",
        "parallelism.default": str(arguments.parallelism),
        "pipeline.name": names.BACKFILL_JOB if backfill else names.STREAMS_JOB,
        # Rows pass between chained operators as they are: SQL's operators keep none that they were given.
        "pipeline.object-reuse": "true",
        # flink-python is on the cluster's class path, and on this process'.
        "pipeline.jars": arguments.connector_jar.resolve().as_uri(),
        # Inside the TaskManager. A process of its own would talk to it over six ports that listen on every interface.
        "python.execution-mode": "thread",
        "python.files": str(archive),
        "python.executable": arguments.python,
        "python.client.executable": arguments.python,
        "table.local-time-zone": "UTC",
        # Without a ticker there is nobody to take over from idle partitions: one that has ended would close all windows.
        "table.exec.source.idle-timeout": f"{0 if backfill or arguments.no_ticker else IDLE_S} s",
        "table.exec.window-agg.buffer-size-limit": str(BUFFER_ROWS),
        # Operators named by the plan and not by how they are chained, which changes with the parallelism: state is
        # then found again after a submission with another one.
        "table.exec.uid.generation": "ALWAYS",
    }
    if arguments.rest_url:
        address = urlparse(arguments.rest_url)
        values |= {"rest.address": address.hostname or "", "rest.port": str(address.port or 8081)}
    restored = arguments.restore
    if not restored and not arguments.fresh and not backfill:
        restored = newest_state(folder, arguments.webhdfs_url)
    if restored:
        values["execution.state-recovery.path"] = restored
    return values


def get(rest_url: str, path: str, body: dict[str, str] | None = None) -> Any:
    """The JSON at a path of Flink's REST address; with a body by POST. Raises SystemMissing if it does not answer."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        rest_url.rstrip("/") + path, content, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)
    except OSError as error:
        raise SystemMissing(
            "system_missing", f"Flink at {rest_url}: {error}", next_step="./lakeboard status"
        ) from error


def running_job(rest_url: str, name: str = names.STREAMS_JOB) -> str | None:
    """Id of the job of that name that has not ended, or None."""
    for job in get(rest_url, "/jobs/overview")["jobs"]:
        if job["name"] == name and job["state"] in ("CREATED", "INITIALIZING", "RUNNING", "RESTARTING"):
            return str(job["jid"])
    return None


def await_checkpoint(rest_url: str, job: str, wait_s: float) -> int:
    """Number of completed checkpoints, once there is one: asked for, so that nobody waits for the interval.

    Raises BrokenContract if there is none in time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        seen = get(rest_url, f"/jobs/{job}")
        state = seen["state"]
        counts = get(rest_url, f"/jobs/{job}/checkpoints")["counts"]
        if counts["completed"]:
            return int(counts["completed"])
        # One that is asked for before each task runs counts as failed.
        if not counts["in_progress"] and all(one["status"] == "RUNNING" for one in seen["vertices"]):
            get(rest_url, f"/jobs/{job}/checkpoints", {"checkpointType": "CONFIGURED"})
        if state in ENDED or time.monotonic() > deadline:
            raise BrokenContract(
                "check_failed",
                f"job {job} is {state} and has completed no checkpoint in {wait_s:g} s",
                next_step=f"read {rest_url}/#/job/{job}/exceptions",
            )
        time.sleep(1)


def await_end(rest_url: str, job: str) -> None:
    """Wait until a backfill has finished, however long it takes. Raises BrokenContract if it ends otherwise."""
    while (state := get(rest_url, f"/jobs/{job}")["state"]) not in ENDED:
        time.sleep(1)
    if state != "FINISHED":
        raise BrokenContract(
            "check_failed",
            f"backfill {job} is {state}",
            next_step=f"read {rest_url}/#/job/{job}/exceptions; running it again is safe",
        )


def main(argv: list[str] | None = None) -> int:
    """Submit, wait for the first checkpoint (a backfill: its end), print one JSON document. 3: a system is missing."""
    arguments = parse(argv)
    try:
        return submit(arguments)
    except LakeboardError as error:
        print(f"{error}. {error.next_step}".rstrip(), file=sys.stderr)
        return error.exit_code


def submit(arguments: argparse.Namespace) -> int:
    """`main` after its arguments. Raises LakeboardError."""
    from flink_jobs.table_jobs import add_statements, environment_of

    backfill = arguments.first is not None
    if arguments.local:
        # The Java of this process runs the functions; it does not find their packages by itself.
        known = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([sysconfig.get_path("purelib"), known])
    name = names.BACKFILL_JOB if backfill else names.STREAMS_JOB
    if arguments.rest_url and (job := running_job(arguments.rest_url, name)):
        print(json.dumps({"job": job, "submitted": False}))
        return 0
    with tempfile.TemporaryDirectory(prefix="lakeboard-streams-") as folder:
        values = options(arguments, code_archive(Path(folder)))
        result = add_statements(environment_of(values), texts_of(arguments)).execute()
        if arguments.local:
            result.wait()
            return 0 if backfill else 1  # a streaming job does not end by itself
        job = str(result.get_job_client().get_job_id())
        if backfill:
            await_end(arguments.rest_url, job)
            print(json.dumps({"job": job, "submitted": True, "state": "FINISHED"}))
            return 0
        completed = await_checkpoint(arguments.rest_url, job, arguments.wait_s)
    restored = values.get("execution.state-recovery.path")
    print(
        json.dumps({"job": job, "submitted": True, "completed_checkpoints": completed, "restored": restored})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
