"""Submit the streams job: top 10s and sketches of each minute of live play (flink_jobs/top_k.sql).

    python -m flink_jobs.submit --bootstrap HOST:PORT --rest-url URL --connector-jar JAR --checkpoint-dir DIR

Everything comes as arguments. A TableEnvironment with a remote target does not read the cluster's config.yaml, so
checkpointing and the restart strategy are put into this submission's Configuration, and after submitting this
asserts on the REST address that a checkpoint completed: without it, sinks would never flush after a fault. A job of
the same name that runs already is left alone; one that has ended goes on from its newest checkpoint or savepoint
(flink_jobs/checkpoints.py). With `--local` the job runs in this process until it is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import sysconfig
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlparse

from contracts import names
from contracts.errors import BrokenContract, LakeboardError, SystemMissing
from contracts.events import ANSWER_FIELDS, BARRIER_TYPE, flink_columns
from flink_jobs.checkpoints import as_url, newest_state, savepoint_dir

ROOT = Path(__file__).resolve().parent.parent
JOB_NAME = names.STREAMS_JOB
# A row may be this much older than the newest of its partition before it counts as late: covers the relay's lag and
# two shards writing to one partition. Lower sends more to answers.late; higher delays every window by as much.
OUT_OF_ORDER_S = 10
# Behind the wall clock by more than OUT_OF_ORDER_S, or the clock would outrun answers that are on their way.
TICKER_BEHIND_S = 15
# A partition silent for this long no longer holds the others' watermark back. Lower is dangerous: a source that needs
# longer than this for its first record (a restart on a busy machine; 5 s was seen to be too short) counts as idle,
# the ticker then closes every window, and the whole backlog is late. Higher delays the last window by as much.
IDLE_S = 30
CHECKPOINT_INTERVAL_S = 10
# Finite, so that a job that can never run ends as FAILED and is seen, instead of restarting for ever.
RESTARTS = 20
_EPOCH_US = "CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', {}) AS BIGINT) * 1000000"


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
    parser.add_argument(
        "--window-s", type=int, default=60, help="a divisor of 60; other than 60 only in tests"
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
        "--wait-s", type=float, default=120.0, help="how long to wait for the first checkpoint"
    )
    arguments = parser.parse_args(argv)
    if not arguments.connector_jar.is_file():
        parser.error(f"--connector-jar {arguments.connector_jar} is not a file")
    if arguments.window_s < 1 or 60 % arguments.window_s:
        parser.error("--window-s must divide 60")
    return arguments


def statements(bootstrap: str, window_s: int) -> list[str]:
    """The statements of top_k.sql with their parameters filled in, in order."""
    columns = ["`" + field.name + "`" for field in ANSWER_FIELDS]
    types = [line.strip().split(" ", 1)[1] for line in flink_columns().split(",\n")]
    text = Template((ROOT / "flink_jobs" / "top_k.sql").read_text("utf-8")).substitute(
        bootstrap=bootstrap,
        group=JOB_NAME,
        answers=names.ANSWERS,
        late=names.LATE,
        topk=names.TOPK,
        sketches=names.SKETCHES,
        answer_columns=flink_columns(),
        answer_names=", ".join(columns),
        ticker_nulls=", ".join(f"CAST(NULL AS {kind})" for kind in types),
        window_s=window_s,
        out_of_order_s=OUT_OF_ORDER_S,
        ticker_behind_s=TICKER_BEHIND_S,
        window_start_us=_EPOCH_US.format("window_start"),
        window_end_us=_EPOCH_US.format("window_end"),
        # TIMESTAMPDIFF wants both of one kind; the session's zone is UTC.
        day_us=_EPOCH_US.format("CAST(appended_at AS TIMESTAMP(3))") + " / 86400000000 * 86400000000",
        header_type=names.HEADER_TYPE,
        barrier_type=BARRIER_TYPE,
    )
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [part.strip() for part in re.split(r";\s*$", "\n".join(lines), flags=re.MULTILINE) if part.strip()]


def code_archive(folder: Path) -> Path:
    """A zip of the rooms that the Python workers import, since a cluster does not see this folder."""
    archive = folder / "lakeboard_code.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for room in ("contracts", "sketches", "flink_jobs"):
            for path in sorted((ROOT / room).rglob("*.py")):
                out.write(path, path.relative_to(ROOT))
    return archive


def options(arguments: argparse.Namespace, archive: Path) -> dict[str, str]:
    """Every option of the submission, by name."""
    folder = as_url(arguments.checkpoint_dir)
    values = {
        "execution.runtime-mode": "STREAMING",
        "execution.target": "local" if arguments.local else "remote",
        # The local executor takes nothing but attached jobs.
        "execution.attached": "true" if arguments.local else "false",
        "execution.checkpointing.interval": f"{CHECKPOINT_INTERVAL_S} s",
        "execution.checkpointing.dir": folder,
        "execution.checkpointing.savepoint-dir": savepoint_dir(folder),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": "2",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": str(RESTARTS),
        "restart-strategy.fixed-delay.delay": "5 s",
        "parallelism.default": str(arguments.parallelism),
        "pipeline.name": JOB_NAME,
        # flink-python is on the cluster's class path, and on this process'.
        "pipeline.jars": arguments.connector_jar.resolve().as_uri(),
        # Inside the TaskManager. A process of its own would talk to it over six ports that listen on every interface.
        "python.execution-mode": "thread",
        "python.files": str(archive),
        "python.executable": arguments.python,
        "python.client.executable": arguments.python,
        "table.local-time-zone": "UTC",
        "table.exec.source.idle-timeout": f"{IDLE_S} s",
        # Operators named by the plan and not by how they are chained, which changes with the parallelism: state is
        # then found again after a submission with another one.
        "table.exec.uid.generation": "ALWAYS",
    }
    if arguments.rest_url:
        address = urlparse(arguments.rest_url)
        values |= {"rest.address": address.hostname or "", "rest.port": str(address.port or 8081)}
    restored = arguments.restore
    if not restored and not arguments.fresh:
        restored = newest_state(folder, arguments.webhdfs_url)
    if restored:
        values["execution.state-recovery.path"] = restored
    return values


def statement_set(values: dict[str, str], texts: list[str]) -> Any:
    """Run the DDL and gather the inserts into one statement set, so that they share one source.

    The view `timed` goes through a DataStream into `merged`: a wall the planner moves nothing across (top_k.sql
    says why). No row passes through Python.
    """
    from pyflink.common import Configuration
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.java_gateway import get_gateway
    from pyflink.table import Schema, StreamTableEnvironment

    from flink_jobs.build_sketches import build_count_min, heaviest_keys

    configuration = Configuration()
    for name, value in values.items():
        configuration.set_string(name, value)
    # Not get_execution_environment(configuration): that replaces the remote target by a cluster of its own.
    jvm = get_gateway().jvm.org.apache.flink.streaming.api.environment
    java_environment = jvm.StreamExecutionEnvironment(configuration._j_configuration)
    environment = StreamTableEnvironment.create(StreamExecutionEnvironment(java_environment))
    environment.create_temporary_function("build_count_min", build_count_min)
    environment.create_temporary_function("heaviest_keys", heaviest_keys)
    inserts = environment.create_statement_set()
    for text in texts:
        if text.startswith("INSERT"):
            inserts.add_insert_sql(text)
        else:
            environment.execute_sql(text)
        if text.startswith("CREATE TEMPORARY VIEW timed"):
            stream = environment.to_data_stream(environment.from_path("timed"))
            keep_watermark = Schema.new_builder().watermark("event_time", "SOURCE_WATERMARK()").build()
            environment.create_temporary_view("merged", stream, keep_watermark)
    return inserts


def get(rest_url: str, path: str) -> Any:
    """The JSON at a path of Flink's REST address. Raises SystemMissing if it does not answer."""
    try:
        with urllib.request.urlopen(rest_url.rstrip("/") + path, timeout=10) as reply:
            return json.load(reply)
    except OSError as error:
        raise SystemMissing(
            "system_missing", f"Flink at {rest_url}: {error}", next_step="./lakeboard status"
        ) from error


