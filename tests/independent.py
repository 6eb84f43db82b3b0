"""An independent check: every board of a file of answers, by DuckDB SQL of its own. Shares nothing with the project.

    python -m tests.independent FILE --format ednet|csv [SCOPE PERIOD START] [--k N]

Not contracts/board.sql and not contracts/*.py: rules of scoring, identity, periods (UTC), order and ticks are written
down here once more, from the contract's text, so that a fault in the shared code cannot hide in both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

# One row per line of the file, as the import takes it: ids that do not match are hashed.
_READ = {
    "ednet": """
SELECT timestamp_ms::BIGINT * 1000 AS at_us, kept_id(user_id) AS user_id,
  kept_id(user_id || '_' || strftime(make_timestamp(timestamp_ms::BIGINT * 1000), '%Y-%m-%d') || '_' || part)
    AS session_id,
  'part-' || part AS quiz_id, kept_id(question_id) AS question_id, correct = '1' AS correct,
  elapsed_ms::BIGINT AS elapsed_ms
FROM read_csv('{path}', header = true, all_varchar = true)""",
    "csv": """
SELECT
  CASE WHEN regexp_full_match(occurred_at, '-?[0-9]+') THEN occurred_at::BIGINT * 1000
    WHEN regexp_matches(occurred_at, '(Z|[+-][0-9]{{2}}:[0-9]{{2}})$') THEN epoch_us(occurred_at::TIMESTAMPTZ)
    ELSE epoch_us(occurred_at::TIMESTAMP) END AS at_us,
  kept_id(user_id) AS user_id, kept_id(session_id) AS session_id, kept_id(quiz_id) AS quiz_id,
  kept_id(question_id) AS question_id, lower(correct) IN ('1', 'true') AS correct, elapsed_ms::BIGINT AS elapsed_ms
FROM read_csv('{path}', header = true, all_varchar = true)""",
}
_KEPT_ID = """
CREATE MACRO kept_id(id) AS
  CASE WHEN regexp_full_match(id, '[A-Za-z0-9_-]{1,64}') THEN id ELSE 'x_' || sha256(id)[1:32] END"""
# One row per counted answer: the first line of each (session, question, user) in the contract's order.
_COUNTED = """
CREATE TABLE counted AS
SELECT at_us, user_id, session_id, quiz_id,
  CASE WHEN correct AND elapsed_ms <= 60000 THEN 500 + (500 * (60000 - elapsed_ms)) // 60000 ELSE 0 END AS points,
  min(at_us) OVER (PARTITION BY session_id) AS session_at_us
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY session_id, question_id, user_id ORDER BY at_us, elapsed_ms, correct) AS attempt
  FROM lines
) AS attempts
WHERE attempt = 1"""
# One row per counted answer and board it belongs to.
_BOARDED = """
WITH scoped AS (
  SELECT 'global' AS scope, at_us, user_id, points FROM counted
  UNION ALL SELECT 'quiz:' || quiz_id, at_us, user_id, points FROM counted
), dated AS (
  SELECT *, make_timestamp(at_us) AS instant FROM scoped
), boarded AS (
  SELECT scope, 'daily' AS period, date_trunc('day', instant)::DATE AS start, 1000000 AS tick, at_us, user_id, points
  FROM dated
  UNION ALL SELECT scope, 'weekly', date_trunc('week', instant)::DATE, 1000000, at_us, user_id, points FROM dated
  UNION ALL SELECT scope, 'monthly', date_trunc('month', instant)::DATE, 1000000, at_us, user_id, points FROM dated
  UNION ALL SELECT scope, 'all_time', DATE '1970-01-01', 3600000000, at_us, user_id, points FROM dated
), framed AS (
  SELECT scope, period, start, tick, epoch_us(start::TIMESTAMP) AS anchor, at_us, user_id, points FROM boarded
  UNION ALL SELECT 'session:' || session_id, 'all_time', DATE '1970-01-01', 1000000, session_at_us, at_us, user_id, points
  FROM counted
), summed AS (
  SELECT scope, period, start, tick, anchor // tick AS first_tick, user_id, sum(points)::BIGINT AS points,
    max(at_us // tick) FILTER (points > 0) AS last_tick
  FROM framed GROUP BY ALL
)"""
_RANKED = """
SELECT scope, period, start::VARCHAR AS start,
  row_number() OVER (
    PARTITION BY scope, period, start ORDER BY points DESC, reached_at_us ASC NULLS LAST, user_id::BLOB DESC) AS rank,
  user_id, points, reached_at_us
FROM (
  SELECT scope, period, start, user_id, points,
    CASE WHEN points > 0
      THEN (first_tick + greatest(0, least(last_tick - first_tick, 4194303))) * tick END AS reached_at_us
  FROM summed
) AS floored"""


def independent_boards(path: Path, form: str) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the table `boards`: scope, period, start, rank, user_id, points, reached_at_us (null at 0 points)."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(_KEPT_ID)
    source = _READ[form].format(path=str(path).replace("'", "''"))
    connection.execute(f"CREATE TABLE lines AS {source}")
    connection.execute(_COUNTED)
    connection.execute(f"CREATE TABLE boards AS {_BOARDED} {_RANKED}")
    return connection


def main() -> None:
    """Print how many boards there are, or the top of one."""
    parser = argparse.ArgumentParser(description="Every board of a file of answers, independently")
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", dest="form", required=True, choices=sorted(_READ))
    parser.add_argument("board", nargs="*", help="SCOPE PERIOD START")
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    connection = independent_boards(args.file, args.form)
    if len(args.board) != 3:
        print(
            connection.sql(
                "SELECT period, count(DISTINCT (scope, start)) AS boards, count(*) AS rows FROM boards GROUP BY ALL ORDER BY 1"
            )
        )
        return
    query = "SELECT * FROM boards WHERE scope = ? AND period = ? AND start = ? AND rank <= ? ORDER BY rank"
    for row in connection.execute(query, [*args.board, args.k]).fetchall():
        print(*row, sep="\t")


if __name__ == "__main__":
    main()
