"""Compact the lake's tables and expire what nobody names. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from one_line import Doc, one_line_dag

dag = one_line_dag(
    "maintenance_weekly",
    "maintain",
    "./lakeboard job maintain_tables",
    Doc(
        title="Maintain tables",
        purpose="compact small files, merge manifests, expire snapshots, remove orphan files and left audit branches.",
        inputs="the lake's tables, settlements in Postgres (every snapshot that one names stays)",
        outputs="the same rows in fewer files; a report of each table in the task's log",
        runs="at 04:30 UTC on Sundays, under the lock that settlements take",
        rerun="clear the task: each step is a commit of its own, and a second run finds nothing to do.",
        affected="nobody at once: scans slow down and the disk fills as small files pile up. While it runs, settlements "
        "wait.",
    ),
    crons=("30 4 * * 0",),
    timeout=timedelta(hours=6),
    next_step="docs/runbooks/maintenance.md; then clear the task",
    tags=("maintenance",),
)
