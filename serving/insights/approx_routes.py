"""GET /v1/approx/…: counts, heaviest keys, participants and quantiles over any range, each with its bound.

Answered from this process' replica of `sketches.v1`, and, for windows that the topic keeps no longer, from the lake. A range is
taken in whole minutes, which the reply names. A process that is too far behind says so (503, `replica_behind`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from contracts.errors import BadInput, LakeboardError, SystemMissing
from contracts.identity import valid_id
from contracts.names import WORD_TAG, word_tag
from serving.documented import Responses, documented
from serving.insights.replica import SketchReplica
from serving.insights.routes import HOUR_US, REPLICA_EXAMPLE, iso, replica_of, replica_state, us
from serving.leaderboards import settled_boards
from sketches.estimates import Estimate

router = APIRouter(prefix="/v1/approx", tags=["insights"])
From = Annotated[datetime | None, Query(alias="from", description="default: an hour before `to`")]
To = Annotated[datetime | None, Query(description="exclusive; default: now")]
# A dashboard shows a handful; the sketch holds some hundreds.
MOST_KEYS = 100
MOST_RANKS = 20
_RANGE_EXAMPLE = {
    "from": "2026-03-02T17:00:00.000Z",
    "to": "2026-03-02T18:00:00.000Z",
    "as_of": "2026-03-02T18:00:00.000Z",
    "windows": 1,
    "from_lake": 0,
    "late": 0,
    "confidence": 0.99,
    "provenance": {
        "source": "sketch",
        "exactness": "estimate",
        "bound": 2,
        "as_of": "2026-03-02T18:00:00.000Z",
    },
    "replica": REPLICA_EXAMPLE,
}
_FIGURE = {"estimate": 41, "lower": 39, "upper": 41, "bound": 2}
_MISSES_EXAMPLE = {"subject": "word", "id": "serendipity", **_FIGURE, "total": 1873, **_RANGE_EXAMPLE}
_HEAVIEST_EXAMPLE = {
    "subject": "word",
    "total": 1873,
    "entries": [{"place": 1, "id": "serendipity", **_FIGURE}],
    **_RANGE_EXAMPLE,
}
_PARTICIPANTS_EXAMPLE = {"estimate": 980, "lower": 961, "upper": 1003, "bound": 23, **_RANGE_EXAMPLE}
_ELAPSED_EXAMPLE = {
    "answers": 5120,
    "quantiles": [{"q": 0.95, "estimate": 8120, "lower": 8007, "upper": 8211}],
    **_RANGE_EXAMPLE,
}
_POINTS_EXAMPLE = {
    **_ELAPSED_EXAMPLE,
    "quantiles": [{"q": 0.95, "estimate": 984, "lower": 983, "upper": 985}],
}


def _documented(example: dict[str, Any]) -> Responses:
    """The replies that all of these routes have."""
    return documented(
        example,
        s404="not_found",
        s422="invalid_field invalid_id range_too_large",
        s503="system_missing replica_behind",
    )


@dataclass(frozen=True, slots=True)
class _Range:
    """What a question is answered from: the replica, the selected windows, and the lake's sketches of missing ones."""

    replica: SketchReplica
    chosen: Any
    more: Sequence[Any]
    start_us: int
    end_us: int
    as_of_us: int

    def document(self, windows: int, late: int, bound: int | None, confidence: float) -> dict[str, Any]:
        """What every reply says of its range."""
        as_of = iso(self.as_of_us)
        return {
            "from": iso(self.start_us),
            "to": iso(self.end_us),
            "as_of": as_of,
            "windows": windows,
            "from_lake": len(self.more),
            "late": late,
            "confidence": confidence,
            "provenance": {"source": "sketch", "exactness": "estimate", "bound": bound, "as_of": as_of},
            "replica": replica_state(self.replica),
        }


