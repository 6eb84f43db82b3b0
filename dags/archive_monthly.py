"""Archive the month before the last. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from airflow.sdk import Param
from one_line import MONTH, Doc, one_line_dag

# The first of this month, less a day, is last month; its first, less a day, the month before.
MONTH_BACK = (
    "{{ (params.get('month') or '') | trim or ((dag_run.run_after.replace(day=1) - macros.timedelta(days=1))"
    ".replace(day=1) - macros.timedelta(days=1)).strftime('%Y-%m') }}"
)

dag = one_line_dag(
    "archive_monthly",
    "archive",
    f"./lakeboard job archive_month --month {MONTH_BACK}",
    Doc(
        title="Archive a month",
        purpose="let the month before the last, whose answers are settled, leave Postgres for the lake, once the lake is "
        "proven to hold every entry.",
        inputs="`history` in Postgres, `answers`, settlements",
        outputs="`user_sessions`, the month's row in Postgres; its partition of `history` is dropped last",
        runs="at 06:30 UTC on the 3rd",
        rerun="clear the task, or trigger with `month` (YYYY-MM). A month that is archived stays so.",
        affected="nobody at once: Postgres grows by a month.",
    ),
    crons=("30 6 3 * *",),
    timeout=timedelta(hours=6),
    next_step="the task's log says what the month lacks; settle or mend that, then clear the task",
    tags=("archive",),
    params={"month": Param("", type="string", pattern=MONTH, maxLength=7)},
)
