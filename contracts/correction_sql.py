"""What corrections make of answers, as SQL text that Spark and DuckDB read alike.

A copy of contracts/corrections.points_under and contracts/scoring, for engines that sum millions of answers; a test
runs the same answers and corrections through Python, Spark and DuckDB. The corrections stand in the text as literals:
there are few of them, and a join would touch every answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from contracts import scoring
from contracts.corrections import REMOVAL, Correction, holding
from contracts.errors import BadInput

# A text of more comparisons than this takes longer to plan than to run.
HOLDING_MAX = 1_000
# Integer division by `//` is DuckDB's, `div` Spark's; a floor of doubles is both's, and exact: the quotient is below
# 2^53, and a whole quotient of two exact doubles is exact.
POINTS_SQL = {
    "correct@1": "CASE WHEN correct THEN 1 ELSE 0 END",
    "speed@1": (
        "CASE WHEN NOT correct OR elapsed_ms > time_limit_ms THEN 0 "
        f"ELSE {scoring.SPEED_BASE} + CAST(floor(CAST({scoring.SPEED_BONUS} * (time_limit_ms - elapsed_ms) AS DOUBLE) "
        "/ CAST(time_limit_ms AS DOUBLE)) AS BIGINT) END"
    ),
}
assert POINTS_SQL.keys() == scoring.RULES.keys()


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"


def covers_sql(correction: Correction) -> str:
    """Whether a row of answers falls under a correction: contracts.corrections.covers."""
    parts = []
    if correction.quiz_id is not None:
        parts.append(f"quiz_id = {text(correction.quiz_id)}")
    if correction.user_id is not None:
        parts.append(f"user_id = {text(correction.user_id)}")
    if correction.from_us is not None:
        parts.append(f"occurred_at_us >= {correction.from_us}")
    if correction.to_us is not None:
        parts.append(f"occurred_at_us < {correction.to_us}")
    return "(" + (" AND ".join(parts) or "true") + ")"


def counted_points_sql(corrections: Iterable[Correction]) -> str:
    """What a row counts on boards; null where it was removed.

    The row has quiz_id, user_id, occurred_at_us, correct, elapsed_ms, time_limit_ms and points. Raises
    BadInput(too_many_corrections) if more than HOLDING_MAX hold.
    """
    there = holding(corrections)
    if len(there) > HOLDING_MAX:
        raise BadInput(
            "too_many_corrections", f"{len(there)} corrections hold; one board may have {HOLDING_MAX}"
        )
    if not there:
        return "points"
    # A removal holds whatever rule comes after it; of rules the newest holds.
    removals = [one for one in there if one.kind == REMOVAL]
    rules = [one for one in reversed(there) if one.kind != REMOVAL]
    lines = [f"WHEN {covers_sql(one)} THEN NULL" for one in removals]
    lines += [f"WHEN {covers_sql(one)} THEN CAST({POINTS_SQL[str(one.rule)]} AS BIGINT)" for one in rules]
    return "CASE " + " ".join(lines) + " ELSE points END"


def counted_rule_sql(corrections: Iterable[Correction]) -> str:
    """The rule that a row's points are of: the newest covering rule change's, else the stamped one."""
    rules = [one for one in reversed(holding(corrections)) if one.kind != REMOVAL]
    if not rules:
        return "rule"
    return (
        "CASE "
        + " ".join(f"WHEN {covers_sql(one)} THEN {text(str(one.rule))}" for one in rules)
        + " ELSE rule END"
    )
