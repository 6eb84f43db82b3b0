"""Flink under test: a standalone cluster with its state on HDFS, and a job within one process."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from kafka import KafkaProducer

from cli.stack.layout import layout_from
from contracts import events, names
from serving.relay.pipeline_health import of_flink
from tests.flink_jobs.play import (
    NOISE,
    WINDOW_S,
    WINDOW_US,
    Topics,
    answer,
    counts,
    counts_of,
    expected_minutes,
    expected_sketches,
    minutes_of,
    noise,
    send,
)
from tests.services.daemons import FlinkDaemon, HdfsDaemon

ROOT = Path(__file__).resolve().parents[2]
# Recovery after a kill (36 s on a busy machine), then window + the ticker's distance + idle timeout, and slack.
WITHIN_S = 180
# The clock closes no window of the past, only answers do.
NO_TICKER = "--no-ticker"


class Cluster:
    """A cluster, a broker and a checkpoint folder; `submit` as the command does it."""

    def __init__(
        self, flink: FlinkDaemon, bootstrap: str, hdfs: HdfsDaemon, window_s: int = WINDOW_S
    ) -> None:
        self.window_s = window_s
        self.flink, self.bootstrap, self.hdfs = flink, bootstrap, hdfs
        self.checkpoints = f"{hdfs.url}/streams-{time.time_ns()}/checkpoints"
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
        self.random, self.sent, self.number, self.noises = Random(4), list[events.AnswerEvent](), 0, 0

    def run(self, module: str, options: dict[str, str], *more: str) -> dict[str, Any]:
        options = {"--rest-url": self.flink.url, "--checkpoint-dir": self.checkpoints, **options}
        command = [str(layout_from(os.environ).python("flink")), "-m", module, *more]
        command += [f"{key}={value}" for key, value in options.items()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def submit(self, *more: str) -> dict[str, Any]:
        jars = layout_from(os.environ).jars("flink")
        options = {
            "--bootstrap": self.bootstrap,
            "--webhdfs-url": self.hdfs.webhdfs_url,
            "--connector-jar": str(next(jars.glob("flink-sql-connector-kafka-*.jar"))),
            "--window-s": str(self.window_s),
        }
        return self.run("flink_jobs.submit", options, *more)

    def rest(self, path: str, method: str = "GET", body: dict[str, str] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.flink.url + path, content, kind, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.loads(reply.read() or b"{}")

    def await_state(self, job: str, state: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.rest(f"/jobs/{job}")["state"] != state:
            assert time.monotonic() < deadline, f"{job} is not {state}"
            time.sleep(0.3)

    def await_new_checkpoint(self, job: str, seconds: float = 25) -> None:
        """Have one made that begins a second from now or later, when what was sent has been read.

        Not longer than the idle timeout: then the window would no longer be open.
        """
        time.sleep(1)
        since_ms = time.time() * 1000
        deadline = time.monotonic() + seconds
        while True:
            found = self.rest(f"/jobs/{job}/checkpoints")
            newest = found["latest"]["completed"]
            if newest and newest["trigger_timestamp"] > since_ms:
                return
            assert time.monotonic() < deadline, "no checkpoint completes"
            if not found["counts"]["in_progress"]:
                self.rest(f"/jobs/{job}/checkpoints", "POST", {"checkpointType": "CONFIGURED"})
            time.sleep(0.5)

    def play(self, window_us: int, number: int) -> None:
        """`number` answers anywhere in one window, and noise."""
        for _ in range(number):
            self.number += 1
            item = answer(self.number, window_us + self.random.randrange(WINDOW_US), self.random)
            self.sent.append(item)
            send(self.producer, item)
        noise(self.producer, item)
        self.noises += 1
        self.producer.flush()

    def check_watched(self, running: bool, seconds: float = 60) -> None:
        """What the relay sees of the job, as it looks again and again: Flink gathers metrics only once somebody has asked."""
        wanted = {"streams_checkpoint_timestamp_seconds", "streams_watermark_timestamp_seconds"}
        deadline = time.monotonic() + seconds
        while True:
            seen = {reading.measure: reading.value for reading in of_flink(self.flink.url)}
            if not running:
                assert seen == {"streams_running": 0}
                return
            now = time.time()
            if wanted <= seen.keys() and all(now - WITHIN_S < seen[one] <= now + 1 for one in wanted):
                assert seen["streams_running"] == 1
                return
            assert time.monotonic() < deadline, seen
            time.sleep(1)

    def check(self, topics: Topics) -> None:
        """The topics say what the model says of all that was sent."""
        wanted = expected_minutes(self.sent)
        sketches = expected_sketches(self.sent)
        topics.poll_until(
            lambda: sketches == topics.sketches() and wanted == minutes_of(topics.windows()),
            WITHIN_S,
        )
        skipped = Counter({reason: count * self.noises for reason, count in NOISE.items()})
        topics.poll_until(lambda: skipped == topics.skipped(), 30)
        assert not topics.rows[names.LATE]
        assert counts_of(self.sent) == counts(topics)
        assert wanted == minutes_of(topics.windows())
        assert sketches == topics.sketches()
        assert skipped == topics.skipped()


@contextmanager
def local_job(bootstrap: str, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The job in a process of its own, from the start of the topic, until the end of the block. Skips without Flink."""
    layout = layout_from(os.environ)
    try:
        python = layout.python("flink")
        jar = next(layout.jars("flink").glob("flink-sql-connector-kafka-*.jar"))
    except (FileNotFoundError, StopIteration):
        pytest.skip("no flink environment or connector jar: ./lakeboard makes them")
    command = [str(python), "-m", "flink_jobs.submit", "--local", "--bootstrap", bootstrap, "--fresh"]
    command += ["--connector-jar", str(jar), "--checkpoint-dir", str(folder / "checkpoints"), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "job.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
        process.wait()
        print((folder / "job.log").read_text("utf-8", "replace")[-6000:])
