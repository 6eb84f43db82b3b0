"""The events: `answer.v1` and `barrier.v1`, as one UTF-8 JSON object each, built once and never re-encoded.

ANSWER_FIELDS is the one list of names, types and meanings; JSON Schema, Spark, Flink and Postgres definitions are
rendered from it as text (golden files hold them). `shard` and `seq` travel beside the bytes, never inside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from contracts.errors import BadInput

ANSWER_TYPE = "answer.v1"
BARRIER_TYPE = "barrier.v1"


class Field(NamedTuple):
    """One field of an event. kind: str, uuid, u32, i64, bool, strs, opt_str, opt_i64."""

    name: str
    kind: str
    doc: str


ANSWER_FIELDS: tuple[Field, ...] = (
    Field("event_id", "uuid", "UUIDv5 of (session_id, question_id, user_id)"),
    Field("origin", "str", "live or import"),
    Field("occurred_at_us", "i64", "when the server received it (import: the line's instant), UTC µs"),
    Field("user_id", "str", "who answered"),
    Field("user_no", "u32", "dense number of the user, for packing only"),
    Field("session_id", "str", "the game it belongs to"),
    Field("session_started_at_us", "i64", "anchor of the session's board, UTC µs"),
    Field("session_tick_ms", "u32", "tick of the session's board, ms"),
    Field("quiz_id", "str", "the session's quiz"),
    Field("quiz_zone", "str", "IANA zone of the quiz's boards"),
    Field("quiz_version", "u32", "version of the quiz that was played"),
    Field("question_id", "str", "the question"),
    Field("question_type", "str", "kind of question, or imported"),
    Field("skill_tags", "strs", "tags of the question"),
    Field("choice", "opt_str", "what was chosen, null if nothing or unknown"),
    Field("correct", "bool", "whether it was right"),
    Field("elapsed_ms", "i64", "time taken, ms, at least 0"),
    Field("time_limit_ms", "i64", "time allowed, ms, at least 1"),
    Field("rule", "str", "scoring rule, name@version"),
    Field("points", "u32", "points stamped by that rule, at most 2^31 - 1"),
)
BARRIER_FIELDS: tuple[Field, ...] = (
    Field("event_id", "uuid", "UUIDv5 of (zone, day, shard)"),
    Field("zone", "str", "IANA zone of the day"),
    Field("day", "str", "the day that has ended, YYYY-MM-DD"),
    Field("start_us", "i64", "first instant of the day, UTC µs"),
    Field("end_us", "i64", "first instant after the day, UTC µs"),
)
_JSON_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "uuid": {"type": "string", "format": "uuid"},
    "u32": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    "i64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "bool": {"type": "boolean"},
    "strs": {"type": "array", "items": {"type": "string"}},
    "opt_str": {"type": ["string", "null"]},
    "opt_i64": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
}
_SPARK = {
    "str": "STRING",
    "uuid": "STRING",
    "u32": "BIGINT",
    "i64": "BIGINT",
    "bool": "BOOLEAN",
    "strs": "ARRAY<STRING>",
    "opt_str": "STRING",
    "opt_i64": "BIGINT",
}
_FLINK = _SPARK
_POSTGRES = {
    "str": 'text COLLATE "C"',
    "uuid": "uuid",
    "u32": "bigint",
    "i64": "bigint",
    "bool": "boolean",
    "strs": "text[]",
    "opt_str": "text",
    "opt_i64": "bigint",
}


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """One counted answer, with the fields of ANSWER_FIELDS in their order."""

    event_id: str
    origin: str
    occurred_at_us: int
    user_id: str
    user_no: int
    session_id: str
    session_started_at_us: int
    session_tick_ms: int
    quiz_id: str
    quiz_zone: str
    quiz_version: int
    question_id: str
    question_type: str
    skill_tags: tuple[str, ...]
    choice: str | None
    correct: bool
    elapsed_ms: int
    time_limit_ms: int
    rule: str
    points: int


@dataclass(frozen=True, slots=True)
class BarrierEvent:
    """The end of one (zone, day) on one shard: what has a higher seq is late for that day."""

    event_id: str
    zone: str
    day: str
    start_us: int
    end_us: int


# asdict copies every value deeply: it was a third of an import's CPU.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode_fields(event: Any) -> bytes:
    """Compact JSON of a slotted dataclass, its fields in order, UTF-8."""
    return _ENCODER.encode({name: getattr(event, name) for name in event.__slots__}).encode()


def encode(event: AnswerEvent) -> bytes:
    """The event's bytes: compact JSON, fields in order, UTF-8."""
    return encode_fields(event)


