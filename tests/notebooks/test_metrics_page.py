"""Every query of the pages for analysts runs on a small lake and gives rows; the figures agree with the model's."""

from __future__ import annotations

import re

import pytest

import lake
from cli.places import ROOT
from contracts.settings import Settings

pytestmark = pytest.mark.engine
HEADINGS = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def queries(page: str) -> dict[str, list[str]]:
    """Heading → its SQL, of one page."""
    text = (ROOT / "docs" / page).read_text()
    return {
        heading: re.findall(r"^```sql\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        for heading, body in HEADINGS.findall(text)
    }


def test_every_query_runs_and_gives_rows(in_environment: Settings) -> None:
    tables = lake.open()
    found = queries("metrics.md")
    assert dict.fromkeys(found, 1) == {heading: len(sql) for heading, sql in found.items()}
    asked = [*found.values(), queries("analysts.md")["What is there"]]
    for query in (query for sql in asked for query in sql):
        assert tables.sql(query).fetchall() != [], query


def test_the_figures_agree_with_each_other_and_the_record(in_environment: Settings) -> None:
    tables = lake.open()
    found = {heading: tables.sql(sql[0]).fetchall() for heading, sql in queries("metrics.md").items()}
    week = (
        "occurred_at >= TIMESTAMPTZ '2024-04-01 00:00+00' AND occurred_at < TIMESTAMPTZ '2024-04-08 00:00+00'"
    )
    users, plays, misses = tables.sql(
        f"SELECT count(DISTINCT user_id), count(*), count(*) FILTER (NOT correct) FROM answers WHERE {week}"
    ).fetchall()[0]
    assert [(users,)] == found["Participants"]
    assert (plays, misses) == tuple(
        map(sum, zip(*[row[1:] for row in found["Plays and misses"]], strict=True))
    )
    assert pytest.approx(1 - misses / plays) == found["Accuracy"][0][0]
    board = found["reached_at"]
    assert [row[0] for row in board] == [row[0] for row in found["Percentile"]]
    assert (1, 1.0) == found["Percentile"][0][1:]
    left = tables.sql(
        "SELECT count(*) FILTER (kind = 'enrolled') - count(*) FILTER (kind = 'left') FROM enrolments"
    )
    assert left.fetchall() == [(found["Courses"][-1][-1],)]
    late = tables.sql("SELECT count(*) FROM answers WHERE user_id LIKE 'late%'").fetchall()[0][0]
    assert late == sum(row[1] for row in found["Late answers"]) > 0
    assert {(0, 0)} == {row[1:] for row in found["Missing and repeated entries"]}
    assert {True} == {0 <= row[2] <= 1 for row in found["Returning participants"]}
