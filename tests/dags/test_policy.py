"""Every DAG parses and keeps the house's rules; runs in Airflow's own environment."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.app import COMMANDS
from cli.commands.jobs import TAKES, UNCHANGED
from cli.environments import ensure
from cli.places import ROOT
from cli.stack.airflow import environment_of
from cli.stack.layout import Layout

pytestmark = pytest.mark.repository
SETTLE = "./lakeboard job settle"
# The line of a run of Monday, 4 March 2024, 01:00 UTC.
LINES = {
    "ingest_hourly": "./lakeboard job ingest_answers --unchanged-exit 99",
    "leaderboards_daily": f"{SETTLE} --period daily --from 2024-03-01 --to 2024-03-03 --unchanged-exit 99",
    "leaderboards_weekly": f"{SETTLE} --period weekly --from 2024-02-25 --to 2024-03-03 --unchanged-exit 99",
    "leaderboards_monthly": f"{SETTLE} --period monthly --from 2024-02-01 --to 2024-03-03 --unchanged-exit 99",
    "adjustments_daily": f"{SETTLE} --from 2024-01-24 --to 2024-03-03 --unchanged-exit 99",
    "maintenance_weekly": "./lakeboard job maintain_tables",
    "reconcile_daily": "./lakeboard reconcile --from 2024-02-25 --to 2024-03-03 --nothing-exit 99",
    "enrolments_daily": "./lakeboard job count_enrolments --unchanged-exit 99",
    "archive_monthly": "./lakeboard job archive_month --month 2024-01",
}
WOKEN_BY = {
    "leaderboards_daily": ["lakeboard://answers"],
    "leaderboards_weekly": ["lakeboard://boards/daily"],
    "leaderboards_monthly": ["lakeboard://boards/daily"],
}
EMITS = {
    "ingest_hourly": ["lakeboard://answers"],
    "leaderboards_daily": ["lakeboard://boards/daily"],
}
PARTS = ("Purpose", "Inputs", "Outputs", "Runs", "Rerun", "Who is affected when it is late")
# What a trigger may not say: each would end the line, or begin another command.
INJECTIONS = (
    "2024-01-01; true", "2024-01-01\n", "\n", "$(true)", "`true`", "2024-01-01 && true", "2024-1-1", "--help", "{{ 1 }}",
)  # fmt: skip

_PROGRAM = """
import json, sys
from types import SimpleNamespace
import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import ParamValidationError
from airflow.sdk.execution_time import macros
from airflow.serialization.serialized_objects import DagSerialization

def rendered(dag, **params):
    run = SimpleNamespace(run_after=pendulum.datetime(2024, 3, 4, 1))
    task = dag.tasks[0]
    given = {name: "" for name in dag.params} | params
    return task.render_template(task.bash_command, {"dag_run": run, "macros": macros, "params": given})

def refused(dag, name, value):
    before = dag.params[name]
    try:
        dag.params[name] = value
        dag.params.validate()
    except ParamValidationError:
        return True
    finally:
        dag.params[name] = before
    return False

def uris(schedule):
    condition = getattr(schedule, "asset_condition", None)
    return sorted(asset.name for asset in condition.objects) if condition else []

