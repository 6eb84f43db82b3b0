"""Take Kafka into the lake each hour. (A DAG file, for airflow to find.)"""

from datetime import timedelta

from one_line import ANSWERS, UNCHANGED, Doc, one_line_dag

dag = one_line_dag(
    "ingest_hourly",
    "ingest",
    f"./lakeboard job ingest_answers --unchanged-exit {UNCHANGED}",
    Doc(
        title="Ingest answers",
        purpose="take every committed answer of the hour into the lake, so that ranges of today are fresh.",
        inputs="topics `answers.v1`, `sketches.v1`",
        outputs="`answers`, `barriers`, `dead_letters`, `sketches`; the asset `lakeboard://answers`, if records came",
        runs="55 minutes past each hour",
        rerun="clear the task: what is in is not taken in twice. An hour without records is shown as skipped.",
        affected="readers of ranges and tags see the lake as of the last ingest, which each reply states; Kafka keeps "
        "records for 30 days.",
    ),
    crons=("55 * * * *",),
    timeout=timedelta(hours=1),
    next_step="./lakeboard status: Kafka, HDFS, Postgres (docs/runbooks/system-down.md); then clear the task",
    tags=("ingest",),
    emits=ANSWERS,
)
