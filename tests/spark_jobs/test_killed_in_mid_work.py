"""The settle job, DataNode, Postgres and Kafka killed (kill -9) in mid-work, and the checkpoint lost: run again, and right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.places import ROOT
from contracts.events import AnswerEvent
from contracts.periods import period_start
from tests.services.daemons import HdfsDaemon, PostgresDaemon, start_hdfs, start_postgres
from tests.spark_jobs.broker import Broker
from tests.spark_jobs.play import Outboxes, days_of_play, model
from tests.spark_jobs.test_on_hdfs import _barriers_api

pytestmark = [pytest.mark.faults]
FIRST = date(2024, 4, 2)
# Long enough for a job to have noticed, short enough that one which waits goes on.
AWAY_S = 5.0
MOST_S = 240.0


@dataclass
class Stack:
    """Systems of this module's own, and the settle job's command on them."""

    postgres: PostgresDaemon
    postgres_url: str
    broker: Broker
    hdfs: HdfsDaemon
    outboxes: Outboxes
    arguments: list[str]
    played: list[AnswerEvent] = field(default_factory=list)

    @property
    def warehouse(self) -> str:
        return f"{self.hdfs.url}/lakeboard/warehouse"

    def settle(
        self, day: date, after: str = "", then: Callable[[subprocess.Popen[str]], None] | None = None
    ) -> int:
        """Run the job for a day; once a phase is done, call `then`. Its exit code."""
        command = [sys.executable, "-m", "spark_jobs.settle", *self.arguments, f"--from={day}", f"--to={day}"]
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        ) as job:
            assert job.stderr is not None
            # A job that hangs on what is away is ended by its operator (in Airflow: by the task's time limit).
            patience = threading.Timer(MOST_S, os.killpg, (job.pid, signal.SIGKILL))
            patience.start()
            for line in job.stderr:
                if then is not None and after in line:
                    then(job)
                    then = None
            job.wait()
            patience.cancel()
        assert then is None, f"the phase {after} never came"
        return job.returncode


@pytest.fixture(scope="module")
def stack(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    from serving.migrations.upgrade import upgrade

    folder = tmp_path_factory.mktemp("killed")
    postgres, broker, hdfs = start_postgres(folder), Broker(folder / "kafka"), start_hdfs(folder / "hdfs")
    url, outboxes = postgres.new_database(), Outboxes()
    upgrade(url)
    key = folder / "importer_key"
    key.write_text("a key")
    with _barriers_api(broker, outboxes) as api:
        addresses = {
            "postgres-url": url, "kafka-bootstrap": broker.bootstrap,
            "warehouse": f"{hdfs.url}/lakeboard/warehouse", "api-url": api, "importer-key-file": key,
            "jars": jars / "spark", "local-dir": folder / "spark", "shards": 2, "period": "daily", "wait-s": 60,
        }  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in addresses.items()]
        yield Stack(postgres, url, broker, hdfs, outboxes, arguments)
    for daemon in (hdfs, broker, postgres):
        daemon.stop()


def _kill_job(stack: Stack, job: subprocess.Popen[str]) -> None:
    os.killpg(job.pid, signal.SIGKILL)


def _away(daemon: Any) -> None:
    """Kill a daemon, and start it again a little later; the job goes on meanwhile."""
    daemon.kill()
    time.sleep(AWAY_S)
    daemon.start()


def _kill_datanode(stack: Stack, job: subprocess.Popen[str]) -> None:
    _away(stack.hdfs.datanode)


def _kill_postgres(stack: Stack, job: subprocess.Popen[str]) -> None:
    _away(stack.postgres)


def _kill_kafka(stack: Stack, job: subprocess.Popen[str]) -> None:
    _away(stack.broker)


def _published(stack: Stack, folder: Path) -> tuple[dict[Any, Any], list[Any], int]:
    """(boards of `rankings`, versions by day, repeats among the answers) as readers see them."""
    from lake.views import Lake

    with Lake(stack.postgres_url, stack.warehouse, folder).open() as connection:
        rows = connection.execute(
            "SELECT period, start, scope, rank, user_id, points, reached_at_us FROM rankings ORDER BY rank"
        ).fetchall()
        repeats = connection.execute("SELECT count(*) - count(DISTINCT event_id) FROM answers").fetchall()
    boards: dict[Any, Any] = {}
    for period, start, scope, *row in rows:
        boards.setdefault((period, start, scope), []).append(tuple(row))
    with psycopg.connect(stack.postgres_url) as sql:
        versions = sql.execute(
            "SELECT start, zone, max(version), count(*) FROM settlement_periods GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
    return boards, versions, repeats[0][0]


@pytest.mark.parametrize(
    ("number", "after", "kill"),
    [
        (0, "phase_done name=totals", _kill_job),
        (1, "phase_done name=write_rankings", _kill_job),
        (2, "phase_done name=totals", _kill_datanode),
        (3, "phase_done name=branches", _kill_postgres),
        (4, "phase_done name=create_tables", _kill_kafka),
    ],
    ids=["job while it ranks", "job before it is public", "datanode", "postgres", "kafka"],
)
def test_a_killed_part_costs_nothing_but_a_second_run(
    stack: Stack,
    tmp_path: Path,
    number: int,
    after: str,
    kill: Callable[[Stack, subprocess.Popen[str]], None],
) -> None:
    day = FIRST + timedelta(days=number)
    play = _play(number)
    stack.played += play
    stack.broker.send(stack.outboxes.answers(play))
    code = stack.settle(day, after, lambda job: kill(stack, job))
    time.sleep(AWAY_S)
    for _ in range(3):  # a system that has just come back may refuse the first
        if stack.settle(day) == 0:
            break
    else:
        pytest.fail(f"the job never ended well after the kill (exit {code})")
    boards, versions, repeats = _published(stack, tmp_path)
    expected = {key: rows for key, rows in model(stack.played).items() if key[0] == "daily"}
    assert {key: rows for key, rows in boards.items() if key in expected} == expected
    assert (0, {(1, 1)}) == (repeats, {(version, count) for _, _, version, count in versions})


def test_a_lost_checkpoint_costs_one_more_read(stack: Stack, tmp_path: Path) -> None:
    from hdfs import InsecureClient

    client = InsecureClient(stack.hdfs.webhdfs_url, user="lakeboard")
    assert client.delete("/lakeboard/warehouse/_checkpoints", recursive=True)
    before = _published(stack, tmp_path)
    last = max(event.occurred_at_us for event in stack.played)
    assert 0 == stack.settle(period_start("daily", last))
    assert before == _published(stack, tmp_path)


def _play(number: int) -> list[AnswerEvent]:
    """A day's answers, in UTC and Paris, away from both midnights, so that days are settled one by one."""
    day = FIRST + timedelta(days=number)
    events = days_of_play(seed=40 + number, count=400, first=day, length_days=1, offset=number * 1_000)
    return [event for event in events if 3 <= event.occurred_at_us // 3_600_000_000 % 24 <= 20]
