"""The Flink job on a standalone cluster, its state on HDFS: the TaskManager killed, the job cancelled, upgraded.

JobManager and TaskManager are the stack's own, so the Python function runs on a TaskManager from the zip that
`submit` ships: nothing else puts this repository on its path. Every fault falls in the middle of a window, after a
checkpoint that holds its first half; whatever happens then, the topics say what the model says.
"""

from __future__ import annotations

import time

import pytest

from tests.flink_jobs.cluster import Cluster
from tests.flink_jobs.play import WINDOW_US, Topics

pytestmark = pytest.mark.faults


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
