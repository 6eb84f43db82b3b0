"""GET /v1/approx/missed_questions/{question_id} and GET /v1/windows/{users|quizzes}: what the streams say.

Answered from this process' replica of the Flink job's topics, never from a system asked per request. Estimates carry
their bound; top 10s of a minute are exact over the answers that came in time.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as PathParameter

from contracts.errors import BadInput, LakeboardError, SystemMissing
from serving.documented import documented
from serving.insights.replica import SketchReplica

router = APIRouter(prefix="/v1", tags=["insights"])
HOUR_US = 3_600_000_000
_REPLICA_EXAMPLE = {"lag_records": 0, "last_heard_s": 0.4, "skipped": {"not_json": 0, "no_answer": 2}}
_ESTIMATE_EXAMPLE = {
    "question_id": "q17",
    "estimate": 41,
    "lower": 39,
    "upper": 41,
    "total": 1873,
    "late": 0,
    "windows": 60,
    "from": "2026-03-02T17:00:00.000Z",
    "to": "2026-03-02T18:00:00.000Z",
    "bound": 2,
    "confidence": 0.99,
    "as_of": "2026-03-02T18:00:00.000Z",
    "provenance": {
        "source": "sketch",
        "exactness": "estimate",
        "bound": 2,
        "as_of": "2026-03-02T18:00:00.000Z",
    },
    "replica": _REPLICA_EXAMPLE,
}
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
    "replica": _REPLICA_EXAMPLE,
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


def _replica(request: Request) -> SketchReplica:
    replica = getattr(request.app.state, "sketch_replica", None)
    if replica is None:
        raise SystemMissing(
            "system_missing",
            "profile live has no streams: estimates and windows need profile full",
            next_step="./lakeboard up --profile full",
        )
    assert isinstance(replica, SketchReplica)
    return replica


def _iso(instant_us: int | None) -> str | None:
    if instant_us is None:
        return None
    text = datetime.fromtimestamp(instant_us / 1e6, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _us(instant: datetime | None, default_us: int) -> int:
    if instant is None:
        return default_us
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000_000)


def _replica_state(replica: SketchReplica) -> dict[str, Any]:
    """How far this process is behind the topics, and what the Flink job skipped on the newest day it skipped any."""
    lag, health = replica.lag, replica.windows.health()
    return {
        "lag_records": lag.records,
        "last_heard_s": None if lag.seen_s is None else round(lag.seen_s, 1),
        "skipped": health[max(health)] if health else {},
    }


@router.get(
    "/approx/missed_questions/{question_id}",
    summary="How often a question was missed, estimated",
    responses=documented(_ESTIMATE_EXAMPLE, s404="not_found", s422="invalid_field", s503="system_missing"),
)
def missed_question(
    request: Request,
    question_id: Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,64}$")],
    from_: Annotated[datetime | None, Query(alias="from", description="default: an hour before `to`")] = None,
    to: Annotated[datetime | None, Query(description="exclusive; default: now")] = None,
) -> dict[str, Any]:
    """Over the whole minutes inside [from, to) that the replica holds, which the reply names."""
    replica = _replica(request)
    to_us = _us(to, time.time_ns() // 1000)
    from_us = _us(from_, to_us - HOUR_US)
    if from_us >= to_us:
        raise BadInput("invalid_field", "`from` must be before `to`")
    found = replica.windows.estimate(question_id, from_us, to_us)
    if found is None:
        raise LakeboardError(
            "not_found",
            "no minute of play in this range is held; the newest ends "
            f"{_iso(replica.windows.as_of_us) or 'nowhere: none has closed yet'}",
            status=404,
            next_step="ask for a range that holds a closed minute of live play",
        )
    as_of = _iso(found.to_us)
    return {
        "question_id": question_id,
        "estimate": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "total": found.total,
        "late": found.late,
        "windows": found.windows,
        "from": _iso(found.from_us),
        "to": as_of,
        "bound": found.bound,
        "confidence": found.confidence,
        "as_of": as_of,
        "provenance": {"source": "sketch", "exactness": "estimate", "bound": found.bound, "as_of": as_of},
        "replica": _replica_state(replica),
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
    replica = _replica(request)
    found = replica.windows.top(kind, limit)
    as_of = _iso(found[0]["end_us"]) if found else None
    return {
        "kind": kind,
        "measure": "points" if kind == "users" else "plays",
        "windows": [
            {
                "start": _iso(window["start_us"]),
                "end": _iso(window["end_us"]),
                "entries": [
                    {
                        "rank": row["place"],
                        "id": row["subject_id"],
                        "amount": row["amount"],
                        "reached_at": _iso(row.get("reached_at_us")),
                    }
                    for row in window["rows"]
                ],
            }
            for window in found
        ],
        "as_of": as_of,
        "provenance": {"source": "stream", "exactness": "exact", "bound": None, "as_of": as_of},
        "replica": _replica_state(replica),
    }
