"""Corrections: a round trip, what is refused, and which points an answer has under them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import correction_sql, corrections, scoring
from contracts.corrections import Correction
from contracts.errors import BadInput
from contracts.events import AnswerEvent
from tests.contracts.test_events import EXAMPLE

GOLDEN = Path(__file__).parent / "golden"
AT = EXAMPLE.occurred_at_us
some = st.none() | st.sampled_from(["quiz-1", "quiz-2"])
instants = st.none() | st.integers(AT - 2, AT + 2)


@st.composite
def decided(draw: st.DrawFn) -> Correction:
    """A correction that its kind allows, near the example answer."""
    kind = draw(st.sampled_from(corrections.KINDS))
    if kind == corrections.RETRACTION:
        number = draw(st.integers(2, 9))
        return Correction(number, kind, AT, "because", retracts=draw(st.integers(1, number - 1)))
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
    gone = [one.retracts for one in decisions if one.kind == "retraction"]
    for number in range(1, 10):
        for one in decisions:
            inside = (one.from_us is None or AT >= one.from_us) and (one.to_us is None or AT < one.to_us)
            of_it = one.quiz_id in (None, "quiz-1") and one.user_id in (None, "u1")
            if one.correction_id == number and number not in gone and inside and of_it:
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
        replace(CHANGE, retracts=1),
        replace(CHANGE, kind="retraction", rule=None),
        replace(CHANGE, kind="retraction", rule=None, retracts=1),
    ],
    ids=[
        "kind",
        "id",
        "no rule",
        "rule",
        "removal of all",
        "deletion of nobody",
        "empty span",
        "rule change that retracts",
        "retraction of nothing",
        "retraction of itself",
    ],
)
def test_what_its_kind_does_not_allow_is_refused(wrong: Correction) -> None:
    with pytest.raises(BadInput, match="bad_event"):
        corrections.encode(wrong)


@pytest.mark.unit
def test_its_schema_and_bytes_are_fixed() -> None:
    assert json.loads((GOLDEN / "correction.v1.schema.json").read_text()) == corrections.json_schema()
    assert (
        b'{"correction_id":1,"kind":"rule_change","decided_at_us":1700000000000001,"reason":"typo",'
        b'"quiz_id":"quiz-1","user_id":null,"from_us":null,"to_us":null,"rule":"correct@1",'
        b'"retracts":null}'
    ) == corrections.encode(CHANGE)


def _answers(count: int) -> list[AnswerEvent]:
    """Answers at the edges of the corrections' spans and of the rules."""
    rng = random.Random(5)
    limits = [(0, 60_000), (60_000, 60_000), (60_001, 60_000), (1, 3), (2, 3), (19_999, 20_000), (0, 1)]
    found = []
    for number in range(count):
        elapsed, limit = rng.choice([*limits, (rng.randrange(70_000), rng.randrange(1, 65_000))])
        found.append(
            replace(
                EXAMPLE,
                event_id=f"{number:036d}",
                quiz_id=rng.choice(["quiz-1", "quiz-2"]),
                user_id=rng.choice(["u1", "u2", "u3"]),
                occurred_at_us=AT + rng.randrange(-3, 4),
                correct=rng.random() < 0.7,
                elapsed_ms=elapsed,
                time_limit_ms=limit,
                points=rng.randrange(1_000),
            )
        )
    return found


@pytest.mark.property
@settings(deadline=None, max_examples=60)
@given(st.lists(decided(), max_size=6, unique_by=lambda one: one.correction_id))
def test_the_sql_copy_counts_as_python_does(decisions: list[Correction]) -> None:
    import duckdb
    import pyarrow as pa

    from lake.counted import count_answers

    answers = _answers(150)
    columns = (
        "event_id",
        "quiz_id",
        "user_id",
        "occurred_at_us",
        "correct",
        "elapsed_ms",
        "time_limit_ms",
        "points",
    )
    with duckdb.connect() as connection:
        connection.register(
            "answers",
            pa.Table.from_pylist([{name: getattr(one, name) for name in columns} for one in answers]),
        )
        count_answers(connection, decisions)
        found = dict(connection.execute("SELECT event_id, points FROM counted").fetchall())
    expected = {one.event_id: corrections.points_under(decisions, one) for one in answers}
    assert {key: value for key, value in expected.items() if value is not None} == found


@pytest.mark.unit
def test_too_many_corrections_are_refused_instead_of_planned() -> None:
    many = [replace(CHANGE, correction_id=number) for number in range(1, correction_sql.HOLDING_MAX + 2)]
    with pytest.raises(BadInput, match="too_many_corrections"):
        correction_sql.counted_points_sql(many)
