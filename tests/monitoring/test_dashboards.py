"""Grafana's dashboards: every query runs against a real QuestDB with real rows, and gives what its panel needs.

Grafana itself cannot be had as a package; its macros are expanded here as its Postgres data source does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from numbers import Real
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from cli.stack.layout import PORTS
from cli.stack.questdb import READER
from tests.monitoring.series import FOLDER, panels
from tests.services.daemons import QuestdbDaemon
from tests.serving.insights.filled import MINUTES, QUIZZES, filled_questdb

TSDB = "grafana-postgresql-datasource"
# As Grafana sends it for an hour on a screen of 1,000 points, given the panels' least interval.
INTERVAL = "10s"


def expanded(query: str, since: datetime, until: datetime) -> str:
    """The query with Grafana's macros: https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/#macros"""
    first, last = (f"'{moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}'" for moment in (since, until))
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", query)
    query = (
        query.replace("$__timeFrom()", first).replace("$__timeTo()", last).replace("$__interval", INTERVAL)
    )
    assert "$" not in query, query
    return query


@pytest.mark.unit
def test_dashboards_are_whole() -> None:
    uids: dict[str, str] = {}
    sources = yaml.safe_load(
        (FOLDER / "grafana" / "provisioning" / "datasources" / "lakeboard.yml").read_text()
    )
    known = {(one["type"], one["uid"]) for one in sources["datasources"]}
    files = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
    assert ["operations.json", "play.json"] == [file.name for file in files]
    for file in files:
        board = json.loads(file.read_text())
        assert uids.setdefault(board["uid"], file.name) == file.name
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)) and all(panel["targets"] for panel in board["panels"])
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
        for panel in board["panels"]:
            for target in panel["targets"]:
                assert (target["datasource"]["type"], target["datasource"]["uid"]) in known
    questdb, prometheus = sources["datasources"]
    assert f"127.0.0.1:{PORTS['questdb_pg']}" == questdb["url"] and prometheus["url"].startswith(
        "http://127.0.0.1"
    )
    assert READER == (questdb["user"], questdb["secureJsonData"]["password"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestdbDaemon]:
    with filled_questdb(tmp_path_factory.mktemp("dashboards") / "questdb") as (questdb, newest_us):
        # One row of the streams' own: a record skipped today.
        day_us = newest_us // 86_400_000_000 * 86_400_000_000
        with psycopg.connect(questdb.pg_url, autocommit=True) as sql:
            sql.execute(
                "insert into top_k (ts, kind, scope, level, place, subject_id, amount, window_end) values "
                f"(cast({newest_us} as timestamp), 'health', 'global', 'day', 1, 'not_json', 2, "
                f"cast({day_us} as timestamp))"
            )
        yield questdb


def as_reader(questdb: QuestdbDaemon) -> str:
    user, password = READER
    return questdb.pg_url.replace("admin:quest", f"{user}:{password}")


def asked(questdb: QuestdbDaemon, query: str, minutes: int = 60) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(columns, rows) of a panel's query over the last minutes."""
    now = datetime.now(UTC)
    with psycopg.connect(as_reader(questdb), autocommit=True) as sql:
        found = sql.execute(expanded(query, now - timedelta(minutes=minutes), now).encode())
        return [column.name for column in found.description or ()], found.fetchall()


@pytest.mark.service
@pytest.mark.parametrize(
    ("panel", "target"),
    [
        pytest.param(panel, target, id=f"{panel['title']} {target['refId']}")
        for _, panel, target in panels(TSDB)
    ],
)
def test_every_query_gives_what_its_panel_needs(
    filled: QuestdbDaemon, panel: dict[str, Any], target: dict[str, Any]
) -> None:
    columns, rows = asked(filled, target["rawSql"])
    assert rows, "the panel would be empty"
    if target["format"] == "table":
        assert panel["type"] == "table" and all(len(row) == len(columns) for row in rows)
        return
    # A time series: `time` first and growing, at most one `metric` of words, the rest numbers.
    assert columns[0] == "time"
    times = [row[0] for row in rows]
    assert all(isinstance(moment, datetime) for moment in times) and times == sorted(times)
    for name, *values in zip(columns[1:], *[row[1:] for row in rows], strict=True):
        kind = str if name == "metric" else Real
        assert all(isinstance(value, kind) for value in values), (name, values[:3])
    assert sum(name == "metric" for name in columns) <= 1
    assert len(set(times)) > 5, "a line of so few points says nothing"


def rows_of(questdb: QuestdbDaemon, title: str, minutes: int = 60) -> list[tuple[Any, ...]]:
    target = next(target for _, panel, target in panels(TSDB) if panel["title"] == title)
    return asked(questdb, target["rawSql"], minutes)[1]


@pytest.mark.service
def test_panels_say_what_was_written(filled: QuestdbDaemon) -> None:
    hot = rows_of(filled, "Hot now: quizzes")
    assert [1, 2, 3, 4, 5] == [row[0] for row in hot] and QUIZZES[-1] == hot[0][1]
    assert QUIZZES[-1] == rows_of(filled, "Trending quizzes", MINUTES)[0][0]
    for _, estimate, lower, upper, windows, confidence in rows_of(filled, "Hardest questions, estimated"):
        assert lower <= estimate <= upper and windows == MINUTES and confidence == 0.99
    assert ("not_json", 2) == rows_of(filled, "Skipped records by day")[0][1:]
    kept = {row[0]: row[1] for row in rows_of(filled, "What is kept")}
    assert kept["top_k"] == MINUTES * 15 + 1 and kept["missed_questions"] == MINUTES * 10


@pytest.mark.service
def test_who_looks_at_dashboards_changes_nothing(filled: QuestdbDaemon) -> None:
    """Grafana sends whatever its users write."""
    with psycopg.connect(as_reader(filled), autocommit=True) as sql:
        for query in ("drop table top_k", "truncate table top_k", "insert into top_k (ts) values (now())"):
            with pytest.raises(psycopg.Error):
                sql.execute(query.encode())
    reply = httpx.get(f"{filled.url}/exec", params={"query": "select count() from top_k"}).json()
    assert reply["dataset"][0][0] > 0