def running_job(rest_url: str) -> str | None:
    """Id of the job of our name that has not ended, or None."""
    for job in get(rest_url, "/jobs/overview")["jobs"]:
        if job["name"] == JOB_NAME and job["state"] in ("CREATED", "INITIALIZING", "RUNNING", "RESTARTING"):
            return str(job["jid"])
    return None


def await_checkpoint(rest_url: str, job: str, wait_s: float) -> int:
    """Number of completed checkpoints, once there is one. Raises BrokenContract if there is none in time."""
    deadline = time.monotonic() + wait_s
    while True:
        state = get(rest_url, f"/jobs/{job}")["state"]
        completed = int(get(rest_url, f"/jobs/{job}/checkpoints")["counts"]["completed"])
        if completed:
            return completed
        if state in ("FAILED", "CANCELED", "FINISHED") or time.monotonic() > deadline:
            raise BrokenContract(
                "check_failed",
                f"job {job} is {state} and has completed no checkpoint in {wait_s:g} s",
                next_step=f"read {rest_url}/#/job/{job}/exceptions",
            )
        time.sleep(1)


def main(argv: list[str] | None = None) -> int:
    """Submit, wait for the first checkpoint, print one JSON document. 3: a system is missing."""
    arguments = parse(argv)
    try:
        return submit(arguments)
    except LakeboardError as error:
        print(f"{error}. {error.next_step}".rstrip(), file=sys.stderr)
        return error.exit_code


def submit(arguments: argparse.Namespace) -> int:
    """`main` after its arguments. Raises LakeboardError."""
    if arguments.local:
        # The Java of this process runs the functions; it does not find their packages by itself.
        known = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([sysconfig.get_path("purelib"), known])
    if arguments.rest_url and (job := running_job(arguments.rest_url)):
        print(json.dumps({"job": job, "submitted": False}))
        return 0
    with tempfile.TemporaryDirectory(prefix="lakeboard-streams-") as folder:
        values = options(arguments, code_archive(Path(folder)))
        result = statement_set(values, statements(arguments.bootstrap, arguments.window_s)).execute()
        if arguments.local:
            result.wait()
            return 1  # a streaming job does not end by itself
        job = str(result.get_job_client().get_job_id())
        completed = await_checkpoint(arguments.rest_url, job, arguments.wait_s)
    restored = values.get("execution.state-recovery.path")
    print(
        json.dumps({"job": job, "submitted": True, "completed_checkpoints": completed, "restored": restored})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
