"""The fixed play on a standalone cluster, the job stopped at a savepoint and resumed at another parallelism, and killed.

However it went, the topics say what the expected file says. State is on HDFS; event time is in the past, so no clock
closes a window. `test_cluster` has the same faults in live play.
"""

from __future__ import annotations

import pytest

from tests.flink_jobs.cluster import NO_TICKER, WITHIN_S, Cluster
from tests.flink_jobs.model import EXPECTED, SECOND_US, closing_answers, fixed_answers
from tests.flink_jobs.play import Topics, expected_sketches, send

pytestmark = [pytest.mark.faults, pytest.mark.long]


def put(cluster: Cluster, part: slice) -> None:
    for item in fixed_answers()[part]:
        send(cluster.producer, item)
    cluster.producer.flush()


def close_and_check(cluster: Cluster, topics: Topics) -> None:
    for item in closing_answers():
        send(cluster.producer, item)
    cluster.producer.flush()
    expected = EXPECTED.read_text("utf-8")
    sketches = expected_sketches(fixed_answers(), 60 * SECOND_US)
    topics.poll_until(lambda: topics.text() == expected and topics.sketches() == sketches, WITHIN_S)
    assert expected.splitlines() == topics.text().splitlines()
    assert sketches == topics.sketches()


def test_stopped_and_resumed_at_another_parallelism(cluster: Cluster) -> None:
    topics = Topics(cluster.bootstrap)
    cluster.window_s = 60
    put(cluster, slice(0, 80))
    first = cluster.submit("--parallelism=1", NO_TICKER)
    cluster.await_new_checkpoint(first["job"], 60)
    stopped = cluster.run("flink_jobs.stop_streams", {})
    put(cluster, slice(80, None))
    second = cluster.submit("--parallelism=2", NO_TICKER)
    assert (stopped["job"], second["restored"]) == (first["job"], stopped["savepoint"])
    close_and_check(cluster, topics)


def test_taskmanager_and_jobmanager_killed_in_mid_window(cluster: Cluster) -> None:
    """The JobManager of a standalone cluster forgets its jobs: they are submitted again, as the stack's keeper does."""
    topics = Topics(cluster.bootstrap)
    cluster.window_s = 60
    put(cluster, slice(0, 50))
    first = cluster.submit("--parallelism=1", NO_TICKER)
    cluster.await_new_checkpoint(first["job"], 60)
    cluster.flink.taskmanager.kill()
    put(cluster, slice(50, 150))
    cluster.flink.taskmanager.start()
    cluster.await_state(first["job"], "RUNNING", WITHIN_S)
    cluster.await_new_checkpoint(first["job"], WITHIN_S)
    cluster.flink.kill()
    put(cluster, slice(150, 190))
    cluster.flink.start()
    second = cluster.submit("--parallelism=1", NO_TICKER)
    assert second["submitted"] and second["restored"].startswith(f"{cluster.checkpoints}/{first['job']}/chk-")
    put(cluster, slice(190, None))
    close_and_check(cluster, topics)
