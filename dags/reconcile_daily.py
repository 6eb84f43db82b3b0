"""Compare Redis' boards with the lake each day. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from one_line import UNCHANGED, Doc, day_params, days_back, one_line_dag

dag = one_line_dag(
    "reconcile_daily",
    "reconcile",
    f"./lakeboard reconcile {days_back(8)} --nothing-exit {UNCHANGED}",
    Doc(
        title="Reconcile",
        purpose="compare every board that Redis keeps of the last 8 days with the settled ones, row by row.",
        inputs="Redis' boards, `rankings`, `answers`",
        outputs="a difference fails the task; nothing is written",
        runs="at 05:30 UTC, over the last 8 days",
        rerun="clear the task, or trigger with `from` and `to`. Where Redis and the lake have no board in common yet, it is "
        "shown as skipped.",
        affected="nobody when it is late; when it fails, readers of boards that differ: docs/runbooks/boards-disagree.md.",
    ),
    crons=("30 5 * * *",),
    timeout=timedelta(hours=1),
    next_step="docs/runbooks/boards-disagree.md",
    tags=("reconcile",),
    params=day_params(),
)
