"""Events: a round trip, what is refused, and the rendered schemas held by golden files."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import events
from contracts.errors import BadInput
from contracts.identity import barrier_id, event_id

GOLDEN = Path(__file__).parent / "golden"
text = st.text(max_size=20)
answers = st.builds(
    events.AnswerEvent,
    event_id=st.builds(event_id, text, text, text),
    origin=st.sampled_from(["live", "import"]),
    occurred_at_us=st.integers(-(2**63), 2**63 - 1),
    user_id=text,
    user_no=st.integers(0, 2**32 - 1),
    session_id=text,
    session_started_at_us=st.integers(-(2**63), 2**63 - 1),
    session_tick_ms=st.sampled_from([10, 1000]),
    quiz_id=text,
    quiz_zone=text,
    quiz_version=st.integers(0, 100),
    question_id=text,
    question_type=text,
    skill_tags=st.lists(text, max_size=3).map(tuple),
    choice=st.none() | text,
    correct=st.booleans(),
    elapsed_ms=st.integers(0, 2**40),
    time_limit_ms=st.integers(1, 2**40),
    rule=text,
    points=st.integers(0, 2**31 - 1),
)
EXAMPLE = events.AnswerEvent(
    event_id("s1", "q1", "u1"), "live", 1_700_000_000_000_001, "u1", 7, "s1", 1_700_000_000_000_000, 10, "quiz-1",
    "Europe/Paris", 1, "q1", "definition", ("food", "A1"), "apple", True, 1200, 20000, "speed@1", 970,
)  # fmt: skip


@pytest.mark.property
@given(answers)
def test_decode_returns_what_was_encoded(event: events.AnswerEvent) -> None:
    data = events.encode(event)
    assert events.decode(data) == event
    assert events.encode(events.decode(data)) == data
    jsonschema.validate(json.loads(data), events.json_schema())


@pytest.mark.property
@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_a_coded_error(data: bytes) -> None:
    with pytest.raises(BadInput, match="bad_event"):
        events.decode(data)


@pytest.mark.unit
@pytest.mark.parametrize(
    "change",
    [
        {"origin": "elsewhere"}, {"user_no": -1}, {"user_no": True}, {"points": 1.5}, {"elapsed_ms": -1},
        {"time_limit_ms": 0}, {"skill_tags": "food"}, {"choice": 3}, {"extra": 1}, {"event_id": "x"}, {"correct": 1},
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    document = {**json.loads(events.encode(EXAMPLE)), **change}
    with pytest.raises(BadInput, match="bad_event"):
        events.decode(json.dumps(document).encode())


@pytest.mark.unit
def test_a_missing_field_is_named() -> None:
    document = json.loads(events.encode(EXAMPLE))
    del document["quiz_zone"]
    with pytest.raises(BadInput, match="quiz_zone"):
        events.decode(json.dumps(document).encode())


@pytest.mark.unit
def test_a_barrier_survives_the_round_trip_and_is_no_answer() -> None:
    barrier = events.BarrierEvent(barrier_id("UTC", "2024-02-29", 1), "UTC", "2024-02-29", 1, 2)
    assert events.decode_barrier(events.encode_barrier(barrier)) == barrier
    with pytest.raises(BadInput):
        events.decode(events.encode_barrier(barrier))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        ("answer.v1.schema.json", json.dumps(events.json_schema(), indent=1, ensure_ascii=False)),
        (
            "barrier.v1.schema.json",
            json.dumps(events.json_schema(events.BARRIER_TYPE), indent=1, ensure_ascii=False),
        ),
        ("answer.spark.sql", events.spark_columns()),
        ("answer.flink.sql", events.flink_columns()),
        ("answer.postgres.sql", events.postgres_columns()),
        ("answer.json", events.encode(EXAMPLE).decode()),
    ],
)
def test_rendered_schemas_equal_their_golden_files(name: str, rendered: str) -> None:
    assert (GOLDEN / name).read_text() == rendered + "\n"
