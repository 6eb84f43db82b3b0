"""A real Prometheus over a real api, relay, gateway and what they talk to: it finds every series that is named anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from redis import Redis

from cli.places import ROOT
from cli.stack.process import free_port
from cli.stack.traefik import routes_over, static_with
from contracts.settings import Settings
from tests.monitoring.programs import program
from tests.monitoring.series import FOLDER, named_series
from tests.services.daemons import QuestdbDaemon, start_valkey
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice

pytestmark = pytest.mark.service
# Needs a Flink cluster: tests/flink_jobs/test_cluster.py sees these by a look of the relay's own.
FROM_FLINK = {
    "lakeboard_streams_running",
    "lakeboard_streams_checkpoint_timestamp_seconds",
    "lakeboard_streams_watermark_timestamp_seconds",
    "lakeboard:streams_checkpoint_age_seconds",
    "lakeboard:streams_watermark_lag_seconds",
}


@contextmanager
def child(*command: str, **env: str) -> Iterator[None]:
    """A process that ends with the block."""
    one = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env})
    try:
        yield
    finally:
        one.terminate()
        one.wait(20)


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[httpx.Client]:
    """Prometheus with the repository's configuration, looking each second; targets: name of the file → address."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = dict.fromkeys(configuration["global"], "1s")
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    (folder / "rules").symlink_to(FOLDER / "rules")
    (folder / "targets").mkdir()
    for name, address in targets.items():
        (folder / "targets" / f"{name}.json").write_text(json.dumps([{"targets": [address]}]))
    listen = f"127.0.0.1:{free_port()}"
    with (
        child(
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={listen}",
            "--log.level=warn",
        ),
        httpx.Client(base_url=f"http://{listen}/api/v1", timeout=10) as client,
    ):
        yield client


def answer_of(client: httpx.Client, path: str, **query: str) -> Any:
    """The data of a reply of Prometheus; None while it does not answer."""
    try:
        reply = client.get(path, params=query).json()
    except (httpx.HTTPError, ValueError):
        return None
    return reply.get("data")


def wait_until_empty(missing: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while left := missing():
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


@pytest.fixture
def watched(
    tmp_path: Path, new_postgres_url: Callable[[], str], kafka_bootstrap: str, questdb_daemon: QuestdbDaemon
) -> Iterator[tuple[ApiProcess, dict[str, str], Settings]]:
    """An api, its relay and its gateway; the addresses that Prometheus scrapes; their settings."""
    valkeys = [start_valkey(tmp_path / str(number)) for number in (1, 2)]
    for one in valkeys:  # a share of the memory needs a limit
        Redis.from_url(one.url).config_set("maxmemory", 2**30)
    settings = Settings(
        valkey_urls=tuple(one.url for one in valkeys),
        postgres_url=new_postgres_url(),
        kafka_bootstrap=kafka_bootstrap,
        questdb_http_url=questdb_daemon.url,
        questdb_pg_url=questdb_daemon.pg_url,
        run_dir=str(tmp_path / "run"),
    )
    api = ApiProcess(
        tmp_path / "api", settings.valkey_urls, settings.postgres_url, kafka_bootstrap=kafka_bootstrap
    )
    relay, web, inner = (f"127.0.0.1:{free_port()}" for _ in range(3))
    (tmp_path / "routes.yml").write_text(json.dumps(routes_over([api.port])))
    (tmp_path / "static.yml").write_text(json.dumps(static_with(web, inner, tmp_path / "routes.yml")))
    traefik = str(Path(sys.prefix) / "bin" / "traefik")
    port = relay.rpartition(":")[2]
    with (
        child(sys.executable, "-m", "serving.relay.run", "--metrics-port", port, **settings.to_env()),
        child(traefik, "--configFile", str(tmp_path / "static.yml")),
    ):
        addresses = {"api": f"127.0.0.1:{api.port}", "relay": relay, "traefik": inner}
        yield api, {**addresses, "web": web}, settings
    api.stop()
    for one in valkeys:
        one.stop()


def play(api: ApiProcess, web: str) -> None:
    """Two answers, one of them refused, and a page through the gateway."""
    table = Table(api, "Ada", "Kofi")
    table.host("next").raise_for_status()
    question = table.current()
    table.answer(0, question, right_choice(question)).raise_for_status()
    table.host("close").raise_for_status()
    assert table.answer(1, question, right_choice(question)).status_code == 409
    with httpx.Client(base_url=f"http://{web}") as client:
        deadline = time.monotonic() + 30
        while client.get("/v1/quizzes").status_code != 200:
            assert time.monotonic() < deadline, "the gateway has no way to the api"
            time.sleep(0.2)


def test_prometheus_finds_every_series_that_is_named(
    watched: tuple[ApiProcess, dict[str, str], Settings], tmp_path: Path
) -> None:
    api, addresses, settings = watched
    play(api, addresses["web"])
    with psycopg.connect(settings.postgres_url) as sql:
        sql.execute(
            "INSERT INTO settlements (id, from_day, to_day, version, rule, snapshots, last_seq)"
            " VALUES ('1', '2026-03-02', '2026-03-02', 1, 'speed@1', '{}', '{}')"
        )
    wanted = named_series() - FROM_FLINK
    assert len(wanted) > 30 and "up" in wanted
    folder = tmp_path / "prometheus"
    folder.mkdir()
    targets = {name: address for name, address in addresses.items() if name != "web"}
    with prometheus(folder, targets) as client:

        def missing() -> set[str]:
            play_again()
            names = answer_of(client, "/label/__name__/values") or []
            return wanted - set(names)

        table = Table(api, "Mia")
        table.host("next").raise_for_status()
        question = table.current()

        def play_again() -> None:
            # Rates need two looks at a counter that is there.
            table.answer(0, question, right_choice(question)).raise_for_status()
            httpx.get(f"http://{addresses['web']}/v1/quizzes")

        wait_until_empty(missing)
        # A metric of Flink's has no series without it, but its name is known.
        about = answer_of(client, "/targets/metadata", match_target='{job="lakeboard_relay"}')
        assert FROM_FLINK - {one["metric"] for one in about} <= {n for n in FROM_FLINK if ":" in n}
        health = {one["health"] for one in answer_of(client, "/targets")["activeTargets"]}
        assert health == {"up"}
        firing = answer_of(client, "/alerts")["alerts"]
        assert [] == [one for one in firing if one["state"] == "firing"]
    assert_written_to_questdb(settings)


def newest_looks(settings: Settings) -> dict[tuple[str, str], float]:
    """(measure, source) → the newest value in QuestDB."""
    query = "select measure, source, value from pipeline_health latest on ts partition by measure, source"
    with psycopg.connect(settings.questdb_pg_url, autocommit=True) as sql:
        return {(measure, source): value for measure, source, value in sql.execute(query).fetchall()}


def assert_written_to_questdb(settings: Settings) -> None:
    """What the relay saw is in QuestDB too, instants as ages."""
    lag, lake = ("relay_lag_seconds", "0/history"), ("settlement_age_seconds", "postgres")
    wait_until_empty(lambda: {lag, lake} - set(newest_looks(settings)))
    found = newest_looks(settings)
    assert found[lag] < 60
    assert 0 <= found[lake] < 600
    assert found[("consumer_lag_records", "lakeboard-to-questdb")] >= 0
    assert found[("valkey_memory_bytes", "1")] > 0
    assert not [measure for measure, _ in found if measure.endswith("_timestamp_seconds")]
