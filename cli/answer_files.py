"""Files of answers as lines of the import route: EdNet's and our own csv; pure but for reading the file.

A line that cannot be read is a value with its number, never the end of the replay.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.errors import BadInput
from contracts.identity import import_id
from contracts.periods import first_day, midnight_us

FORMATS = {
    "ednet": ("timestamp_ms", "user_id", "question_id", "part", "tags", "answer", "correct", "elapsed_ms"),
    "csv": ("occurred_at", "user_id", "session_id", "quiz_id", "question_id", "correct", "elapsed_ms"),
}
TIME_LIMIT_MS = 60_000
TRUTH = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line of the file that is not an answer."""

    line: int
    detail: str


def read(path: Path, form: str, rule: str) -> tuple[list[dict[str, Any]], list[Unreadable]]:
    """All answers of a file, gzip or not, in order of arrival (CONTRACTS A1), each with its session's anchor.

    Raises BadInput if the header lacks a column. Cost: the whole file in memory, about 1 kB a line.
    """
    with open(path, "rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else open(path, "rb") as file:
        return arrange(_rows(file, form), form, rule)


def _fields(line: bytes, encoding: str = "utf-8") -> list[str]:
    """The fields of one line. Raises ValueError or csv.Error: a quote that is left open ends with its line."""
    return next(csv.reader([line.decode(encoding).rstrip("\r\n")], strict=True), [])


def _rows(file: Iterable[bytes], form: str) -> Iterator[tuple[int, Mapping[str, str]] | Unreadable]:
    """(line number, fields by name) of every line that is not blank, or why it cannot be taken apart."""
    lines = iter(file)
    names: list[str] = []
    with suppress(ValueError, csv.Error):
        names = _fields(next(lines, b""), "utf-8-sig")
    missing = [name for name in FORMATS[form] if name not in names]
    if missing:
        raise BadInput("missing_field", f"the header lacks {', '.join(missing)}; format {form} needs them")
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            yield number, dict(zip(names, _fields(line), strict=False))
        except (ValueError, csv.Error) as error:
            yield Unreadable(number, f"{type(error).__name__}: {str(error)[:100]}")


def arrange(
    rows: Iterable[tuple[int, Mapping[str, str]] | Unreadable], form: str, rule: str
) -> tuple[list[dict[str, Any]], list[Unreadable]]:
    """Import lines in order of arrival, and the rows that are none."""
    make = _ednet if form == "ednet" else _csv
    lines: list[dict[str, Any]] = []
    bad: list[Unreadable] = []
    for row in rows:
        if isinstance(row, Unreadable):
            bad.append(row)
            continue
        number, fields = row
        try:
            lines.append({**make(fields), "rule": rule})
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            bad.append(Unreadable(number, f"{type(error).__name__}: {str(error)[:100]}"))
    lines.sort(key=_arrival)
    anchors: dict[str, int] = {}
    for line in lines:
        # Sorted: the first line of a session is its earliest.
        line["session_started_at_us"] = anchors.setdefault(line["session_id"], line["occurred_at_us"])
    return lines, bad


def _id(row: Mapping[str, str], name: str) -> str:
    """The id under which a field is kept. Raises ValueError if it is empty: nobody would be meant."""
    if not row[name]:
        raise ValueError(f"{name} is empty")
    return import_id(row[name])


def _arrival(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        line[name]
        for name in ("occurred_at_us", "session_id", "question_id", "user_id", "elapsed_ms", "correct")
    )


def _ednet(row: Mapping[str, str]) -> dict[str, Any]:
    occurred_at_us = int(row["timestamp_ms"]) * 1000
    day = datetime.fromtimestamp(occurred_at_us // 1_000_000, UTC).date()
    user, part = row["user_id"], int(row["part"])
    return {
        "occurred_at_us": occurred_at_us,
        "user_id": _id(row, "user_id"),
        "session_id": import_id(f"{user}_{day}_{part}"),
        "quiz_id": f"part-{part}",
        "question_id": _id(row, "question_id"),
        "correct": TRUTH[row["correct"].lower()],
        "elapsed_ms": int(row["elapsed_ms"]),
        "skill_tags": [tag for tag in row["tags"].split(";") if tag],
        "choice": row["answer"] or None,
        "time_limit_ms": TIME_LIMIT_MS,
    }


def _csv(row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "occurred_at_us": instant_us(row["occurred_at"]),
        "user_id": _id(row, "user_id"),
        "session_id": _id(row, "session_id"),
        "quiz_id": _id(row, "quiz_id"),
        "question_id": _id(row, "question_id"),
        "correct": TRUTH[row["correct"].strip().lower()],
        "elapsed_ms": int(row["elapsed_ms"]),
        "time_limit_ms": TIME_LIMIT_MS,
    }


def instant_us(text: str) -> int:
    """ISO 8601 (without offset: UTC) or epoch ms, as UTC µs. Raises ValueError."""
    if text.strip().lstrip("-").isdigit():
        return int(text) * 1000
    found = datetime.fromisoformat(text.strip())
    since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def boards_since_us(lines: list[dict[str, Any]]) -> int:
    """The first instant of the earliest week or month (UTC) that the sorted lines touch."""
    day = datetime.fromtimestamp(lines[0]["occurred_at_us"] // 1_000_000, UTC).date()
    return min(midnight_us(first_day(period, day), "UTC") for period in ("weekly", "monthly"))


def requests_of(lines: list[dict[str, Any]], lanes: int, size: int) -> list[list[bytes]]:
    """Bodies by lane, in order; all lines of one session are in one lane, so its earliest line arrives first."""
    by_lane: list[list[bytes]] = [[] for _ in range(lanes)]
    lane_of: dict[str, int] = {}
    for line in lines:
        # Sessions in turn, in order of their first line: lanes stay equally long.
        lane = lane_of.setdefault(line["session_id"], len(lane_of) % lanes)
        by_lane[lane].append(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode())
    return [[b"\n".join(lane[at : at + size]) for at in range(0, len(lane), size)] for lane in by_lane]