bag = DagBag(dag_folder=sys.argv[1])
injections = json.loads(sys.argv[2])
print(json.dumps({"errors": bag.import_errors, "dags": [
    {"id": d.dag_id, "file": d.fileloc, "tags": sorted(d.tags), "doc": d.doc_md or "", "catchup": d.catchup,
     "active_runs": d.max_active_runs, "paused": d.is_paused_upon_creation,
     "serialized": bool(DagSerialization.to_dict(d)), "woken_by": uris(d.timetable),
     "params": sorted(d.params), "rendered": rendered(d),
     "asked": rendered(d, **{"from": "2024-01-01", "to": "2024-01-09", "month": "2023-07"}),
     "let_in": [[name, value] for name in d.params for value in injections if not refused(d, name, value)],
     "fair": all(not refused(d, name, "2024-01" if name == "month" else "2024-01-01") for name in d.params),
     "tasks": [{"owner": t.owner, "retries": t.retries, "delay_s": t.retry_delay.total_seconds(),
                "timeout_s": t.execution_timeout and t.execution_timeout.total_seconds(),
                "on_failure": [type(c).__name__ + ": " + c.next_step for c in t.on_failure_callback],
                "kind": type(t).__name__, "skips_on": t.skip_on_exit_code, "doc": bool(t.doc_md),
                "emits": [o.name for o in t.outlets], "command": getattr(t, "bash_command", "")} for t in d.tasks]}
    for d in bag.dags.values()]}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow makes of the folder."""
    python, home = ensure("airflow"), tmp_path_factory.mktemp("airflow")
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT / "dags"),
    }
    done = subprocess.run(
        [str(python), "-c", _PROGRAM, str(ROOT / "dags"), json.dumps(INJECTIONS)],
        env=env,
        capture_output=True,
        text=True,
        cwd=home,
        timeout=180,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def test_every_dag_parses_and_keeps_the_rules(found: dict[str, Any]) -> None:
    assert {} == found["errors"]
    assert set(LINES) == {d["id"] for d in found["dags"]}
    for dag in found["dags"]:
        assert dag["id"] == Path(dag["file"]).stem
        assert all(f"**{part}**:" in dag["doc"] for part in PARTS), dag["id"]
        assert "lakeboard" in dag["tags"] and len(dag["tags"]) >= 2 and dag["serialized"]
        assert (False, 1, True) == (dag["catchup"], dag["active_runs"], dag["paused"])
        assert 1 == len(dag["tasks"])
        for task in dag["tasks"]:
            assert "BashOperator" == task["kind"] and task["doc"]
            assert task["owner"] not in ("", "airflow")
            assert task["retries"] >= 1 and task["delay_s"] >= 60
            assert 0 < (task["timeout_s"] or 0) <= 6 * 3600
            assert [True] == [line.startswith("ReportFailure: ") for line in task["on_failure"]]
            assert len(task["on_failure"][0]) > 30, "what to do next"
            assert task["command"].startswith("./lakeboard ") and "\n" not in task["command"]


def test_a_task_may_wait_for_its_turn_behind_the_longest(found: dict[str, Any], tmp_path: Path) -> None:
    """A laptop runs two at once: others wait in the queue, whose time-out is also how long their token holds."""
    program = (
        "from airflow.configuration import conf;"
        "print(conf.getfloat('scheduler', 'task_queued_timeout'), conf.getint('core', 'parallelism'))"
    )
    env = {**os.environ, **environment_of(Layout(tmp_path, tmp_path)), "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [str(ensure("airflow")), "-c", program], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    waits_s, at_once = map(float, done.stdout.split()[-2:])
    longest_s = max(task["timeout_s"] for dag in found["dags"] for task in dag["tasks"])
    assert len(found["dags"]) > at_once
    assert waits_s > 2 * longest_s


def test_the_lines_take_their_span_from_the_clock_or_from_who_triggers(found: dict[str, Any]) -> None:
    assert LINES == {d["id"]: d["rendered"] for d in found["dags"]}
    for dag in found["dags"]:
        if "from" in dag["params"]:
            assert "--from 2024-01-01 --to 2024-01-09" in dag["asked"], dag["id"]
        elif "month" in dag["params"]:
            assert dag["asked"].endswith("--month 2023-07")
        else:
            assert dag["asked"] == dag["rendered"]


def test_events_wake_what_reads_what_they_tell_of_and_nothing_new_wakes_nobody(found: dict[str, Any]) -> None:
    assert WOKEN_BY == {d["id"]: d["woken_by"] for d in found["dags"] if d["woken_by"]}
    assert EMITS == {d["id"]: d["tasks"][0]["emits"] for d in found["dags"] if d["tasks"][0]["emits"]}
    for dag in found["dags"]:
        (task,) = dag["tasks"]
        if task["emits"]:
            assert f"--unchanged-exit {UNCHANGED}" in task["command"] and [UNCHANGED] == task["skips_on"]
        # A line names a command, or a job that the command knows to run.
        words = task["command"].split()
        if words[1] == "job":
            assert words[2] in TAKES and (ROOT / "spark_jobs" / f"{words[2]}.py").exists()
        else:
            assert words[1] in {command.name for command in COMMANDS}
        # Coalesced events say nothing of which: no line may depend on them.
        assert "asset" not in task["command"] and "event" not in task["command"]


def test_what_a_trigger_says_cannot_leave_its_place_in_the_line(found: dict[str, Any]) -> None:
    for dag in found["dags"]:
        # A line's end alone counts as nothing said: it is trimmed away.
        assert [] == [one for one in dag["let_in"] if one[1].strip()], dag["id"]
        assert dag["fair"]
        if dag["params"]:
            assert "| trim" in dag["tasks"][0]["command"]


def test_dags_import_nothing_but_contracts_and_airflow() -> None:
    own = {path.stem for path in (ROOT / "dags").glob("*.py")}
    allowed = own | {"airflow", "contracts"} | set(sys.stdlib_module_names)
    for path in (ROOT / "dags").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            assert {module.partition(".")[0] for module in modules} <= allowed, path.name
