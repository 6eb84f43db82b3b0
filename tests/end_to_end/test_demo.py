"""`./lakeboard demo`, as a newcomer runs it: the whole system with Airflow, Flink and QuestDB, nothing left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.whole_stack import WholeStack, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.long]
# A minute, its lateness, the idle time-out and the relay's poll; then room for a busy machine.
WINDOW_SHOWN_S = 240


def test_the_demo_shows_every_part_at_work(tmp_path: Path) -> None:
    stack = WholeStack(tmp_path)
    try:
        shown = stack.run("demo")  # exit 0: Airflow's run is green
        assert "settled · rankings, exact" in shown and "live · redis, exact" in shown
        status = json.loads(stack.run("status", "--json"))
        assert status["healthy"] and len(status["processes"]) >= 18
        assert {"127.0.0.1"} == stack.listening()
        with stack.client() as client:
            until(lambda: live_windows(client) > 0, WINDOW_SHOWN_S, "the games' minutes through Flink")
            questions = missed_questions(stack)
            assert questions
            found = client.get("/v1/approx/participants").json()
        assert found["lower"] <= found["estimate"] <= found["upper"]
        assert found["provenance"]["exactness"] == "estimate" and found["bound"] >= 0
        runs = airflow_runs(stack)
        assert ["success"] == [run["state"] for run in runs], runs
    finally:
        stack.run("down")


def live_windows(client: httpx.Client) -> int:
    return len(client.get("/v1/windows/users").raise_for_status().json()["windows"])


def missed_questions(stack: WholeStack) -> list[dict[str, Any]]:
    """QuestDB's rows, once the relay has brought some."""
    url = f"http://127.0.0.1:{stack.layout.port('questdb_http')}/exec"

    def rows() -> list[dict[str, Any]]:
        reply = httpx.get(
            url, params={"query": "select * from missed_questions order by estimate desc"}
        ).json()
        names = [column["name"] for column in reply.get("columns", ())]
        return [dict(zip(names, row, strict=True)) for row in reply.get("dataset", ())]

    until(lambda: bool(rows()), WINDOW_SHOWN_S, "missed questions in QuestDB")
    return rows()


def airflow_runs(stack: WholeStack) -> list[dict[str, Any]]:
    """The weekly DAG's runs, as Airflow's own API tells them."""
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.layout.port('airflow')}", timeout=60) as http:
        login = {"username": "admin", "password": stack.layout.secrets["airflow_password"]}
        token = http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        reply = http.get(
            "/api/v2/dags/leaderboards_weekly/dagRuns", headers={"Authorization": f"Bearer {token}"}
        )
        found: list[dict[str, Any]] = reply.raise_for_status().json()["dag_runs"]
        return [run for run in found if run["run_type"] == "manual"]
