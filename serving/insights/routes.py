"""GET /v1/windows/{users|quizzes}: the top 10s of the last minutes, exact over the answers that came in time.

Answered from this process' replica of the Flink job's topics, never from a system asked per request; the replica runs as
long as the process. Estimates are in approx_routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request

from contracts.errors import SystemMissing
from serving.documented import documented
from serving.insights.replica import SketchReplica

router = APIRouter(prefix="/v1", tags=["insights"])
HOUR_US = 3_600_000_000
REPLICA_EXAMPLE = {"lag_records": 0, "last_heard_s": 0.4, "skipped": {"not_json": 0, "no_answer": 2}}
_WINDOWS_EXAMPLE = {
    "kind": "users",
    "measure": "points",
    "windows": [
        {
            "start": "2026-03-02T17:59:00.000Z",
            "end": "2026-03-02T18:00:00.000Z",
            "entries": [{"rank": 1, "id": "u_8Zt", "amount": 4310, "reached_at": "2026-03-02T17:59:41.000Z"}],
        }
    ],
    "as_of": "2026-03-02T18:00:00.000Z",
    "provenance": {
        "source": "stream",
        "exactness": "exact",
        "bound": None,
        "as_of": "2026-03-02T18:00:00.000Z",
    },
    "replica": REPLICA_EXAMPLE,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs the replica where there is a Kafka; profile `live` has none."""
    bootstrap = app.state.connections.settings.kafka_bootstrap
    replica = SketchReplica(bootstrap) if bootstrap else None
    app.state.sketch_replica = replica
    if replica:
        replica.start()
    yield
    if replica:
        replica.stop()


def replica_of(request: Request) -> SketchReplica:
    replica = getattr(request.app.state, "sketch_replica", None)
    if replica is None:
        raise SystemMissing(
            "system_missing",
            "profile live has no streams: estimates and windows need profile full",
            next_step="./lakeboard up --profile full",
        )
    assert isinstance(replica, SketchReplica)
    return replica


def iso(instant_us: int | None) -> str | None:
    if instant_us is None:
        return None
    text = datetime.fromtimestamp(instant_us / 1e6, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def us(instant: datetime | None, default_us: int) -> int:
    if instant is None:
        return default_us
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000_000)


def replica_state(replica: SketchReplica) -> dict[str, Any]:
    """How far this process is behind the topics, and what the Flink job skipped on the newest day it skipped any."""
    lag, health = replica.lag, replica.windows.health()
    return {
        "lag_records": lag.records,
        "last_heard_s": None if lag.seen_s is None else round(lag.seen_s, 1),
        "skipped": health[max(health)] if health else {},
    }


@router.get(
    "/windows/{kind}",
    summary="Top 10 of each of the last minutes",
    responses=documented(_WINDOWS_EXAMPLE, s422="invalid_field", s503="system_missing"),
)
def windows(
    request: Request, kind: Literal["users", "quizzes"], limit: Annotated[int, Query(ge=1, le=120)] = 10
) -> dict[str, Any]:
    """Newest minute first; `amount` is points of a user, plays of a quiz."""
    replica = replica_of(request)
    found = replica.windows.top(kind, limit)
    as_of = iso(found[0]["end_us"]) if found else None
    return {
        "kind": kind,
        "measure": "points" if kind == "users" else "plays",
        "windows": [
            {
                "start": iso(window["start_us"]),
                "end": iso(window["end_us"]),
                "entries": [
                    {
                        "rank": row["place"],
                        "id": row["subject_id"],
                        "amount": row["amount"],
                        "reached_at": iso(row.get("reached_at_us")),
                    }
                    for row in window["rows"]
                ],
            }
            for window in found
        ],
        "as_of": as_of,
        "provenance": {"source": "stream", "exactness": "exact", "bound": None, "as_of": as_of},
        "replica": replica_state(replica),
    }