def encode_barrier(event: BarrierEvent) -> bytes:
    """The barrier's bytes, in the same form as an answer's."""
    return encode_fields(event)


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "str":
            return isinstance(value, str)
        case "uuid":
            return isinstance(value, str) and len(value) == 36
        case "u32":
            return type(value) is int and 0 <= value < 2**32
        case "i64":
            return type(value) is int and -(2**63) <= value < 2**63
        case "bool":
            return isinstance(value, bool)
        case "strs":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "opt_str":
            return value is None or isinstance(value, str)
        case "opt_i64":
            return value is None or _fits(value, "i64")
    raise AssertionError(kind)


def decode_fields(data: bytes, schema: tuple[Field, ...], what: str) -> dict[str, Any]:
    """The values of `schema` in a JSON object, no more and no less. Raises BadInput(bad_event) naming the field."""
    try:
        document = json.loads(data)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_event", f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInput("bad_event", f"{what} must be an object, got {type(document).__name__}")
    wanted = {field.name for field in schema}
    if document.keys() != wanted:
        odd = sorted(document.keys() ^ wanted)
        raise BadInput("bad_event", f"{what}: fields missing or unknown: {', '.join(odd)[:200]}")
    for field in schema:
        if not _fits(document[field.name], field.kind):
            raise BadInput("bad_event", f"{what}: {field.name} does not fit {field.kind}")
    return document


def decode(data: bytes) -> AnswerEvent:
    """The answer in `data`. Raises BadInput(bad_event) naming the field; unknown fields are refused."""
    document = decode_fields(data, ANSWER_FIELDS, ANSWER_TYPE)
    if document["origin"] not in ("live", "import"):
        raise BadInput(
            "bad_event", f"{ANSWER_TYPE}: origin {document['origin'][:20]!r} is neither live nor import"
        )
    for name, least in (("elapsed_ms", 0), ("time_limit_ms", 1)):
        if document[name] < least:
            raise BadInput("bad_event", f"{ANSWER_TYPE}: {name} is below {least}")
    document["skill_tags"] = tuple(document["skill_tags"])
    return AnswerEvent(**document)


def decode_barrier(data: bytes) -> BarrierEvent:
    """The barrier in `data`. Raises BadInput(bad_event)."""
    return BarrierEvent(**decode_fields(data, BARRIER_FIELDS, BARRIER_TYPE))


def json_schema(kind: str = ANSWER_TYPE) -> dict[str, Any]:
    """JSON Schema (2020-12) of an answer or a barrier."""
    return schema_of(kind, ANSWER_FIELDS if kind == ANSWER_TYPE else BARRIER_FIELDS)


def schema_of(kind: str, schema: tuple[Field, ...]) -> dict[str, Any]:
    """JSON Schema (2020-12) of an event with these fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lakeboard:event:{kind}",
        "title": kind,
        "type": "object",
        "properties": {f.name: {**_JSON_TYPES[f.kind], "description": f.doc} for f in schema},
        "required": [f.name for f in schema],
        "additionalProperties": False,
    }


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def spark_columns(schema: tuple[Field, ...] = ANSWER_FIELDS) -> str:
    """Column list of an event for Spark SQL, one a line, with comments."""
    return ",\n".join(f"  {f.name} {_SPARK[f.kind]} COMMENT '{_quoted(f.doc)}'" for f in schema)


def spark_ddl(schema: tuple[Field, ...]) -> str:
    """An event as a Spark DDL schema string."""
    return ", ".join(f"{f.name} {_SPARK[f.kind]}" for f in schema)


def spark_schema() -> str:
    """The answer as a Spark DDL schema string, for from_json."""
    return spark_ddl(ANSWER_FIELDS)


def barrier_spark_schema() -> str:
    """The barrier as a Spark DDL schema string, for from_json."""
    return spark_ddl(BARRIER_FIELDS)


def flink_columns() -> str:
    """Column list of the answer for Flink SQL's JSON format."""
    return ",\n".join(f"  `{f.name}` {_FLINK[f.kind]}" for f in ANSWER_FIELDS)


def postgres_columns() -> str:
    """Nullable column list of the answer for Postgres (a barrier's row leaves them null), without event_id."""
    return ",\n".join(f"  {f.name} {_POSTGRES[f.kind]}" for f in ANSWER_FIELDS if f.name != "event_id")


assert tuple(f.name for f in fields(AnswerEvent)) == tuple(f.name for f in ANSWER_FIELDS)
assert tuple(f.name for f in fields(BarrierEvent)) == tuple(f.name for f in BARRIER_FIELDS)
