"""Count each day's enrolments in courses. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from one_line import UNCHANGED, Doc, one_line_dag

dag = one_line_dag(
    "enrolments_daily",
    "count",
    f"./lakeboard job count_enrolments --unchanged-exit {UNCHANGED}",
    Doc(
        title="Count enrolments",
        purpose="take enrolments in courses into the lake, and count them per course and UTC day.",
        inputs="topic `enrolments.v1`; `enrolments` in Postgres says how many there must be",
        outputs="`enrolments`, `course_days`",
        runs="at 00:35 UTC each day",
        rerun="clear the task: every ended day is counted again, and only what differs is written. A day without "
        "enrolments is shown as skipped.",
        affected="authors and analysts see a course's figures up to the last day that was counted; play goes on.",
    ),
    crons=("35 0 * * *",),
    timeout=timedelta(hours=1),
    next_step="./lakeboard status: the relay, Kafka, HDFS, Postgres (docs/runbooks/system-down.md); then clear the task",
    tags=("courses",),
)
