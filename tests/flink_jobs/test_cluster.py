"""The Flink job on a standalone cluster, its state on HDFS: the TaskManager killed, the job cancelled, upgraded.

JobManager and TaskManager are the stack's own, so the Python function runs on a TaskManager from the zip that
`submit` ships: nothing else puts this repository on its path. Every fault falls in the middle of a window, after a
checkpoint that holds its first half; whatever happens then, the topics say what the model says.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
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
    expected_sketches,
    expected_top,
    noise,
    send,
)
from tests.services.daemons import FlinkDaemon, HdfsDaemon, start_flink, start_kafka

pytestmark = pytest.mark.faults
ROOT = Path(__file__).resolve().parents[2]
# Recovery after a kill (36 s on a busy machine), then window + the ticker's distance + idle timeout, and slack.
WITHIN_S = 180


class Cluster:
    """A cluster, a broker and a checkpoint folder; `submit` as the command does it."""

    def __init__(self, flink: FlinkDaemon, bootstrap: str, hdfs: HdfsDaemon) -> None:
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
            "--window-s": str(WINDOW_S),
        }
        return self.run("flink_jobs.submit", options, *more)

    def rest(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self.flink.url + path, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.loads(reply.read() or b"{}")

    def await_state(self, job: str, state: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.rest(f"/jobs/{job}")["state"] != state:
            assert time.monotonic() < deadline, f"{job} is not {state}"
            time.sleep(0.3)

    def await_new_checkpoint(self, job: str, seconds: float = 25) -> None:
        """Wait for one that began a second from now or later, when what was sent has been read.

        Not longer than the idle timeout: then the window would no longer be open.
        """
        since_ms = time.time() * 1000 + 1000
        deadline = time.monotonic() + seconds
        while True:
            newest = self.rest(f"/jobs/{job}/checkpoints")["latest"]["completed"]
            if newest and newest["trigger_timestamp"] > since_ms:
                return
            assert time.monotonic() < deadline, "no checkpoint completes"
            time.sleep(0.2)

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
        wanted = {kind: expected_top(kind, self.sent) for kind in ("quizzes", "users")}
        sketches = expected_sketches(self.sent)
        topics.poll_until(
            lambda: (
                sketches == topics.sketches() and all(wanted[kind] == topics.top(kind) for kind in wanted)
            ),
            WITHIN_S,
        )
        skipped = Counter({reason: count * self.noises for reason, count in NOISE.items()})
        topics.poll_until(lambda: skipped == topics.skipped(), 30)
        assert not topics.rows[names.LATE]
        assert counts_of(self.sent) == counts(topics)
        assert wanted["quizzes"] == topics.top("quizzes")
        assert wanted["users"] == topics.top("users")
        assert sketches == topics.sketches()
        assert skipped == topics.skipped()


@pytest.fixture
def cluster(tmp_path: Path, hdfs_daemon: HdfsDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    broker = start_kafka(tmp_path / "kafka")
    try:
        flink = start_flink(tmp_path / "flink")
    except FileNotFoundError as error:
        broker.stop()
        pytest.skip(str(error))
    yield Cluster(flink, broker.url, hdfs_daemon)
    for log in sorted((tmp_path / "flink" / "logs").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}")
    flink.stop()
    broker.stop()


def now_window() -> int:
    return time.time_ns() // 1000 // WINDOW_US * WINDOW_US


def test_killed_cancelled_and_upgraded_in_mid_window(cluster: Cluster) -> None:
    topics = Topics(cluster.bootstrap)
    first = cluster.submit("--parallelism=1")
    assert (first["submitted"], first["restored"]) == (True, None)
    job = first["job"]
    assert cluster.submit("--parallelism=1") == {"job": job, "submitted": False}

    window = now_window()
    cluster.play(window, 120)
    cluster.await_new_checkpoint(job)
    began = time.monotonic()
    cluster.flink.taskmanager.kill()
    cluster.play(window, 80)
    cluster.flink.taskmanager.start()
    cluster.check(topics)
    cluster.check_watched(running=True)
    print(f"killed in mid-window: right again {time.monotonic() - began:.0f} s after the kill")

    window = now_window()
    cluster.play(window, 120)
    cluster.await_new_checkpoint(job)
    cluster.rest(f"/jobs/{job}?mode=cancel", "PATCH")
    cluster.await_state(job, "CANCELED")
    cluster.check_watched(running=False)
    cluster.play(window, 80)
    began = time.monotonic()
    second = cluster.submit("--parallelism=2")
    assert second["submitted"] and second["job"] != job
    assert second["restored"].startswith(f"{cluster.checkpoints}/{job}/chk-")
    cluster.check(topics)
    print(f"resubmitted at parallelism 2: right {time.monotonic() - began:.0f} s after the command")

    window = now_window()
    cluster.play(window, 60)
    stopped = cluster.run("flink_jobs.stop_streams", {})
    cluster.play(window, 40)
    third = cluster.submit("--parallelism=1")
    assert (stopped["job"], third["restored"]) == (second["job"], stopped["savepoint"])
    cluster.check(topics)
