"""GET /v1/insights/{hot|trending|hardest|pipeline}: the streams' windows over time, from QuestDB.

For pages and screens on a wall; what one needs of a single minute is at /v1/windows and /v1/approx, without QuestDB.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, FastAPI, Query, Request

from contracts.errors import LakeboardError, SystemMissing
from contracts.periods import iso_ms
from serving.connections import Connections
from serving.documented import documented
from serving.insights import over_time
from serving.insights.over_time import Kind
from serving.insights.questdb import QuestdbReader

router = APIRouter(prefix="/v1/insights", tags=["insights"])
MINUTE_US = 60_000_000
# Two hours of minutes: what a chart of minutes can show; months are Grafana's.
Minutes = Annotated[int, Query(ge=5, le=120, description="how far back, in minutes")]
DayMinutes = Annotated[int, Query(ge=5, le=1440, description="how far back, in minutes")]
_STATE = {"as_of": "2026-03-02T18:00:00.000Z", "age_s": 21.4, "state": "fresh"}
_HOT = {
    "kind": "quizzes",
    "measure": "plays",
    "minutes": 60,
    "window": {"start": "2026-03-02T17:59:00.000Z", "end": "2026-03-02T18:00:00.000Z"},
    "entries": [{"rank": 1, "id": "starter-a1", "name": "First words", "amount": 412}],
    "windows": ["2026-03-02T17:58:00.000Z", "2026-03-02T17:59:00.000Z"],
    "series": [{"id": "starter-a1", "name": "First words", "amounts": [398, 412]}],
    **_STATE,
}
_TRENDING = {
    "kind": "quizzes",
    "measure": "plays",
    "minutes": 60,
    "middle": "2026-03-02T17:30:00.000Z",
    "entries": [{"id": "starter-a1", "name": "First words", "before": 120, "now": 4310, "gained": 4190}],
    **_STATE,
}
_HARDEST = {
    "minutes": 60,
    "entries": [
        {
            "id": "a1-river",
            "name": "A wide stream of water that flows to the sea",
            "estimate": 41,
            "lower": 39,
            "upper": 41,
            "windows": 12,
            "confidence": 0.99,
        }
    ],
    "play": {"windows": ["2026-03-02T17:59:00.000Z"], "answers": [1873], "missed": [611]},
    **_STATE,
}
_PIPELINE = {
    "minutes": 60,
    "lines": [
        {
            "measure": "relay_lag_seconds",
            "source": "0/history",
            "points": [["2026-03-02T17:59:50.000Z", 0.1]],
        }
    ],
    "latest": [{"measure": "relay_lag_seconds", "source": "0/history", "value": 0.1, "age_s": 4.1}],
    **_STATE,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Makes the reader where there is a QuestDB; profile `live` has none."""
    url = app.state.connections.settings.questdb_http_url
    app.state.questdb = QuestdbReader(url) if url else None
    yield
    if app.state.questdb:
        await app.state.questdb.close()


def _reader(request: Request) -> QuestdbReader:
    reader = getattr(request.app.state, "questdb", None)
    if reader is None:
        raise SystemMissing(
            "system_missing",
            "profile live keeps no windows over time: insights need profile full",
            next_step="./lakeboard up --profile full",
        )
    assert isinstance(reader, QuestdbReader)
    return reader


