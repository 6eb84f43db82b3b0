"""Publish what late answers change in the past 40 days. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from one_line import UNCHANGED, Doc, day_params, days_back, one_line_dag

dag = one_line_dag(
    "adjustments_daily",
    "settle",
    f"./lakeboard job settle {days_back(40)} --unchanged-exit {UNCHANGED}",
    Doc(
        title="Adjust boards for late answers",
        purpose="publish the next version of each settled day, week and month of the past 40 days that late answers "
        "touch, and what no other run has settled. The roll-ups `user_days` and `user_months` are part of it: they are "
        "published with the boards, from the same answers, so no run of their own can leave them behind.",
        inputs="topic `answers.v1`, settlements in Postgres",
        outputs="`rankings`, `ranking_changes`, `user_days`, `user_months`, a settlement with its reason",
        runs="at 03:30 UTC, over the last 40 days",
        rerun="clear the task, or trigger with `from` and `to`. A second run publishes nothing.",
        affected="players whose answers came late do not see them on settled boards; boards older than 40 days need a "
        "trigger with `from` and `to`.",
    ),
    crons=("30 3 * * *",),
    timeout=timedelta(hours=3),
    next_step="docs/runbooks/late-answers.md; then clear the task",
    tags=("leaderboards", "adjustments"),
    params=day_params(),
)
