"""The lake's tables as Spark SQL text (Iceberg v2, copy-on-write): one row per what, partition, sort order."""

from __future__ import annotations

from contracts.corrections import CORRECTION_FIELDS
from contracts.enrolments import ENROLMENT_FIELDS
from contracts.events import spark_columns
from contracts.names import table

# Copy-on-write: DuckDB reads the file list of a snapshot and would not see delete files (CONTRACTS D6).
# One file a partition: a hash distribution brings a partition's rows to one task.
_PROPERTIES = (
    "'format-version'='2', 'write.delete.mode'='copy-on-write', 'write.update.mode'='copy-on-write', "
    "'write.merge.mode'='copy-on-write', 'write.distribution-mode'='hash', 'write.wap.enabled'='true', "
    "'write.parquet.compression-codec'='zstd'"
)
# What a page of an archived user's history shows, and the place in the outbox, by which a repeat is answered.
ARCHIVED_ANSWER: tuple[tuple[str, str], ...] = (
    ("event_id", "STRING"),
    ("occurred_at_us", "BIGINT"),
    ("question_id", "STRING"),
    ("question_type", "STRING"),
    ("skill_tags", "ARRAY<STRING>"),
    ("choice", "STRING"),
    ("correct", "BOOLEAN"),
    ("elapsed_ms", "BIGINT"),
    ("points", "BIGINT"),
    ("rule", "STRING"),
    ("shard", "INT"),
    ("seq", "BIGINT"),
)
# Without spaces: a column's type is one word.
ARCHIVED_ANSWERS = f"ARRAY<STRUCT<{','.join(f'{name}:{kind}' for name, kind in ARCHIVED_ANSWER)}>>"
# Users of a month lie in this many files, so that one user's month is one small file.
USER_BUCKETS = 16
_COLUMNS: dict[str, tuple[str, str]] = {
    "answers": (
        f"{spark_columns()},\n"
        "  occurred_at TIMESTAMP COMMENT 'occurred_at_us as a timestamp, for partitions and pruning',\n"
        "  shard INT COMMENT 'Redis shard that counted it',\n  seq BIGINT COMMENT 'place in that shard''s outbox',\n"
        "  kafka_partition INT COMMENT 'partition of answers.v1',\n  kafka_offset BIGINT COMMENT 'offset in it'",
        "days(occurred_at)",
    ),
    "barriers": (
        "  event_id STRING COMMENT 'UUIDv5 of (zone, day, shard)',\n  zone STRING COMMENT 'IANA zone',\n"
        "  day DATE COMMENT 'the day that ended',\n  start_us BIGINT COMMENT 'UTC µs',\n"
        "  end_us BIGINT COMMENT 'UTC µs',\n"
        "  shard INT COMMENT 'Redis shard',\n  seq BIGINT COMMENT 'place in that shard''s outbox',\n"
        "  kafka_partition INT COMMENT 'partition of answers.v1',\n  kafka_offset BIGINT COMMENT 'offset in it'",
        "",
    ),
    "corrections": (
        f"{spark_columns(CORRECTION_FIELDS)},\n"
        "  kafka_partition INT COMMENT 'partition of corrections.v1',\n  kafka_offset BIGINT COMMENT 'offset in it'",
        "",
    ),
    "course_days": (
        "  course_id STRING COMMENT 'the course',\n  day DATE COMMENT 'UTC day, ended',\n"
        "  enrolled BIGINT COMMENT 'users who enrolled on it',\n  departed BIGINT COMMENT 'users who left on it',\n"
        "  members BIGINT COMMENT 'users who are enrolled at its end'",
        "",
    ),
    "dead_letters": (
        "  kafka_partition INT COMMENT 'partition of answers.v1',\n  kafka_offset BIGINT COMMENT 'offset in it',\n"
        "  shard INT COMMENT 'header shard, null if unreadable',\n  seq BIGINT COMMENT 'header seq, null if unreadable',\n"
        "  reason STRING COMMENT 'why no schema fits',\n  value BINARY COMMENT 'the record as it came'",
        "",
    ),
    "enrolments": (
        f"{spark_columns(ENROLMENT_FIELDS)},\n"
        "  kafka_partition INT COMMENT 'partition of enrolments.v1',\n  kafka_offset BIGINT COMMENT 'offset in it'",
        "",
    ),
    "user_numbers": (
        "  user_no BIGINT COMMENT 'dense number of a user',\n  user_id STRING COMMENT 'the user'",
        "",
    ),
    "user_days": (
        "  scope STRING COMMENT 'global or quiz:ID',\n  zone STRING COMMENT 'IANA zone of the scope',\n"
        "  day DATE COMMENT 'local day',\n"
        "  user_no BIGINT COMMENT 'the user',\n  points BIGINT COMMENT 'sum of stamped points',\n"
        "  reached_at_us BIGINT COMMENT 'greatest occurred_at_us with points, not floored; null at 0 points',\n"
        "  plays BIGINT COMMENT 'counted answers',\n  misses BIGINT COMMENT 'wrong answers'",
        "day",
    ),
    "user_months": (
        "  scope STRING COMMENT 'global or quiz:ID',\n  zone STRING COMMENT 'IANA zone of the scope',\n"
        "  month DATE COMMENT 'first day of the local month',\n"
        "  user_no BIGINT COMMENT 'the user',\n  points BIGINT COMMENT 'sum of its user-days',\n"
        "  reached_at_us BIGINT COMMENT 'greatest of its user-days, not floored; null at 0 points',\n"
        "  plays BIGINT COMMENT 'counted answers',\n  misses BIGINT COMMENT 'wrong answers'",
        "month",
    ),
    "ranking_changes": (
        "  settlement_id STRING COMMENT 'the adjustment that changed it',\n"
        "  period STRING COMMENT 'daily, weekly or monthly',\n  start DATE COMMENT 'first local day',\n"
        "  zone STRING COMMENT 'IANA zone of the scope',\n  scope STRING COMMENT 'global or quiz:ID',\n"
        "  user_id STRING COMMENT 'the user',\n  user_no BIGINT COMMENT 'its number',\n"
        "  rank_before BIGINT COMMENT 'null: was not on the board',\n"
        "  rank_after BIGINT COMMENT 'null: is no longer on the board',\n"
        "  points_before BIGINT COMMENT 'as published before',\n  points_after BIGINT COMMENT 'as published now'",
        "",
    ),
    "rankings": (
        "  period STRING COMMENT 'daily, weekly or monthly',\n  start DATE COMMENT 'first local day',\n"
        "  zone STRING COMMENT 'IANA zone of the scope',\n  scope STRING COMMENT 'global or quiz:ID',\n"
        "  rank BIGINT COMMENT 'row number, 1 is best',\n  user_id STRING COMMENT 'the user',\n"
        "  user_no BIGINT COMMENT 'its number',\n  points BIGINT COMMENT 'sum of stamped points',\n"
        "  reached_at_us BIGINT COMMENT 'floored to the second, UTC µs; null at 0 points'",
        "period, start",
    ),
    "sketches": (
        "  kind STRING COMMENT 'what is sketched (contracts/sketched.py)',\n"
        "  level STRING COMMENT 'minute, hour or day',\n"
        "  window_start TIMESTAMP COMMENT 'window_start_us as a timestamp, for partitions and pruning',\n"
        "  window_start_us BIGINT COMMENT 'UTC µs',\n  window_end_us BIGINT COMMENT 'UTC µs, exclusive',\n"
        "  answers BIGINT COMMENT 'counted answers of the window',\n"
        "  late BIGINT COMMENT 'of them, those that came after it had closed',\n"
        "  heaviest ARRAY<STRING> COMMENT 'the most missed keys of a Count-Min',\n"
        "  parts ARRAY<BIGINT> COMMENT 'starts of the windows of the level below that are in, UTC µs',\n"
        "  sketch BINARY COMMENT 'bytes of sketches/encoding.py',\n"
        "  kafka_partition INT COMMENT 'partition of sketches.v1',\n"
        "  kafka_offset BIGINT COMMENT 'offset in it; of a window written again the greatest counts'",
        "level, months(window_start)",
    ),
    "user_sessions": (
        "  month DATE COMMENT 'first day of the UTC month of its answers',\n"
        "  user_id STRING COMMENT 'the user',\n  user_no BIGINT COMMENT 'its number',\n"
        "  session_id STRING COMMENT 'the session; one that goes over the end of a month has a row in each',\n"
        "  quiz_id STRING COMMENT 'the session''s quiz',\n"
        "  session_started_at_us BIGINT COMMENT 'anchor of the session''s board, UTC µs',\n"
        "  first_at_us BIGINT COMMENT 'its earliest answer, UTC µs',\n"
        "  last_at_us BIGINT COMMENT 'its latest answer, UTC µs',\n"
        "  plays BIGINT COMMENT 'counted answers',\n  hits BIGINT COMMENT 'right answers',\n"
        "  points BIGINT COMMENT 'sum of stamped points',\n"
        "  elapsed_ms BIGINT COMMENT 'sum of time taken, ms',\n"
        f"  answers {ARCHIVED_ANSWERS} COMMENT 'its answers, earliest first'",
        f"month, bucket({USER_BUCKETS}, user_id)",
    ),
}
TABLES = tuple(_COLUMNS)
# What one row is, up to the semicolon, and what else to know: the tables' comments in the catalog and in DuckDB.
TABLE_COMMENTS: dict[str, str] = {
    "answers": "one row per counted answer, as it was recorded; never rewritten",
    "barriers": "one row per (zone, day, shard) that has ended; answers of a higher seq are late for that day",
    "corrections": "one row per rule change, removal or deletion; answers stay as they are",
    "course_days": "one row per (course, UTC day) with enrolments; users who came and went, and members at its end",
    "dead_letters": "one row per record of answers.v1 that no schema fits; with the reason",
    "enrolments": "one row per enrolment in a course or its end; never rewritten",
    "user_numbers": "one row per user that has answered; its dense number and its id",
    "user_days": "one row per (scope, zone, local day, user_no); sums of its answers, as last published",
    "user_months": "one row per (scope, zone, local month, user_no); sums of its user_days",
    "ranking_changes": "one row per (settlement, board, user) that was moved; what an adjustment changed",
    "rankings": "one row per (board, user) of a settled period; ranked, as last published",
    "sketches": "one row per (kind, level, window) and version; the version of the greatest offset counts",
    "user_sessions": "one row per (session, user); sums of its answers in that game",
}


def create_table(name: str) -> str:
    """`CREATE TABLE IF NOT EXISTS …` of one lake table, as Spark SQL."""
    columns, partition = _COLUMNS[name]
    partitioned = f"\nPARTITIONED BY ({partition})" if partition else ""
    comment = TABLE_COMMENTS[name].replace("'", "''")
    return (
        f"CREATE TABLE IF NOT EXISTS {table(name)} (\n{columns}\n) USING iceberg\nCOMMENT '{comment}'{partitioned}\n"
        f"TBLPROPERTIES ({_PROPERTIES})"
    )