async def _range(request: Request, kind: str, from_: datetime | None, to: datetime | None) -> _Range:
    """The range of a question. Raises BadInput, Retryable(replica_behind), SystemMissing, LakeboardError(not_found)."""
    from serving.insights.cover import whole_minutes

    replica = replica_of(request)
    now_us = time.time_ns() // 1000
    to_us = us(to, now_us)
    start, end = whole_minutes(us(from_, to_us - HOUR_US), min(to_us, now_us) if from_ is None else to_us)
    replica.check()
    chosen = replica.sketches.select(kind, start, end, now_us)
    more = await _from_lake(request, kind, chosen.missing) if chosen.missing else []
    newest = replica.sketches.as_of_us
    if not chosen.windows and not more and (newest is None or newest <= start):
        raise LakeboardError(
            "not_found",
            f"nothing of this range has been sketched yet; the newest minute ends {iso(newest) or 'nowhere'}",
            status=404,
            next_step="ask for a range that holds a closed minute of live play",
        )
    return _Range(replica, chosen, more, start, end, min(end, newest) if newest is not None else end)


async def _from_lake(request: Request, kind: str, missing: Sequence[tuple[str, int]]) -> list[Any]:
    """The lake's sketches of windows. Raises SystemMissing if there is no lake or it does not answer."""
    settings = request.app.state.connections.settings
    if not settled_boards.has_lake(settings):
        raise SystemMissing(
            "system_missing",
            f"windows of this range are kept by the lake alone, and profile {settings.profile} has none",
            next_step="./lakeboard up --profile full",
        )
    lake = await settled_boards.opened(settings)

    def read() -> list[Any]:
        from contracts.sketched import BY_KIND
        from sketches import windows

        rows = settled_boards.room("lake.sketches").read_sketches(lake, kind, missing)
        return [windows.read(BY_KIND[kind], data) for _, data in rows]

    found: list[Any] = await settled_boards.bounded(read)
    return found


_KINDS = {
    "question": ("missed_questions", "heavy_questions"),
    "quiz": ("missed_quizzes", "heavy_quizzes"),
    "type": ("missed_types", ""),
    "word": ("missed_words", "heavy_words"),
}


@router.get(
    "/misses/question/{quiz_id}/{question_id}",
    summary="How often a question was missed",
    responses=_documented(_MISSES_EXAMPLE),
)
async def misses_of_question(
    request: Request, quiz_id: str, question_id: str, from_: From = None, to: To = None
) -> dict[str, Any]:
    """As of other subjects; quizzes number their own questions, so its id in the reply is QUIZ/QUESTION."""
    if not (valid_id(quiz_id) and valid_id(question_id)):
        raise BadInput("invalid_id", f"{quiz_id[:80]!r}, {question_id[:80]!r} are not ids")
    return await _misses(request, "question", f"{quiz_id}/{question_id}", from_, to)


@router.get(
    "/misses/{subject}/{id}",
    summary="How often a word, a quiz or a type of question was missed",
    responses=_documented(_MISSES_EXAMPLE),
)
async def misses(
    request: Request,
    subject: Literal["quiz", "type", "word"],
    id: str,
    from_: From = None,
    to: To = None,
) -> dict[str, Any]:
    """truth <= upper always; lower <= truth at the confidence. bound = ε · total, and late answers not yet counted."""
    if subject == "word":
        key = word_tag(id).removeprefix(WORD_TAG)
        valid = bool(key)
    else:
        key, valid = id, valid_id(id)
    if not valid:
        raise BadInput("invalid_id", f"{subject} {id[:80]!r} is not an id")
    return await _misses(request, subject, key, from_, to)


def _bounded(one: Estimate) -> dict[str, int]:
    return {"estimate": one.value, "lower": one.lower, "upper": one.upper, "bound": one.bound}


