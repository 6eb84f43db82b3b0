"""The factory of every DAG here: one task, one `./lakeboard …` line, one set of rules.

A run's span comes from the clock (`run_after`, the same in every retry), never from the events that woke it: it is a
trailing window, and what it asks for is idempotent. So events that coalesce into one run, or come twice, do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, MultipleCronTriggerTimetable, Param
from callbacks import ReportFailure

ROOT = Path(__file__).resolve().parents[1]
# What ingest has taken in, and what a daily settlement has published.
ANSWERS = Asset("lakeboard://answers")
DAILY_BOARDS = Asset("lakeboard://boards/daily")
# A day, or nothing: what a trigger says goes into a shell line. The length keeps a line's end out, which `$` lets by.
DAY = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"
MONTH = r"^([0-9]{4}-[0-9]{2})?$"
RETRIES = 3
RETRY_DELAY = timedelta(minutes=5)
# Exit code with which a job says that nothing was new: Airflow shows the task as skipped, and its assets wake no DAG.
UNCHANGED = 99
DOC = """\
### {title}

**Purpose**: {purpose}

**Inputs**: {inputs}. **Outputs**: {outputs}.

**Runs**: {runs}. It starts paused: `./lakeboard up` starts no Spark by itself; unpause it where it is to run.

**Rerun**: {rerun}

**Who is affected when it is late**: {affected}
"""


@dataclass(frozen=True, slots=True)
class Doc:
    """A DAG's page, part by part; every part is needed."""

    title: str
    purpose: str
    inputs: str
    outputs: str
    runs: str
    rerun: str
    affected: str

    def markdown(self) -> str:
        return DOC.format(**{name: getattr(self, name) for name in self.__slots__})


def days_back(first: int, last: int = 1) -> str:
    """`--from A --to B`: the days so many days before the run, or the run's own `from` and `to`."""
    return " ".join(
        f"--{name} {{{{ (params.get('{name}') or '') | trim or "
        f"(dag_run.run_after - macros.timedelta(days={days})).strftime('%Y-%m-%d') }}}}"
        for name, days in (("from", first), ("to", last))
    )


def day_params() -> dict[str, Param]:
    """`from` and `to` of a triggered run; empty means the trailing window."""
    return {name: Param("", type="string", pattern=DAY, maxLength=10) for name in ("from", "to")}


def one_line_dag(
    dag_id: str,
    task_id: str,
    line: str,
    doc: Doc,
    *,
    crons: tuple[str, ...],
    timeout: timedelta,
    next_step: str,
    tags: tuple[str, ...],
    params: dict[str, Param] | None = None,
    woken_by: Asset | None = None,
    emits: Asset | None = None,
) -> DAG:
    """A DAG of one task that runs `line` in the clone. crons are in UTC; timeout is of one try."""
    by_time = MultipleCronTriggerTimetable(*crons, timezone="UTC")
    with DAG(
        dag_id=dag_id,
        schedule=AssetOrTimeSchedule(timetable=by_time, assets=[woken_by]) if woken_by else by_time,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        # One run does what all missed ones would have done: the window trails.
        catchup=False,
        # The jobs hold a lock; a second run would only wait for it.
        max_active_runs=1,
        is_paused_upon_creation=True,
        default_args={
            "owner": "lakeboard",
            "retries": RETRIES,
            "retry_delay": RETRY_DELAY,
            "execution_timeout": timeout,
            "on_failure_callback": ReportFailure(next_step),
        },
        params=params or {},
        tags=["lakeboard", *tags],
        doc_md=doc.markdown(),
    ) as dag:
        BashOperator(
            task_id=task_id,
            cwd=str(ROOT),
            bash_command=line,
            skip_on_exit_code=UNCHANGED,
            outlets=[emits] if emits else [],
            doc_md=doc.purpose,
        )
    return dag
