"""Every DAG parses and keeps the house's rules; runs in Airflow's own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli.environments import ensure
from cli.places import ROOT

_PROGRAM = """
import json, sys
import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import ParamValidationError
from airflow.sdk.execution_time import macros
from airflow.timetables.interval import CronDataIntervalTimetable

def rendered(dag, **params):
    # The line as a scheduled run of Monday, 4 March 2024 has it.
    timetable = CronDataIntervalTimetable(dag.timetable.expression, timezone="UTC")
    interval = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2024, 3, 4, 1))
    context = {"data_interval_start": interval.start, "data_interval_end": interval.end, "macros": macros}
    task = dag.tasks[0]
    return task.render_template(task.bash_command, {**context, "params": {"from": "", "to": "", **params}})

def refused(dag, value):
    try:
        dag.params["from"] = value
        dag.params.validate()
    except ParamValidationError:
        return True
    return False
bag = DagBag(dag_folder=sys.argv[1])
print(json.dumps({"errors": bag.import_errors, "dags": [
    {"id": d.dag_id, "file": d.fileloc, "tags": sorted(d.tags), "doc": bool(d.doc_md), "catchup": d.catchup,
     "rendered": rendered(d), "asked": rendered(d, **{"from": "2024-01-01", "to": "2024-01-09"}),
     "refused": refused(d, "2024-01-01; true"),
     "tasks": [{"owner": t.owner, "retries": t.retries, "kind": type(t).__name__,
                "command": getattr(t, "bash_command", "")} for t in d.tasks]}
    for d in bag.dags.values()]}))
"""


@pytest.mark.repository
def test_every_dag_parses_and_keeps_the_rules(tmp_path: Path) -> None:
    python = ensure("airflow")
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT / "dags"),
    }
    done = subprocess.run(
        [str(python), "-c", _PROGRAM, str(ROOT / "dags")],
        env=env,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=180,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert {} == found["errors"]
    assert {"leaderboards_daily", "leaderboards_weekly", "leaderboards_monthly"} == {
        d["id"] for d in found["dags"]
    }
    for dag in found["dags"]:
        assert dag["doc"] and dag["tags"] and not dag["catchup"], dag["id"]
        assert dag["id"] == Path(dag["file"]).stem
        assert 1 == len(dag["tasks"])
        for task in dag["tasks"]:
            assert "BashOperator" == task["kind"]
            assert task["owner"] not in ("", "airflow") and task["retries"] >= 1
            assert task["command"].startswith("./lakeboard job ") and "\n" not in task["command"]
    spans = {"daily": "03-03 2024-03-03", "weekly": "02-26 2024-03-03", "monthly": "02-01 2024-02-29"}
    for dag in found["dags"]:
        period = dag["id"].removeprefix("leaderboards_")
        first, last = spans[period].split()
        line = f"./lakeboard job settle --period {period} --from"
        assert f"{line} 2024-{first} --to {last}" == dag["rendered"]
        assert f"{line} 2024-01-01 --to 2024-01-09" == dag["asked"]
        assert dag["refused"], "what a trigger says goes into a shell line"
