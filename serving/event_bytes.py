"""`answer.v1`'s bytes at a tenth of the time: every answer is encoded once by the api and read again by each sink.

The home is contracts/events.py, which may use the standard library alone. Made from its list of fields; a test holds both
to the same bytes, values and refusals (tests/serving/test_event_bytes.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec

from contracts.errors import BadInput
from contracts.events import ANSWER_FIELDS, ANSWER_TYPE, AnswerEvent

_KINDS: dict[str, Any] = {
    "str": str,
    "uuid": Annotated[str, msgspec.Meta(min_length=36, max_length=36)],
    "u32": Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)],
    "i64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "bool": bool,
    "strs": tuple[str, ...],
    "opt_str": str | None,
}
# What contracts.events.decode asks of a value beyond its kind.
_NARROWER: dict[str, Any] = {
    "origin": Literal["live", "import"],
    "elapsed_ms": Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)],
    "time_limit_ms": Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)],
}
_Answer = msgspec.defstruct(
    "_Answer",
    [(field.name, _NARROWER.get(field.name, _KINDS[field.kind])) for field in ANSWER_FIELDS],
    forbid_unknown_fields=True,
    frozen=True,
)
_DECODER = msgspec.json.Decoder(_Answer)
_ENCODER = msgspec.json.Encoder()


def encode(event: AnswerEvent) -> bytes:
    """The event's bytes: compact JSON, fields in order, UTF-8."""
    return _ENCODER.encode(event)


def decode(data: bytes) -> AnswerEvent:
    """The answer in `data`: an object with the attributes of an AnswerEvent. Raises BadInput(bad_event)."""
    try:
        return cast(AnswerEvent, _DECODER.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_event", f"{ANSWER_TYPE}: {error}"[:300]) from error


def values(event: AnswerEvent) -> tuple[Any, ...]:
    """The values of an event that `decode` gave, in the order of ANSWER_FIELDS."""
    return msgspec.structs.astuple(cast(msgspec.Struct, event))
