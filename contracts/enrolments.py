"""Enrolments: who began or left a course, as events `enrolment.v1` of their own, with a dense id (as corrections have).

The record is Postgres' table `enrolments`, then Kafka's `enrolments.v1`, then the lake. Of one user and course the kinds
take turns, the first is `enrolled`, and instants rise with the ids: so a day's members are a sum.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from contracts.errors import BadInput
from contracts.events import Field, decode_fields, encode_fields, schema_of

ENROLMENT_TYPE = "enrolment.v1"
ENROLLED, LEFT = "enrolled", "left"
KINDS = (ENROLLED, LEFT)

ENROLMENT_FIELDS: tuple[Field, ...] = (
    Field("enrolment_id", "i64", "dense, from 1: the order in which they happened"),
    Field("kind", "str", "enrolled or left"),
    Field("occurred_at_us", "i64", "when, UTC µs"),
    Field("course_id", "str", "the course"),
    Field("user_id", "str", "who"),
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One enrolment or its end, with the fields of ENROLMENT_FIELDS in their order."""

    enrolment_id: int
    kind: str
    occurred_at_us: int
    course_id: str
    user_id: str


def checked(enrolment: Enrolment) -> Enrolment:
    """The event unchanged. Raises BadInput(bad_event)."""
    if enrolment.kind not in KINDS:
        raise BadInput(
            "bad_event", f"{ENROLMENT_TYPE}: kind {enrolment.kind[:20]!r} is none of {', '.join(KINDS)}"
        )
    if enrolment.enrolment_id < 1 or enrolment.occurred_at_us < 0:
        raise BadInput("bad_event", f"{ENROLMENT_TYPE}: ids start at 1, instants at 0")
    return enrolment


def encode(enrolment: Enrolment) -> bytes:
    """The event's bytes, in the same form as an answer's. Raises BadInput(bad_event)."""
    return encode_fields(checked(enrolment))


def decode(data: bytes) -> Enrolment:
    """The enrolment in `data`. Raises BadInput(bad_event) naming the field."""
    return checked(Enrolment(**decode_fields(data, ENROLMENT_FIELDS, ENROLMENT_TYPE)))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of an enrolment."""
    return schema_of(ENROLMENT_TYPE, ENROLMENT_FIELDS)


assert tuple(f.name for f in fields(Enrolment)) == tuple(f.name for f in ENROLMENT_FIELDS)
