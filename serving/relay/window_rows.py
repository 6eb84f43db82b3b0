"""Records of the streams' topics as rows of the time-series tables (contracts/tsdb.py). Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts import names, tsdb
from contracts.errors import BadInput
from contracts.sketched import BY_KIND, Dimension
from sketches import windows
from sketches.count_min import CountMin
from sketches.estimates import Estimate
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles

# Heavy keys of a sketch that become rows, and the quantiles.
HEAVIEST = 10
RANKS = (0.5, 0.9, 0.95, 0.99)


class Record(Protocol):
    """What is needed of a Kafka record."""

    topic: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; instants are UTC µs, absent values are null."""

    table: str
    ts_us: int
    values: dict[str, int | float | str]


def _top_rows(row: dict[str, Any]) -> Iterable[Row]:
    values: dict[str, int | float | str] = {
        "kind": str(row["kind"]),
        "scope": str(row["scope"]),
        "level": str(row["level"]),
        "place": int(row["place"]),
        "subject_id": str(row["subject_id"]),
        "amount": int(row["amount"]),
        "window_end": int(row["window_end_us"]),
    }
    if row.get("reached_at_us") is not None:
        values["reached_at"] = int(row["reached_at_us"])
    yield Row(
        tsdb.top_k_table(row["kind"], row["scope"], row["level"]).name, int(row["window_start_us"]), values
    )


def _trending_rows(row: dict[str, Any]) -> Iterable[Row]:
    values: dict[str, int | float | str] = {
        "kind": str(row["kind"]),
        "place": int(row["place"]),
        "subject_id": str(row["subject_id"]),
        "plays": int(row["plays"]),
        "expected": float(row["expected"]),
        "score": float(row["score"]),
        "window_end": int(row["window_end_us"]),
    }
    yield Row(tsdb.TRENDING.name, int(row["window_start_us"]), values)


def _sketch_rows(row: dict[str, Any]) -> Iterable[Row]:
    dimension = BY_KIND[row["kind"]]
    sketch = windows.from_text(dimension, row["sketch"])
    if (dimension.kind, row["level"]) == ("missed_questions", "minute"):
        yield from _missed_questions(row, sketch)
    for subject, found in _figures(dimension, sketch, row.get("heaviest") or ()):
        values: dict[str, int | float | str] = {
            "sketch": dimension.kind,
            "level": str(row["level"]),
            "subject_id": subject,
            "estimate": found.value,
            "lower": found.lower,
            "upper": found.upper,
            "bound": found.bound,
            "confidence": found.confidence,
            "answers": int(row["answers"]),
            "late": int(row.get("late") or 0),
            "window_end": int(row["window_end_us"]),
        }
        yield Row(tsdb.ESTIMATES.name, int(row["window_start_us"]), values)


def _missed_questions(row: dict[str, Any], sketch: windows.Sketch) -> Iterator[Row]:
    assert isinstance(sketch, CountMin)
    for question in row.get("heaviest") or ():
        found = sketch.estimate("question", question)
        values: dict[str, int | float | str] = {
            "question_id": str(question),
            "level": "minute",
            "estimate": found.value,
            "lower": found.lower,
            "upper": found.upper,
            "bound": found.bound,
            "confidence": found.confidence,
            "total": sketch.total,
            "answers": int(row["answers"]),
            "window_end": int(row["window_end_us"]),
        }
        yield Row(tsdb.MISSED_QUESTIONS.name, int(row["window_start_us"]), values)


def _figures(
    dimension: Dimension, sketch: windows.Sketch, heaviest: Sequence[str]
) -> Iterator[tuple[str, Estimate]]:
    """(subject, what the sketch says of it): heavy keys, quantiles as p50 …, or the number of different keys as `all`."""
    if isinstance(sketch, CountMin):
        for key in heaviest:
            yield str(key), sketch.estimate(dimension.subject, str(key))
    elif isinstance(sketch, FrequentItems):
        for heavy in sketch.heaviest(dimension.subject, HEAVIEST):
            yield heavy.key, heavy.estimate
    elif isinstance(sketch, Quantiles):
        for rank in RANKS:
            if (at := sketch.quantile(rank)) is not None:
                bound = max(at.upper - at.value, at.value - at.lower)
                yield f"p{100 * rank:g}", Estimate(at.value, at.lower, at.upper, bound, at.confidence)
    else:
        yield "all", sketch.estimate()


_READERS: dict[str, Callable[[dict[str, Any]], Iterable[Row]]] = {
    names.TOPK: _top_rows,
    names.TOPK_QUIZZES: _top_rows,
    names.TRENDING: _trending_rows,
    names.SKETCHES: _sketch_rows,
}


def rows_of(records: Iterable[Record]) -> tuple[list[Row], int]:
    """The rows of records, and how many records fitted nothing and were skipped."""
    rows: list[Row] = []
    skipped = 0
    for record in records:
        if record.value is None:
            continue
        try:
            rows += list(_READERS[record.topic](json.loads(record.value)))
        except (ValueError, KeyError, TypeError, AttributeError, BadInput):
            skipped += 1
    return rows, skipped