def _span(minutes: int) -> tuple[int, int]:
    """(from, now) in UTC µs; `from` is a whole minute, so that viewers of the same minute share a query."""
    now_us = time.time_ns() // 1000
    return (now_us // MINUTE_US - minutes) * MINUTE_US, now_us


# One row per question QUIZ/QUESTION of public quizzes, as they are played now.
_PROMPTS = """
with asked as (select split_part(id, '/', 1) as quiz_id, split_part(id, '/', 2) as question_id, id
               from unnest(%s::text[]) as id)
select asked.id, one ->> 'prompt'
from asked join quizzes using (quiz_id) join quiz_versions using (quiz_id, version)
cross join jsonb_array_elements(document -> 'questions') as one
where visibility = 'public' and one ->> 'question_id' = asked.question_id
"""


async def _named(connections: Connections, kind: str, ids: list[str]) -> dict[str, str]:
    """id → what people call it; without those that cannot be looked up: a page shows the id then."""
    if kind == "users":
        return {
            user: shown.name for user, shown in (await connections.profiles.shown(ids)).items() if shown.name
        }
    if kind == "quizzes":
        query = "select quiz_id, title from quizzes where quiz_id = any(%s) and visibility = 'public'"
    else:
        query = _PROMPTS
    try:
        async with connections.sql() as sql:
            found = await sql.execute(query, [ids])
            return {row[0]: row[1] for row in await found.fetchall() if row[1]}
    except (LakeboardError, psycopg.Error):
        return {}


async def _with_names(request: Request, kind: str, *lists: list[dict[str, Any]]) -> None:
    ids = sorted({entry["id"] for entries in lists for entry in entries})
    names = await _named(request.app.state.connections, kind, ids) if ids else {}
    for entries in lists:
        for entry in entries:
            entry["name"] = names.get(entry["id"])


def _ends_us(rows: list[dict[str, Any]]) -> list[int]:
    return [over_time.instant_us(row["window_end"]) for row in rows]


@router.get(
    "/hot",
    summary="The newest minute's top 10, and how they did before",
    responses=documented(_HOT, s422="invalid_field", s503="system_missing overloaded"),
)
async def hot(request: Request, kind: Kind = "quizzes", minutes: Minutes = 60) -> dict[str, Any]:
    """`amount` is plays of a quiz, points of a user. `state` says how new this is (fresh, quiet, behind, unknown)."""
    reader = _reader(request)
    from_us, now_us = _span(minutes)
    rows, health = await asyncio.gather(
        reader.rows(over_time.top_query(kind, from_us)),
        reader.rows(over_time.health_query(from_us)),
    )
    found = over_time.hot(rows)
    await _with_names(request, kind, found["entries"], found["series"])
    measure = over_time.MEASURES[kind]
    return {
        "kind": kind,
        "measure": measure,
        "minutes": minutes,
        **found,
        **over_time.state(_ends_us(rows), health, now_us),
    }


@router.get(
    "/trending",
    summary="Who gained most in the second half of a span",
    responses=documented(_TRENDING, s422="invalid_field", s503="system_missing overloaded"),
)
async def trending(request: Request, kind: Kind = "quizzes", minutes: Minutes = 60) -> dict[str, Any]:
    """Both halves count what was among a minute's top 10; the first half ends at `middle`."""
    reader = _reader(request)
    from_us, now_us = _span(minutes)
    rows, health = await asyncio.gather(
        reader.rows(over_time.top_query(kind, from_us)),
        reader.rows(over_time.health_query(from_us)),
    )
    middle_us = from_us + (minutes // 2 + minutes % 2) * MINUTE_US
    entries = over_time.trending(rows, middle_us)
    await _with_names(request, kind, entries)
    return {
        "kind": kind,
        "measure": over_time.MEASURES[kind],
        "minutes": minutes,
        "middle": iso_ms(middle_us),
        "entries": entries,
        **over_time.state(_ends_us(rows), health, now_us),
    }


@router.get(
    "/hardest",
    summary="Questions that are missed most, estimated, with bounds; answers and misses a minute",
    responses=documented(_HARDEST, s422="invalid_field", s503="system_missing overloaded"),
)
async def hardest(request: Request, minutes: DayMinutes = 60) -> dict[str, Any]:
    """Summed over the minutes in which a question was among the most missed: `windows` of them. lower ≤ truth ≤ upper there,
    each minute's lower bound with `confidence`."""
    reader = _reader(request)
    from_us, now_us = _span(minutes)
    entries, play, health = await asyncio.gather(
        reader.rows(over_time.missed_query(from_us)),
        reader.rows(over_time.play_query(from_us)),
        reader.rows(over_time.health_query(from_us)),
    )
    found = [
        {"id": row["question_id"], **{k: v for k, v in row.items() if k != "question_id"}} for row in entries
    ]
    await _with_names(request, "questions", found)
    return {
        "minutes": minutes,
        "entries": found,
        "play": {
            "windows": [iso_ms(over_time.instant_us(row["ts"])) for row in play],
            "answers": [row["answers"] for row in play],
            "missed": [row["missed"] for row in play],
        },
        **over_time.state(_ends_us(play), health, now_us),
    }


@router.get(
    "/pipeline",
    summary="How the pipeline stands: lags, ages, sizes",
    responses=documented(_PIPELINE, s422="invalid_field", s503="system_missing overloaded"),
)
async def pipeline(request: Request, minutes: DayMinutes = 60) -> dict[str, Any]:
    """Lines over time, a point the worst of its looks; and each figure's newest value with its age."""
    reader = _reader(request)
    from_us, now_us = _span(minutes)
    rows, health, newest = await asyncio.gather(
        reader.rows(over_time.pipeline_query(from_us, minutes)),
        reader.rows(over_time.health_query(from_us)),
        reader.rows(over_time.newest_query(from_us)),
    )
    latest = [
        {
            "measure": row["measure"],
            "source": row["source"],
            "value": row["value"],
            "age_s": round((now_us - over_time.instant_us(row["ts"])) / 1e6, 1),
        }
        for row in health
    ]
    ends = [row for row in newest if row["window_end"]]
    return {
        "minutes": minutes,
        "lines": over_time.lines(rows),
        "latest": sorted(latest, key=lambda one: (one["measure"], one["source"])),
        **over_time.state(_ends_us(ends), health, now_us),
    }