async def _misses(
    request: Request, subject: str, key: str, from_: datetime | None, to: datetime | None
) -> dict[str, Any]:
    found = await _range(request, _KINDS[subject][0], from_, to)
    counted = found.replica.approx.count(found.chosen, key, found.more)
    one = counted.estimate
    return {
        "subject": subject,
        "id": key,
        **_bounded(one),
        "total": counted.total,
        **found.document(counted.windows, counted.late, one.bound, one.confidence),
    }


@router.get(
    "/heaviest/{subject}",
    summary="The most missed words, questions or quizzes",
    responses=_documented(_HEAVIEST_EXAMPLE),
)
async def heaviest(
    request: Request,
    subject: Literal["question", "quiz", "word"],
    k: Annotated[int, Query(ge=1, le=MOST_KEYS)] = 10,
    from_: From = None,
    to: To = None,
) -> dict[str, Any]:
    """Lower and upper always hold; no key is left out that was missed more often than ε (0.17 %) of the total."""
    found = await _range(request, _KINDS[subject][1], from_, to)
    heavy, total, windows = await run_in_threadpool(
        found.replica.approx.heaviest, found.chosen, k, found.more
    )
    entries = [
        {
            "place": place,
            "id": one.key,
            **_bounded(one.estimate),
        }
        for place, one in enumerate(heavy, 1)
    ]
    bound = max((one.estimate.bound for one in heavy), default=0)
    late = sum(not answer.correct for answer in found.chosen.late)
    return {
        "subject": subject,
        "total": total,
        "entries": entries,
        **found.document(windows, late, bound, 1.0),
    }


@router.get(
    "/participants",
    summary="How many users answered",
    responses=_documented(_PARTICIPANTS_EXAMPLE),
)
async def participants(request: Request, from_: From = None, to: To = None) -> dict[str, Any]:
    """Distinct users of live play; lower <= truth <= upper at the confidence."""
    found = await _range(request, "participants", from_, to)
    one, late, windows = await run_in_threadpool(found.replica.approx.distinct, found.chosen, found.more)
    return {
        **_bounded(one),
        **found.document(windows, late, one.bound, one.confidence),
    }


Ranks = Annotated[list[float] | None, Query(max_length=MOST_RANKS, description="default: 0.5, 0.95, 0.99")]


@router.get(
    "/elapsed_ms",
    summary="Quantiles of the time taken for an answer",
    responses=_documented(_ELAPSED_EXAMPLE),
)
async def elapsed_ms(request: Request, q: Ranks = None, from_: From = None, to: To = None) -> dict[str, Any]:
    """Milliseconds; lower <= truth <= upper at the confidence. No quantiles where nobody answered."""
    return await _quantiles(request, "elapsed_ms", q, from_, to)


@router.get(
    "/points",
    summary="Quantiles of the points that an answer brought",
    responses=_documented(_POINTS_EXAMPLE),
)
async def points(request: Request, q: Ranks = None, from_: From = None, to: To = None) -> dict[str, Any]:
    """Points, 0 for a wrong answer; lower <= truth <= upper at the confidence. No quantiles where nobody answered."""
    return await _quantiles(request, "points", q, from_, to)


async def _quantiles(
    request: Request, kind: str, q: list[float] | None, from_: datetime | None, to: datetime | None
) -> dict[str, Any]:
    ranks = q if q else [0.5, 0.95, 0.99]
    for rank in ranks:
        if not 0.0 <= rank <= 1.0:
            raise BadInput("invalid_field", f"q {rank} is not in 0 … 1")
    found = await _range(request, kind, from_, to)
    asked = await run_in_threadpool(found.replica.approx.quantiles, found.chosen, ranks, found.more)
    quantiles = [
        {"q": one.rank, "estimate": one.value, "lower": one.lower, "upper": one.upper}
        for one in asked.quantiles
    ]
    confidence = asked.quantiles[0].confidence if asked.quantiles else 1.0
    return {
        "answers": asked.count,
        "quantiles": quantiles,
        **found.document(asked.windows, asked.late, None, confidence),
    }
