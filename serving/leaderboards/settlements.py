"""GET /v1/settlements: what was published, when, why, and what each adjustment moved (CONTRACTS D3, D4)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from contracts.boards import Scope
from contracts.errors import BadInput
from contracts.identity import checked_id
from contracts.periods import iso_ms
from serving.documented import documented
from serving.leaderboards import settled_boards

router = APIRouter(prefix="/v1", tags=["leaderboards"])
# A settlement of a month of several zones has some hundred periods; the list shows settlements, not periods.
LIST_MAX = 100
CHANGES_MAX = 1_000
_ID = re.compile(r"[1-9][0-9]{0,17}\Z")
_COLUMNS = (
    "id, from_day, to_day, (extract(epoch from created_at) * 1000000)::bigint, version, rule, reason, last_correction,"
    " changes, (snapshots->>'ranking_changes')::bigint"
)
_SETTLEMENT = {
    "id": "9",
    "from": "2026-03-02",
    "to": "2026-03-08",
    "created_at": "2026-03-09T09:15:21.000Z",
    "version": 2,
    "rules": ["speed@1"],
    "reason": "removal 1: a script answered",
    "last_correction": 1,
    "changes": {"boards": 3, "rows": 41, "users": 17, "joined": 0, "left": 3, "points_added": -12400},
}
_PERIOD = {"period": "weekly", "start": "2026-03-02", "zone": "UTC", "version": 2}
_CHANGE = {
    "period": "weekly",
    "start": "2026-03-02",
    "zone": "UTC",
    "scope": "global",
    "user_id": "u_8Zt",
    "rank_before": 1,
    "rank_after": None,
    "points_before": 12400,
    "points_after": None,
}


def _settlement(row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "id": row[0],
        "from": str(row[1]),
        "to": str(row[2]),
        "created_at": iso_ms(row[3]),
        "version": row[4],
        "rules": row[5].split(","),
        "reason": row[6],
        "last_correction": row[7],
        "changes": row[8],
    }


@router.get(
    "/settlements",
    summary="What was published, newest first",
    responses=documented(
        {"settlements": [_SETTLEMENT], "next": None}, s422="invalid_field", s503="system_missing"
    ),
)
async def settlements(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=LIST_MAX)] = 20,
    before: Annotated[str, Query(pattern=r"^([1-9][0-9]{0,17})?$", description="an id: older ones")] = "",
) -> dict[str, Any]:
    """`next` is what `before` takes for the following page; null on the last."""
    async with request.app.state.connections.sql() as sql:
        found = await sql.execute(
            f"select {_COLUMNS} from settlements where (%s = '' or id::bigint < nullif(%s, '')::bigint)"
            " order by id::bigint desc limit %s",
            [before, before, limit + 1],
        )
        rows = await found.fetchall()
    shown = [_settlement(row) for row in rows[:limit]]
    return {"settlements": shown, "next": shown[-1]["id"] if len(rows) > limit else None}


@router.get(
    "/settlements/{settlement}",
    summary="One settlement: its periods, and who moved",
    responses=documented(
        {**_SETTLEMENT, "periods": [_PERIOD], "moved": [_CHANGE]},
        s404="unknown_settlement",
        s422="invalid_field invalid_id unknown_scope",
        s503="system_missing",
    ),
)
async def settlement(
    settlement: str,
    request: Request,
    scope: Annotated[str, Query(description="only rows of this board's scope")] = "",
    user: Annotated[str, Query(description="only rows of this user")] = "",
    limit: Annotated[int, Query(ge=0, le=CHANGES_MAX)] = 20,
) -> dict[str, Any]:
    """`moved`: rows of an adjustment, those who moved farthest first; rank or points are null off the board."""
    if scope:
        Scope.parse(scope)
    if user:
        checked_id(user, "user")
    missing = BadInput("unknown_settlement", f"no settlement {settlement[:40]!r}", status=404)
    if not _ID.match(settlement):
        raise missing
    connections = request.app.state.connections
    async with connections.sql() as sql:
        found = await sql.execute(f"select {_COLUMNS} from settlements where id = %s", [settlement])
        row = await found.fetchone()
        if row is None:
            raise missing
        periods = await sql.execute(
            "select period, start, zone, version from settlement_periods where settlement_id = %s"
            " order by period, start, zone",
            [settlement],
        )
        published = [
            {"period": p, "start": str(start), "zone": zone, "version": version}
            for p, start, zone, version in await periods.fetchall()
        ]
    moved: list[dict[str, Any]] = []
    if row[8] and limit and row[9] is not None and settled_boards.has_lake(connections.settings):
        lake = await settled_boards.opened(connections.settings)
        read = settled_boards.room("lake.changes").changes
        moved = await settled_boards.bounded(
            lambda: read(lake, row[9], settlement, scope=scope, user_id=user, limit=limit)
        )
    return {**_settlement(row), "periods": published, "moved": moved}
