"""Corrections: what changes the meaning of answers that stay as they are (CONTRACTS C9, D4).

A rule change, a removal, a deletion or the retraction of one of these is an event `correction.v1` of its own, with a
dense id; `answers` is never rewritten. Boards sum the points stamped in an answer, unless a correction covers it:
`points_under` is that decision, contracts/correction_sql.py its copy as SQL.
Pure; the ids' order is the order of decisions, so the last one that covers an answer holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from contracts import scoring
from contracts.errors import BadInput
from contracts.events import AnswerEvent, Field, decode_fields, encode_fields, schema_of

CORRECTION_TYPE = "correction.v1"
RULE_CHANGE, REMOVAL, DELETION, RETRACTION = "rule_change", "removal", "deletion", "retraction"
KINDS = (RULE_CHANGE, REMOVAL, DELETION, RETRACTION)

CORRECTION_FIELDS: tuple[Field, ...] = (
    Field("correction_id", "i64", "dense, from 1: the order of decisions"),
    Field("kind", "str", "rule_change, removal, deletion or retraction"),
    Field("decided_at_us", "i64", "when it was decided, UTC µs"),
    Field("reason", "str", "why, for those who read a settlement"),
    Field("quiz_id", "opt_str", "only answers of this quiz; null for all"),
    Field("user_id", "opt_str", "only answers of this user; null for all"),
    Field("from_us", "opt_i64", "only answers from this instant on, UTC µs; null for all"),
    Field("to_us", "opt_i64", "only answers before this instant, UTC µs; null for all"),
    Field("rule", "opt_str", "rule_change: the rule that scores them now, name@version"),
    Field("retracts", "opt_i64", "retraction: the earlier correction that no longer holds"),
)


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction, with the fields of CORRECTION_FIELDS in their order."""

    correction_id: int
    kind: str
    decided_at_us: int
    reason: str
    quiz_id: str | None = None
    user_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    rule: str | None = None
    retracts: int | None = None


def checked(correction: Correction) -> Correction:
    """The correction unchanged. Raises BadInput(bad_event) where its kind does not allow its fields."""
    kind, rule = correction.kind, correction.rule
    wrong = None
    if kind not in KINDS:
        wrong = f"kind {kind[:20]!r} is not one of {', '.join(KINDS)}"
    elif correction.correction_id < 1:
        wrong = f"correction_id is {correction.correction_id}; ids start at 1"
    elif (kind == RULE_CHANGE) != (rule is not None):
        wrong = "a rule change names a rule, nothing else does"
    elif rule is not None and rule not in scoring.RULES:
        wrong = f"rule {rule[:40]!r} is not one of {', '.join(sorted(scoring.RULES))}"
    elif kind == DELETION and correction.user_id is None:
        wrong = "a deletion names its user"
    elif kind == REMOVAL and correction.user_id is None and correction.quiz_id is None:
        wrong = "a removal names a user or a quiz"
    elif (kind == RETRACTION) != (correction.retracts is not None):
        wrong = "a retraction names the correction that it retracts, nothing else does"
    elif correction.retracts is not None and not 0 < correction.retracts < correction.correction_id:
        wrong = f"it retracts {correction.retracts}, which is not an earlier correction"
    elif (
        correction.from_us is not None
        and correction.to_us is not None
        and correction.from_us >= correction.to_us
    ):
        wrong = f"from_us {correction.from_us} is not before to_us {correction.to_us}"
    if wrong:
        raise BadInput("bad_event", f"{CORRECTION_TYPE}: {wrong}")
    return correction


def encode(correction: Correction) -> bytes:
    """The event's bytes, in the same form as an answer's. Raises BadInput(bad_event)."""
    return encode_fields(checked(correction))


def decode(data: bytes) -> Correction:
    """The correction in `data`. Raises BadInput(bad_event) naming the field."""
    return checked(Correction(**decode_fields(data, CORRECTION_FIELDS, CORRECTION_TYPE)))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a correction."""
    return schema_of(CORRECTION_TYPE, CORRECTION_FIELDS)


def covers(correction: Correction, answer: AnswerEvent) -> bool:
    """Whether an answer falls under a correction; bounds are half-open."""
    return (
        correction.quiz_id in (None, answer.quiz_id)
        and correction.user_id in (None, answer.user_id)
        and (correction.from_us is None or correction.from_us <= answer.occurred_at_us)
        and (correction.to_us is None or answer.occurred_at_us < correction.to_us)
    )


def holding(corrections: Iterable[Correction]) -> list[Correction]:
    """The rule changes and removals that still hold, in order of decision.

    A retraction takes back a rule change or a removal; a retraction is final (decide again to have the change again).
    """
    ordered = sorted(corrections, key=lambda one: one.correction_id)
    gone = {one.retracts for one in ordered if one.kind == RETRACTION}
    return [one for one in ordered if one.kind in (RULE_CHANGE, REMOVAL) and one.correction_id not in gone]


def points_under(corrections: Iterable[Correction], answer: AnswerEvent) -> int | None:
    """What an answer counts on boards: its stamped points, a changed rule's, or None where it was removed.

    A removal holds whatever rule comes after it. A deletion changes no points: it removes the user's mapping alone
    (CONTRACTS D7). corrections: any order.
    """
    rule: str | None = None
    for correction in holding(corrections):
        if not covers(correction, answer):
            continue
        if correction.kind == REMOVAL:
            return None
        rule = correction.rule
    if rule is None:
        return answer.points
    return scoring.points(rule, answer.correct, answer.elapsed_ms, answer.time_limit_ms)


assert tuple(f.name for f in fields(Correction)) == tuple(f.name for f in CORRECTION_FIELDS)
