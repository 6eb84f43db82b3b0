"""What Spark takes for an event is what contracts.events takes for one; headers may lack, or be somebody else's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from contracts import events, names
from contracts.errors import BadInput
from tests.contracts.test_events import EXAMPLE

if TYPE_CHECKING:
    from tests.spark_jobs.conftest import Lake

pytestmark = pytest.mark.engine
GOOD = json.loads(events.encode(EXAMPLE))
BARRIER = json.loads(
    events.encode_barrier(
        events.BarrierEvent("0" * 36, "UTC", "2024-02-29", 1_709_164_800_000_000, 1_709_251_200_000_000)
    )
)
CHANGES: list[dict[str, Any]] = [
    {}, {"choice": None}, {"skill_tags": []}, {"elapsed_ms": 0}, {"points": 2**31 - 1}, {"user_no": 2**32 - 1},
    {"user_id": 5}, {"user_id": True}, {"user_id": None}, {"user_id": ["a"]}, {"rule": 1}, {"quiz_zone": {}},
    {"skill_tags": [1]}, {"skill_tags": [None]}, {"skill_tags": ["a", None]}, {"skill_tags": "food"},
    {"choice": 3}, {"choice": []}, {"correct": 1}, {"correct": "true"}, {"correct": None},
    {"points": 1.5}, {"points": 1.0}, {"points": "1"}, {"points": 2**32}, {"points": -1}, {"points": True},
    {"user_no": -1}, {"elapsed_ms": -1}, {"time_limit_ms": 0}, {"occurred_at_us": 2**63}, {"occurred_at_us": "1"},
    {"event_id": "x"}, {"origin": "elsewhere"}, {"extra": 1},
]  # fmt: skip
BODIES = [json.dumps({**GOOD, **change}).encode() for change in CHANGES] + [
    b"", b"nope", b"[1]", b"null", b"{}", b'"text"', events.encode(EXAMPLE)[:-1], events.encode(EXAMPLE) + b"}",
    events.encode(EXAMPLE) + b"," + events.encode(EXAMPLE), events.encode(EXAMPLE) + b" 1",
]  # fmt: skip


def headers_of(**values: Any) -> list[tuple[str, bytearray]]:
    return [(name, bytearray(str(value).encode())) for name, value in values.items()]


WHOLE = {names.HEADER_TYPE: events.ANSWER_TYPE, names.HEADER_SHARD: 0, names.HEADER_SEQ: 1}


def reasons(lake: Lake, records: list[tuple[bytes, list[tuple[str, bytearray]] | None]]) -> list[str | None]:
    """Why each record is refused, None where it is taken, in order."""
    from spark_jobs.ingest_answers import decode_records

    rows = [(0, number, bytearray(value), headers) for number, (value, headers) in enumerate(records)]
    columns = "partition INT, offset BIGINT, value BINARY, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
    decoded = decode_records(lake.spark.createDataFrame(rows, columns))
    return [row[0] for row in decoded.orderBy("kafka_offset").select("reason").collect()]


def taken(body: bytes) -> bool:
    try:
        events.decode(body)
    except BadInput:
        return False
    return True


def test_spark_takes_what_the_contract_takes(lake: Lake) -> None:
    found = reasons(lake, [(body, headers_of(**WHOLE)) for body in BODIES])
    expected = [taken(body) for body in BODIES]
    assert 6 == sum(expected)
    assert expected == [reason is None for reason in found], list(zip(BODIES, found, strict=True))


def test_a_barrier_is_held_to_its_schema_too(lake: Lake) -> None:
    headers = headers_of(**{**WHOLE, names.HEADER_TYPE: events.BARRIER_TYPE})
    bodies = [BARRIER, {**BARRIER, "zone": 1}, {**BARRIER, "day": "soon"}, {**BARRIER, "start_us": "1"}, GOOD]
    found = reasons(lake, [(json.dumps(body).encode(), headers) for body in bodies])
    assert [True, False, False, False, False] == [reason is None for reason in found]


def test_records_with_other_headers_are_dead_letters_and_stop_nothing(lake: Lake) -> None:
    body = events.encode(EXAMPLE)
    found = reasons(
        lake,
        [
            (body, None),
            (body, []),
            (body, headers_of(traceparent="00-1-2-01")),
            (body, headers_of(**{names.HEADER_TYPE: events.ANSWER_TYPE})),
            (body, headers_of(**{**WHOLE, names.HEADER_SEQ: "first"})),
            (body, headers_of(**{**WHOLE, names.HEADER_TYPE: "answer.v9"})),
            (body, headers_of(**WHOLE, traceparent="00-1-2-01")),
        ],
    )
    assert [True, True, True, True, True, True, False] == [bool(reason) for reason in found], found
