"""Flink: the standalone cluster that the apache-flink package ships, with checkpoints on HDFS.

Jobs bring the Kafka connector themselves (`pipeline.jars`); HDFS comes from the NameNode's jars.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

from cli.stack.hdfs import client_configuration
from cli.stack.java import java, write_if_changed
from cli.stack.keep_streams import running
from cli.stack.layout import REPOSITORY, Layout
from cli.stack.process import Process, http_ok

JOBMANAGER_MB = 768
# Where a TaskManager's memory goes, and how it is used (decision 0020). Sums gather answers by key before they touch
# RocksDB, and both share what is managed. Python is inside the TaskManager and takes none of it.
MEMORY = {
    "taskmanager.memory.managed.fraction": "0.45",
    "taskmanager.memory.managed.consumer-weights": "OPERATOR:100,STATE_BACKEND:140,PYTHON:1",
    # Most searches are for a key that a window has not seen yet.
    "state.backend.rocksdb.use-bloom-filter": "true",
    # A timer of each open window and key: some hundred bytes on the heap instead of a search in RocksDB.
    "state.backend.rocksdb.timer-service.factory": "HEAP",
    # Throughput counts here, a pause of a second does not.
    "env.java.opts.taskmanager": "-XX:+UseParallelGC",
}
# A slot has its share of the managed memory, in which windows' keys are: the live job has one, a backfill the other.
SLOTS = 2


def _home(layout: Layout) -> Path:
    python = layout.python("flink")
    return next(python.parent.parent.glob("lib/python3*/site-packages/pyflink"))


def _write_configuration(layout: Layout, home: Path, folder: Path, taskmanager_mb: int) -> None:
    """The distribution's own configuration with our lines; the distribution itself stays untouched."""
    java_options = next(
        line.split(":", 1)[1].strip()
        for line in (home / "conf" / "config.yaml").read_text().splitlines()
        if line.strip().startswith("all: --add-exports")
    )
    hdfs = f"hdfs://127.0.0.1:{layout.port('namenode')}/lakeboard/flink"
    values = {
        "env.java.opts.all": java_options,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": layout.port("flink_rpc"),
        "jobmanager.memory.process.size": f"{JOBMANAGER_MB}m",
        "blob.server.port": layout.port("flink_blob"),
        # Two hundred tasks are deployed at once: with the default of 10 s a busy machine was seen to fail and begin anew.
        "pekko.ask.timeout": "60 s",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": layout.port("flink"),
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": SLOTS,
        "taskmanager.memory.process.size": f"{taskmanager_mb}m",
        # Said here alone; jobs set none of their own. RocksDB keeps the windows' keys in managed memory and on disk,
        # so that a busy minute does not fill the heap; its checkpoints write only what changed.
        "state.backend.type": "rocksdb",
        "state.backend.rocksdb.localdir": str(folder / "rocksdb"),
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.dir": f"{hdfs}/checkpoints",
        "execution.checkpointing.savepoint-dir": f"{hdfs}/savepoints",
        "io.tmp.dirs": str(folder / "tmp"),
        **MEMORY,
    }
    conf = folder / "conf"
    write_if_changed(conf / "config.yaml", "".join(f"{key}: {value}\n" for key, value in values.items()))
    for file in ("log4j-console.properties", "log4j.properties"):
        write_if_changed(conf / file, (home / "conf" / file).read_text())
    (folder / "tmp").mkdir(parents=True, exist_ok=True)


def _taskmanagers(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/overview", timeout=3) as reply:
        return int(json.load(reply)["taskmanagers"])


def flink(layout: Layout, after: tuple[str, ...], taskmanager_mb: int) -> tuple[Process, Process]:
    """Defines JobManager and TaskManager. taskmanager_mb: all of its memory."""
    home, folder = _home(layout), layout.data("flink")
    port = layout.port("flink")
    environment = {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LOG_DIR": str(layout.home / "logs"),
        "FLINK_PID_DIR": str(folder / "tmp"),
        "HADOOP_CONF_DIR": str(client_configuration(layout.home / "data" / "hdfs")),
        # flink-python beside HDFS' jars: brought by each job, its native library would load once and never again.
        "HADOOP_CLASSPATH": f"{layout.jars('hadoop')}/*:{next((home / 'opt').glob('flink-python-*.jar'))}",
        "JAVA_HOME": str(Path(java()).resolve().parents[1]),
        # The Python inside the TaskManager (flink_jobs/submit.py: thread mode) does not find its packages by itself.
        "PYTHONPATH": str(home.parent),
    }
    jobmanager = Process(
        name="jobmanager",
        command=("bash", str(home / "bin" / "jobmanager.sh"), "start-foreground"),
        folder=folder,
        port=port,
        after=after,
        environment=environment,
        prepare=lambda: _write_configuration(layout, home, folder, taskmanager_mb),
        ready=lambda: http_ok(f"http://127.0.0.1:{port}/overview"),
    )
    taskmanager = Process(
        name="taskmanager",
        command=("bash", str(home / "bin" / "taskmanager.sh"), "start-foreground"),
        folder=folder,
        after=("jobmanager",),
        environment=environment,
        ready=lambda: _taskmanagers(port) >= 1,
    )
    return jobmanager, taskmanager


def streams(layout: Layout, after: tuple[str, ...]) -> Process:
    """Defines the keeper of the streams job: it submits it, and again whenever the cluster has lost it."""
    url = f"http://127.0.0.1:{layout.port('flink')}"
    return Process(
        name="streams",
        command=(
            *(sys.executable, "-m", "cli.stack.keep_streams"),
            *("--rest-url", url, "--heartbeat", str(layout.heartbeat("streams"))),
        ),
        folder=REPOSITORY,
        after=after,
        environment={"LAKEBOARD_PROCESS": "streams"},
        ready=lambda: running(url),
        heartbeat=layout.heartbeat("streams"),
        # The submission starts a Java of its own, plans the statements (30 s; 120 s were seen beside other work) and waits
        # for a first checkpoint.
        ready_seconds=600,
    )
