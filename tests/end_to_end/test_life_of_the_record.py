"""A month's life on a whole stack: settled by racing jobs, scored again and taken back, lost from Postgres and rebuilt.

Each step ends in `reconcile`, and what rankings say is compared with SQL over the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.end_to_end.whole_stack import LEFT_OUT, WholeStack
from tests.simulated_week import PATH

pytestmark = [pytest.mark.end_to_end, pytest.mark.long]
SPAN = ("--from", "2026-03-30", "--to", "2026-04-05")
KINDS = ("daily", "weekly", "monthly")
_RANKINGS = "select period, start, scope, rank, user_id, points, reached_at_us from rankings order by all"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    whole = WholeStack(tmp_path_factory.mktemp("record") / "home")
    try:
        whole.run("up", "--without", LEFT_OUT)
        whole.run("replay", str(PATH), "--format", "csv", "--keep-boards", "--json")
        whole.until_relayed()
        yield whole
    finally:
        whole.run("down")


def _sql(stack: WholeStack, query: str) -> list[Any]:
    with psycopg.connect(stack.layout.settings("full").postgres_url, autocommit=True) as sql:
        found = sql.execute(query)
        return found.fetchall() if found.description else []


def _reconciled(stack: WholeStack) -> None:
    compared = stack.document("reconcile", *SPAN, "--json")
    assert 0 == compared["differences"] < compared["boards"]


def _daily_points(stack: WholeStack, points: str, where: str = "true") -> list[Any]:
    """(day, user_id, points) of the global daily boards by SQL over the answers, UTC days."""
    rows = stack.rows(
        f"select epoch_ms(occurred_at_us // 1000)::date as day, user_id, sum({points})::bigint as points "
        f"from answers where {where} group by all order by all"
    )
    return [(row["day"], row["user_id"], row["points"]) for row in rows]


def _ranked_daily_points(stack: WholeStack) -> list[Any]:
    rows = stack.rows(
        "select start as day, user_id, points from rankings where period = 'daily' and scope = 'global' order by all"
    )
    return [(row["day"], row["user_id"], row["points"]) for row in rows]


def test_racing_jobs_publish_each_period_once(stack: WholeStack) -> None:
    jobs = [stack.start("job", "settle", "--period", kind, *SPAN) for kind in KINDS]
    assert [0, 0, 0] == [job.wait(timeout=600) for job in jobs]
    for job in jobs:
        assert job.stdout is not None
        job.stdout.close()
    versions = _sql(stack, "SELECT DISTINCT period, version FROM settlement_periods ORDER BY 1")
    assert [(kind, 1) for kind in sorted(KINDS)] == versions
    assert _daily_points(stack, "points") == _ranked_daily_points(stack)
    _reconciled(stack)


def test_scored_again_and_taken_back(stack: WholeStack, tmp_path: Path) -> None:
    before = stack.rows(_RANKINGS)
    moves = tmp_path / "moves.csv"
    change = ("rescore", "--rule", "correct@1", *SPAN, "--json")
    looked = stack.document(*change, "--dry-run", "--csv", str(moves))
    assert ([], len(moves.read_text().splitlines()) - 1) == (looked["settlements"], looked["changes"]["rows"])
    assert before == stack.rows(_RANKINGS)

    stack.document(*change, "--reason", "as announced")
    by_truth = _daily_points(stack, "correct::int")
    assert by_truth == _ranked_daily_points(stack)
    _reconciled(stack)
    a_user = by_truth[0][1]
    stack.document("rescore", "--remove-user", a_user, *SPAN, "--json")
    fair = _daily_points(stack, "correct::int", f"user_id <> '{a_user}'")
    assert fair == _ranked_daily_points(stack)
    _reconciled(stack)
    # The edges of a range are read from answers: they count as boards do.
    day = fair[0][0]
    edge = stack.document(
        "board", "global", "--from", f"{day}T00:00:00Z", "--to", f"{day}T23:59:59Z", "--json", "--k", "1000"
    )
    assert a_user not in {entry["user_id"] for entry in edge["entries"]}
    for number in (2, 1):
        stack.document("rescore", "--undo", str(number), "--json")
    assert before == stack.rows(_RANKINGS)
    _reconciled(stack)


def test_what_postgres_and_redis_lost_comes_back(stack: WholeStack) -> None:
    rows = "SELECT shard, seq, md5(event) FROM history ORDER BY 1, 2"
    before = _sql(stack, rows)
    week = "occurred_at >= '2026-03-30T00:00:00Z' AND occurred_at < '2026-04-06T00:00:00Z'"
    plays = _sql(
        stack,
        f"SELECT count(*) FROM history WHERE type = 'answer.v1' AND {week} GROUP BY user_id ORDER BY 1 DESC",
    )
    _sql(stack, "DELETE FROM history WHERE seq % 3 = 0")
    # It ingests before it asks: the lake has all of the record, though Postgres has not.
    weekly = ("board", "global", "weekly", "2026-03-30", "--measure", "plays")
    fresh = stack.document(*weekly, "--fresh", "--k", "1000", "--json")
    assert [n for (n,) in plays[:1000]] == [entry["points"] for entry in fresh["entries"]]
    assert (len(plays), "lake") == (fresh["participants"], fresh["provenance"]["source"])
    with stack.client() as http:
        # Hours of a day are read from answers, as of the last ingest; a settled week is as of its settlement.
        hours = "/v1/leaderboards/global?from=2026-03-30T01:00:00Z&to=2026-03-30T20:00:00Z"
        first_as_of = http.get(hours, timeout=60).raise_for_status().json()["provenance"]["as_of"]
        asked = "/v1/leaderboards/global/weekly/2026-03-30?measure=plays&k=1000&fresh=true"
        again = http.get(asked, timeout=300).json()
        assert first_as_of < http.get(hours, timeout=60).raise_for_status().json()["provenance"]["as_of"]
    assert fresh["entries"] == again["entries"]
    found = stack.document("rebuild", "postgres", "--json")
    assert (0, len(before) - sum(1 for row in before if row[1] % 3)) == (
        found["differences"],
        found["inserted"],
    )
    assert before == _sql(stack, rows)
    stack.run("rebuild", "redis", "--json")
    _reconciled(stack)
