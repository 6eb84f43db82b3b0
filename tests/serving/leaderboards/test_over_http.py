"""Boards over HTTP through a period's life: live, settled, settled again; and a user's history page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.identity import event_id
from contracts.periods import iso_ms
from tests import model
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service


@pytest.fixture
def http(record: Recorded, small_lake: SmallLake, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client with the importer key, of an api that has a lake."""
    api = ApiProcess(tmp_path / "api", record.valkey_urls, record.postgres_url, small_lake.warehouse)
    with httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as client:
        yield client
    api.stop()


def rows_of(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in entries]


def expected_rows(rows: list[model.Row]) -> list[tuple[Any, ...]]:
    return [
        (r.rank, r.user_id, r.points, None if r.reached_at_us is None else iso_ms(r.reached_at_us))
        for r in rows
    ]


def test_a_board_over_its_life(http: httpx.Client, record: Recorded, small_lake: SmallLake) -> None:
    answers = model.play(51, users=20, sessions=6)
    record.play(answers)
    record.relay()
    small_lake.take()
    before = small_lake.boards()
    names = [name for name in before if name[1] in ("daily", "weekly", "monthly") and name[0][:2] != "se"]

    def ask(name: tuple[str, str, str], **params: Any) -> dict[str, Any]:
        reply = http.get("/v1/leaderboards/" + "/".join(name), params={"k": 1000, **params})
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    for name in names:
        reply = ask(name)
        assert ("redis", "provisional") == (reply["provenance"]["source"], reply["provenance"]["state"])
        assert expected_rows(before[name]) == rows_of(reply["entries"])
    first = small_lake.settle()
    late = replace(answers[0], question_id="late", correct=True, elapsed_ms=1)
    record.play([late])
    record.relay()
    small_lake.take()
    for name in names:
        reply = ask(name)
        provenance = reply["provenance"]
        assert ("rankings", "exact", "settled", first) == tuple(
            provenance[field] for field in ("source", "exactness", "state", "settlement")
        )
        assert expected_rows(before[name]) == rows_of(reply["entries"])
        assert len(before[name]) == reply["participants"]
        row = before[name][len(before[name]) // 2]
        near = ask(name, k=0, around=row.user_id, m=2)
        assert (row.rank, []) == (near["me"]["rank"], near["entries"])
        assert expected_rows(before[name][max(row.rank - 3, 0) : row.rank + 2]) == rows_of(near["around"])
        absent = ask(name, k=1, around="nobody")
        assert (None, []) == (absent["me"], absent["around"])
    second = small_lake.settle(version=2)
    after, touched = (
        small_lake.boards(),
        ("global", "monthly", str(model.start_of("monthly", model.local_day(late, "UTC")))),
    )
    assert before[touched] != after[touched]
    assert expected_rows(after[touched]) == rows_of(ask(touched)["entries"])
    assert second == ask(touched)["provenance"]["settlement"]
    # As the first settlement published it, for ever.
    assert expected_rows(before[touched]) == rows_of(ask(touched, settlement=first)["entries"])
    missing = http.get("/v1/leaderboards/" + "/".join(touched), params={"settlement": "77"})
    assert (404, "unknown_settlement") == (missing.status_code, missing.json()["code"])


def test_history_page_by_page(http: httpx.Client, record: Recorded) -> None:
    answers = model.play(52, users=4, sessions=9)
    record.play(answers)
    record.relay()
    user = answers[0].user_id
    mine = sorted(
        (
            (a.occurred_at_us, event_id(a.session_id, a.question_id, a.user_id), model.points_of(a))
            for a in model.counted(arrivals(answers))
            if a.user_id == user
        ),
        reverse=True,
    )
    found, cursor = [], ""
    for _ in range(len(mine) + 1):
        params = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = http.get(f"/v1/users/{user}/history", params=params).json()
        found += [(row["occurred_at"], row["event_id"], row["points"]) for row in page["answers"]]
        cursor = page["next"]
        if not cursor:
            break
    assert [(iso_ms(at), ident, points) for at, ident, points in mine] == found
    bad = http.get(f"/v1/users/{user}/history", params={"cursor": "x"})
    assert (422, "invalid_field") == (bad.status_code, bad.json()["code"])
    assert 401 == httpx.get(f"{http.base_url}/v1/users/{user}/history").status_code
