"""What was published, and who moved, over HTTP."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import httpx
import psycopg
import pytest

from tests import model
from tests.serving.api_process import ApiProcess
from tests.serving.recorded import Recorded
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service
SHORT = '{"boards": 1, "rows": 3, "users": 3, "joined": 1, "left": 1, "points_added": 5}'


def _moved(user: str, before: tuple[int, int] | None, after: tuple[int, int] | None) -> dict[str, object]:
    (rank, points), (new_rank, new_points) = before or (None, None), after or (None, None)
    return {
        "settlement_id": "2", "period": "daily", "start": date(2024, 3, 30), "zone": "UTC", "scope": "global",
        "user_id": user, "user_no": 1, "rank_before": rank, "rank_after": new_rank, "points_before": points,
        "points_after": new_points,
    }  # fmt: skip


def test_settlements_and_who_moved(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> None:
    record.play(model.play(52, users=5, sessions=2))
    record.relay()
    small_lake.take()
    assert ("1", "2") == (small_lake.settle(), small_lake.settle(version=2))
    rows = [
        _moved("near", (2, 900), (3, 900)),
        _moved("far", (1, 990), (9, 10)),
        _moved("gone", (4, 5), None),
    ]
    small_lake.append("ranking_changes", rows)
    small_lake.append("ranking_changes", [{**rows[0], "settlement_id": "3"}])
    snapshot = small_lake.catalog.load_table(("lakeboard", "ranking_changes")).current_snapshot()
    assert snapshot is not None
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "UPDATE settlements SET changes = %s, snapshots = snapshots || jsonb_build_object('ranking_changes', "
            "%s::bigint) WHERE id = '2'",
            (SHORT, snapshot.snapshot_id),
        )
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    try:
        with httpx.Client(base_url=f"{api.url}/v1", timeout=30) as http:
            first = http.get("/settlements", params={"limit": 1}).json()
            assert (["2"], "2") == ([one["id"] for one in first["settlements"]], first["next"])
            second = http.get("/settlements", params={"limit": 1, "before": first["next"]}).json()
            assert (["1"], None) == ([one["id"] for one in second["settlements"]], second["next"])
            found = http.get("/settlements/2").json()
            assert ["far", "gone", "near"] == [row["user_id"] for row in found["moved"]]
            assert (4, None) == (found["moved"][1]["rank_before"], found["moved"][1]["rank_after"])
            assert 3 == found["changes"]["rows"] and found["periods"]
            assert ["near"] == [
                row["user_id"] for row in http.get("/settlements/2?user=near").json()["moved"]
            ]
            assert [] == http.get("/settlements/2", params={"scope": "quiz:q1"}).json()["moved"]
            assert [] == http.get("/settlements/1").json()["moved"]
            for wrong in ("/settlements/7", "/settlements/%00", "/settlements/x"):
                assert (404, "unknown_settlement") == (
                    http.get(wrong).status_code,
                    http.get(wrong).json()["code"],
                )
    finally:
        api.stop()
