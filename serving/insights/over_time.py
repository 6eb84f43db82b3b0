"""What the pages show of QuestDB's rows: top 10s now and before, hardest questions, the pipeline. Pure: rows in, replies out.

Rows are those of the tables that serving/relay/to_questdb.py and serving/relay/pipeline_health.py write; a window's `ts` is
its start. Instants come from QuestDB as ISO 8601 text, UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from contracts.periods import iso_ms

Kind = Literal["quizzes", "users"]
Row = dict[str, Any]
MEASURES = {"quizzes": "plays", "users": "points"}
# Lines that a chart can show apart.
SERIES = 5
TRENDING = 10
HARDEST = 20
# A window closes at most this long after its end, by the streams' settings; one that is older says that nobody plays or
# that the streams stand still (docs/runbooks/streams.md: window + 45 s).
LATE_S = 120.0
# Points of a line; a screen has few more pixels for it.
POINTS = 120
# How often the relay writes `pipeline_health`.
LOOK_S = 10
# What anybody may see: how far behind figures are. How much memory servers have is in /metrics, for this machine alone.
SHOWN = (
    "relay_lag_seconds",
    "outbox_entries",
    "consumer_lag_records",
    "settlement_age_seconds",
    "streams_running",
    "streams_checkpoint_age_seconds",
    "streams_watermark_age_seconds",
)
_OF_SHOWN = "measure in (" + ", ".join(f"'{measure}'" for measure in SHOWN) + ")"
# An older look says nothing about now.
LOOK_OLD_S = 60.0


def instant_us(text: str) -> int:
    """UTC µs of an instant as QuestDB writes it."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def sql_instant(at_us: int) -> str:
    """An instant as a literal of QuestDB's SQL."""
    return f"'{iso_ms(at_us)}'"


def top_query(kind: Kind, from_us: int) -> str:
    """Rows of the windows that began at `from_us` or later, newest first: at most 10 a window."""
    return (
        "select ts, place, subject_id, amount, window_end from top_k "
        f"where kind = '{kind}' and ts >= {sql_instant(from_us)} order by ts desc, place"
    )


def missed_query(from_us: int) -> str:
    """One row per question among the heaviest of a window: its estimates summed over those windows, most missed first."""
    return (
        "select question_id, sum(estimate) estimate, sum(lower) lower, sum(upper) upper, count() windows, "
        f"min(confidence) confidence from missed_questions where ts >= {sql_instant(from_us)} "
        f"order by estimate desc, question_id limit {HARDEST}"
    )


def play_query(from_us: int) -> str:
    """One row per window: answers, and how many of them were wrong."""
    return (
        "select ts, max(answers) answers, max(total) missed, max(window_end) window_end from missed_questions "
        f"where ts >= {sql_instant(from_us)} order by ts"
    )


def pipeline_query(from_us: int, minutes: int) -> str:
    """One row per step, measure and source; a step is the worst of its looks."""
    step_s = max(LOOK_S, minutes * 60 // POINTS)
    return (
        f"select ts, measure, source, max(value) value from pipeline_health where ts >= {sql_instant(from_us)} "
        f"and {_OF_SHOWN} sample by {step_s}s align to calendar order by ts"
    )


def health_query(from_us: int) -> str:
    """The newest row of each measure and source since `from_us`.

    Outside of it the choice of measures: QuestDB 9.3 leaves out an `in` beside LATEST ON over two columns (seen).
    """
    return (
        f"select ts, measure, source, value from (pipeline_health where ts >= {sql_instant(from_us)} "
        f"latest on ts partition by measure, source) where {_OF_SHOWN}"
    )


def newest_query(from_us: int) -> str:
    """One row: the end of the newest window, null where none began since `from_us`."""
    return f"select max(window_end) window_end from top_k where kind <> 'health' and ts >= {sql_instant(from_us)}"


def state(ends_us: Sequence[int], health: Sequence[Row], now_us: int) -> dict[str, Any]:
    """How new the figures are, and why they are not newer.

    as_of: end of the newest window, None if there is none. state: `fresh`; `quiet`: the streams follow, so nobody has played
    since; `behind`: the streams do not run or do not follow; `unknown`: old, and nobody says why.
    """
    as_of = max(ends_us, default=None)
    age_s = None if as_of is None else max(0.0, (now_us - as_of) / 1e6)
    told = {
        row["measure"]: row["value"]
        for row in health
        if (now_us - instant_us(row["ts"])) / 1e6 < LOOK_OLD_S and row["value"] is not None
    }
    if age_s is not None and age_s <= LATE_S:
        found = "fresh"
    elif told.get("streams_running") == 0 or told.get("streams_watermark_age_seconds", 0) > LATE_S:
        found = "behind"
    elif "streams_watermark_age_seconds" in told:
        found = "quiet"
    else:
        found = "unknown"
    return {
        "as_of": None if as_of is None else iso_ms(as_of),
        "age_s": None if age_s is None else round(age_s, 1),
        "state": found,
    }


def hot(rows: Sequence[Row]) -> dict[str, Any]:
    """The newest window's top 10, and how those did in the windows before it.

    series: the first SERIES of them, one amount per window of `windows` (None: not among that window's top 10).
    """
    by_window: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        by_window[row["ts"]][row["subject_id"]] = row["amount"]
    windows = sorted(by_window)
    if not windows:
        return {"window": None, "entries": [], "windows": [], "series": []}
    newest = [row for row in rows if row["ts"] == windows[-1]]
    entries = [
        {"rank": row["place"], "id": row["subject_id"], "amount": row["amount"]}
        for row in sorted(newest, key=lambda row: row["place"])
    ]
    return {
        "window": {
            "start": iso_ms(instant_us(windows[-1])),
            "end": iso_ms(instant_us(newest[0]["window_end"])),
        },
        "entries": entries,
        "windows": [iso_ms(instant_us(ts)) for ts in windows],
        "series": [
            {"id": one["id"], "amounts": [by_window[ts].get(one["id"]) for ts in windows]}
            for one in entries[:SERIES]
        ],
    }


def trending(rows: Sequence[Row], middle_us: int) -> list[dict[str, Any]]:
    """Who gained most: amounts of the windows from `middle_us` on against those before it, in the same number of minutes.

    A subject that was not among a window's top 10 counts 0 there, so `before` and `now` are at least what was played.
    """
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        sums[row["subject_id"]][instant_us(row["ts"]) >= middle_us] += row["amount"]
    gained = sorted((before - now, one) for one, (before, now) in sums.items() if now > before)[:TRENDING]
    return [{"id": one, "before": sums[one][0], "now": sums[one][1], "gained": -less} for less, one in gained]


def lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line per (measure, source), each with its points (instant, value) in order of time."""
    found: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for row in rows:
        if row["value"] is not None:
            found[(row["measure"], row["source"])].append([iso_ms(instant_us(row["ts"])), row["value"]])
    return [
        {"measure": measure, "source": source, "points": points}
        for (measure, source), points in sorted(found.items())
    ]
