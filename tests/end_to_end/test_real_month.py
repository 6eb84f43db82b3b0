"""A month of real answers the whole way; its boards against SQL written for this test over the file itself."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from tests.conftest import SHARED
from tests.end_to_end.whole_stack import WholeStack

pytestmark = [pytest.mark.end_to_end, pytest.mark.needs_shared]
MONTH = "2019-02"
# speed@1 over the first answer of each (session, question, user); one row per player, scope and period.
INDEPENDENT = """
with lines as (
  select timestamp_ms, user_id, question_id, 'quiz:part-' || part as quiz, elapsed_ms, correct,
         make_timestamp(timestamp_ms * 1000) as answered_at,
         user_id || '_' || strftime(make_timestamp(timestamp_ms * 1000), '%Y-%m-%d') || '_' || part as session_id
  from read_csv('{file}', types = {{'timestamp_ms': 'BIGINT', 'correct': 'INT', 'elapsed_ms': 'BIGINT'}})
), first_ones as (
  select *, case when correct = 1 and elapsed_ms <= 60000
                 then 500 + (500 * (60000 - elapsed_ms)) // 60000 else 0 end as points
  from lines
  qualify row_number() over (
    partition by session_id, question_id, user_id order by timestamp_ms, elapsed_ms, correct) = 1
), scoped as (
  select 'global' as scope, * from first_ones union all select quiz as scope, * from first_ones
), in_periods as (
  select 'daily' as period, date_trunc('day', answered_at)::date as start, * from scoped
  union all select 'weekly', date_trunc('week', answered_at)::date, * from scoped
  union all select 'monthly', date_trunc('month', answered_at)::date, * from scoped
), players as (
  select period, start, scope, user_id, sum(points) as points,
         max(case when points > 0 then timestamp_ms // 1000 * 1000000 end) as reached_at_us
  from in_periods group by all
)
select period, start::varchar, scope,
       row_number() over (partition by period, start, scope
                          order by points desc, reached_at_us nulls last, encode(user_id) desc) as rank,
       user_id, points::bigint, reached_at_us
from players order by all
"""


def test_a_month_of_real_answers(stack: WholeStack, tmp_path: Path) -> None:
    file = tmp_path / "month.csv"
    with gzip.open(SHARED / "data" / "ednet_answers.csv.gz", "rt") as source:
        header, *lines = source
    chosen = [
        line
        for line in lines
        if MONTH == datetime.fromtimestamp(int(line.split(",", 1)[0]) / 1000, UTC).strftime("%Y-%m")
    ]
    file.write_text(header + "".join(chosen))
    report = stack.document("replay", str(file), "--format", "ednet", "--keep-boards", "--json")
    assert (0, len(chosen)) == (report["refused"], report["counted"] + report["repeated"])
    span = ("--from", f"{MONTH}-01", "--to", f"{MONTH}-28")
    assert [] == stack.document("settle", *span)["skipped"]

    expected = duckdb.sql(INDEPENDENT.format(file=file)).fetchall()
    columns = ("period", "start", "scope", "rank", "user_id", "points", "reached_at_us")
    found = stack.rows(f"select {', '.join(columns)} from rankings order by all")
    assert expected == [tuple(row[name] for name in columns) for row in found]
    compared = stack.document("reconcile", *span, "--json")
    assert 0 == compared["differences"] < compared["boards"]
