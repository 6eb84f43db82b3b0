"""The factory of the leaderboards DAGs: one task a DAG, one `./lakeboard job settle` line a task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param

ROOT = Path(__file__).resolve().parents[1]
# Minutes after midnight UTC: past the grace (60 s) and the relay's lag; one DAG after the other, not at once.
SCHEDULES = {"daily": "5 0 * * *", "weekly": "15 0 * * 1", "monthly": "25 0 1 * *"}
# A day or nothing: what a trigger says goes into a shell line.
DAY = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"
RETRIES = 3
RETRY_DELAY = timedelta(minutes=5)
# The settled span as Jinja: the data interval's first and last day, or the run's own `from` and `to`.
FIRST = "{{ params.get('from') or data_interval_start.strftime('%Y-%m-%d') }}"
LAST = "{{ params.get('to') or (data_interval_end - macros.timedelta(days=1)).strftime('%Y-%m-%d') }}"
DOC = """\
### Settle {period} leaderboards

**Purpose**: publish the exact {period} boards (global and each quiz) of the periods that have ended.

**Inputs**: topic `answers.v1`, barriers from the api. **Outputs**: `rankings`, `user_days`, a settlement in Postgres.

**Rerun**: clear the task, or trigger with `from` and `to` (days, inclusive). What is settled is not settled again;
answers that came late are published as the next version.

**Who is affected when it is late**: readers of ended {period} boards see them as `provisional` until it has run.
"""


def leaderboards(period: str) -> DAG:
    """The DAG `leaderboards_<period>`; without catch-up, since one run settles every period its span touches."""
    with DAG(
        dag_id=f"leaderboards_{period}",
        # Not the bare cron: since Airflow 3 that gives an empty interval, and the span would be the run's own day.
        schedule=CronDataIntervalTimetable(SCHEDULES[period], timezone="UTC"),
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        # The job holds a lock from branch to settlement; a second run would only wait for it.
        max_active_runs=1,
        default_args={"owner": "lakeboard", "retries": RETRIES, "retry_delay": RETRY_DELAY},
        params={name: Param("", type="string", pattern=DAY) for name in ("from", "to")},
        tags=["lakeboard", "leaderboards", period],
        doc_md=DOC.format(period=period),
    ) as dag:
        BashOperator(
            task_id="settle",
            cwd=str(ROOT),
            bash_command=f"./lakeboard job settle --period {period} --from {FIRST} --to {LAST}",
            doc_md=f"One Spark application settles every {period} period of the span.",
        )
    return dag
