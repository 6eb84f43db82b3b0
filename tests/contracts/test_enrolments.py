"""Enrolments as events: their schema and bytes are fixed, what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import enrolments
from contracts.enrolments import Enrolment
from contracts.errors import BadInput

GOLDEN = Path(__file__).parent / "golden"
ONE = Enrolment(7, "enrolled", 1_700_000_000_000_001, "starter-a1", "u_8Zt")
BYTES = (
    b'{"enrolment_id":7,"kind":"enrolled","occurred_at_us":1700000000000001,"course_id":"starter-a1",'
    b'"user_id":"u_8Zt"}'
)


@pytest.mark.unit
def test_its_schema_and_bytes_are_fixed() -> None:
    assert json.loads((GOLDEN / "enrolment.v1.schema.json").read_text()) == enrolments.json_schema()
    assert BYTES == enrolments.encode(ONE)
    assert ONE == enrolments.decode(BYTES)


@pytest.mark.unit
@pytest.mark.parametrize(
    "wrong", [replace(ONE, kind="gone"), replace(ONE, enrolment_id=0), replace(ONE, occurred_at_us=-1)]
)
def test_what_does_not_fit_is_refused(wrong: Enrolment) -> None:
    with pytest.raises(BadInput, match="bad_event"):
        enrolments.encode(wrong)


@pytest.mark.unit
@pytest.mark.parametrize(
    "data", [b"", b"[]", BYTES.replace(b'"user_id":"u_8Zt"', b'"user_id":1'), BYTES[:-1] + b',"x":1}']
)
def test_bytes_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="bad_event"):
        enrolments.decode(data)
