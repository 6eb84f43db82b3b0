"""Corrections: a round trip, what is refused, and which points an answer has under them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import corrections, scoring
from contracts.corrections import Correction
from contracts.errors import BadInput
from tests.contracts.test_events import EXAMPLE

GOLDEN = Path(__file__).parent / "golden"
AT = EXAMPLE.occurred_at_us
some = st.none() | st.sampled_from(["quiz-1", "quiz-2"])
instants = st.none() | st.integers(AT - 2, AT + 2)


@st.composite
def decided(draw: st.DrawFn) -> Correction:
    """A correction that its kind allows, near the example answer."""
    kind = draw(st.sampled_from(corrections.KINDS))
    low, high = draw(instants), draw(instants)
    if low is not None and high is not None and low >= high:
        low = None
    user = draw(st.sampled_from(["u1", "u2"])) if kind != corrections.RULE_CHANGE else None
    rule = draw(st.sampled_from(sorted(scoring.RULES))) if kind == corrections.RULE_CHANGE else None
    number = draw(st.integers(1, 9))
    return Correction(number, kind, AT, "because", draw(some), user, low, high, rule)


@pytest.mark.property
@given(decided())
def test_decode_returns_what_was_encoded(correction: Correction) -> None:
    data = corrections.encode(correction)
    assert correction == corrections.decode(data)
    jsonschema.validate(json.loads(data), corrections.json_schema())


@pytest.mark.property
@given(st.lists(decided(), max_size=6, unique_by=lambda one: one.correction_id))
def test_points_are_those_of_a_slow_obvious_model(decisions: list[Correction]) -> None:
    removed, rule = False, None
    for number in range(1, 10):
        for one in decisions:
            inside = (one.from_us is None or AT >= one.from_us) and (one.to_us is None or AT < one.to_us)
            of_it = one.quiz_id in (None, "quiz-1") and one.user_id in (None, "u1")
            if one.correction_id == number and inside and of_it:
                removed = removed or one.kind == "removal"
                rule = one.rule or rule
    expected: int | None = EXAMPLE.points
    if rule:
        expected = 1 if rule == "correct@1" else 500 + 500 * (20_000 - 1_200) // 20_000
    assert (None if removed else expected) == corrections.points_under(decisions, EXAMPLE)


CHANGE = Correction(1, "rule_change", AT, "typo", quiz_id="quiz-1", rule="correct@1")


@pytest.mark.unit
@pytest.mark.parametrize(
    "wrong",
    [
        replace(CHANGE, kind="whim"),
        replace(CHANGE, correction_id=0),
        replace(CHANGE, rule=None),
        replace(CHANGE, rule="luck@1"),
        replace(CHANGE, kind="removal", rule=None, quiz_id=None),
        replace(CHANGE, kind="deletion", rule=None),
        replace(CHANGE, from_us=5, to_us=5),
    ],
    ids=["kind", "id", "no rule", "rule", "removal of all", "deletion of nobody", "empty span"],
)
def test_what_its_kind_does_not_allow_is_refused(wrong: Correction) -> None:
    with pytest.raises(BadInput, match="bad_event"):
        corrections.encode(wrong)


@pytest.mark.unit
def test_its_schema_and_bytes_are_fixed() -> None:
    assert json.loads((GOLDEN / "correction.v1.schema.json").read_text()) == corrections.json_schema()
    assert (
        b'{"correction_id":1,"kind":"rule_change","decided_at_us":1700000000000001,"reason":"typo",'
        b'"quiz_id":"quiz-1","user_id":null,"from_us":null,"to_us":null,"rule":"correct@1"}'
    ) == corrections.encode(CHANGE)
