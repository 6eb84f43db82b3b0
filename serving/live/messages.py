"""Messages of the play socket: JSON, one object a frame, field `type` says which; unknown fields are refused."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from contracts.errors import BadInput, LakeboardError, problem

# Close codes, in the range that applications may use.
CLOSE_UNAUTHENTICATED = 4401
CLOSE_UNKNOWN_SESSION = 4404
CLOSE_SLOW = 4408

_Short = Annotated[str, msgspec.Meta(max_length=64)]


class AnswerMessage(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="answer"):
    """A player's answer; `ref` comes back with the result and is stored nowhere."""

    question_id: _Short
    choice: Annotated[str, msgspec.Meta(max_length=200)]
    ref: _Short = ""


class PingMessage(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="ping"):
    """Asks for a `pong`, so that a client sees a dead line before the next question."""

    ref: _Short = ""


_DECODER = msgspec.json.Decoder(AnswerMessage | PingMessage)


def decode(frame: str | bytes) -> AnswerMessage | PingMessage:
    """The message in a frame. Raises BadInput: malformed_body, unknown_field, missing_field or invalid_field."""
    try:
        return _DECODER.decode(frame)
    except msgspec.ValidationError as error:
        text = str(error)
        if "unknown field" in text:
            code = "unknown_field"
        elif "missing required field" in text:
            code = "missing_field"
        else:
            code = "invalid_field"
        raise BadInput(code, text[:200]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("malformed_body", f"the frame is not JSON: {error}"[:200], status=400) from error


def encode(message: dict[str, Any]) -> str:
    """A message's frame; a push is encoded once for all its receivers."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def error_message(error: LakeboardError, ref: str = "") -> dict[str, Any]:
    """An error as a message: the problem document, with the `ref` it answers."""
    return {**problem(error), "type": "error", "ref": ref}
