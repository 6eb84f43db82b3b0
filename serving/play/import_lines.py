"""An import request's lines: parsed, checked and sorted; pure. What is wrong with a line is a value, not a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from contracts import scoring
from contracts.errors import BadInput
from contracts.identity import import_id
from contracts.periods import zone_of

# Lines a request: at 500 a request takes about 50 ms; more would make a lane's retry longer.
LINES_MAX = 2_000
LINE_BYTES_MAX = 8_192
_TEXT_MAX = 1_000
_TAGS_MAX = 64
# A thousand days, and far below what a double or a bigint holds.
_DURATION_MAX_MS = 86_400_000_000


class ImportLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of POST /v1/import/answers. Instants are UTC µs; `session_started_at_us` is the session's anchor."""

    occurred_at_us: int
    user_id: str
    session_id: str
    quiz_id: str
    question_id: str
    correct: bool
    elapsed_ms: int
    session_started_at_us: int | None = None
    quiz_zone: str = "UTC"
    skill_tags: list[str] = []
    choice: str | None = None
    time_limit_ms: int = 60_000
    rule: str = scoring.DEFAULT_RULE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a line is refused: a code of contracts.errors and a sentence."""

    code: str
    detail: str


_DECODER = msgspec.json.Decoder(ImportLine)


def _text_fits(text: str, most: int = _TEXT_MAX) -> bool:
    # Postgres text cannot hold NUL: such a line would stop the relay for ever.
    return len(text) <= most and "\x00" not in text


def _check(line: ImportLine, now_us: int) -> None:
    if line.occurred_at_us > now_us:
        raise BadInput("future_time", f"occurred_at_us {line.occurred_at_us} is after the server's {now_us}")
    if line.occurred_at_us < 0:
        raise BadInput("invalid_field", f"occurred_at_us {line.occurred_at_us} is before 1970")
    if line.session_started_at_us is not None and not 0 <= line.session_started_at_us <= now_us:
        raise BadInput(
            "invalid_field", f"session_started_at_us {line.session_started_at_us} is not in 1970 … now"
        )
    if line.elapsed_ms > _DURATION_MAX_MS or line.time_limit_ms > _DURATION_MAX_MS:
        raise BadInput("invalid_field", f"elapsed_ms and time_limit_ms may be at most {_DURATION_MAX_MS}")
    ids = (line.user_id, line.session_id, line.quiz_id, line.question_id)
    if not all(text and len(text) <= _TEXT_MAX for text in ids):
        raise BadInput("invalid_id", f"an id must have 1 to {_TEXT_MAX} characters")
    if len(line.skill_tags) > _TAGS_MAX or not all(map(_text_fits, line.skill_tags)):
        raise BadInput(
            "invalid_field", f"skill_tags: at most {_TAGS_MAX} texts of {_TEXT_MAX} characters, no NUL"
        )
    if line.choice is not None and not _text_fits(line.choice):
        raise BadInput("invalid_field", f"choice: at most {_TEXT_MAX} characters, no NUL")
    if line.quiz_zone != "UTC":
        zone_of(line.quiz_zone)
    scoring.points(line.rule, line.correct, line.elapsed_ms, line.time_limit_ms)


def _code_of(error: msgspec.ValidationError) -> str:
    text = str(error)
    if "unknown field" in text:
        return "unknown_field"
    if "missing required field" in text:
        return "missing_field"
    return (
        "malformed_line"
        if text.startswith("Expected `object`, got") and "$." not in text
        else "invalid_field"
    )


def parse_line(raw: bytes, now_us: int) -> ImportLine | Refusal:
    """One line with its ids as they are kept, or why it is refused."""
    if len(raw) > LINE_BYTES_MAX:
        return Refusal("malformed_line", f"a line may have {LINE_BYTES_MAX} bytes, this has {len(raw)}")
    try:
        line = _DECODER.decode(raw)
        _check(line, now_us)
        line.user_id, line.session_id = import_id(line.user_id), import_id(line.session_id)
        line.quiz_id, line.question_id = import_id(line.quiz_id), import_id(line.question_id)
    except msgspec.ValidationError as error:
        return Refusal(_code_of(error), str(error)[:300])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return Refusal("malformed_line", str(error)[:300])
    except BadInput as error:
        return Refusal(error.code, error.detail)
    return line


def _arrival(line: ImportLine) -> tuple[object, ...]:
    return (
        line.occurred_at_us,
        line.session_id,
        line.question_id,
        line.user_id,
        line.elapsed_ms,
        line.correct,
    )


def parse(body: bytes, now_us: int) -> tuple[list[tuple[int, ImportLine]], dict[int, Refusal]]:
    """(number, line) in order of arrival (CONTRACTS A1), and refusals by number; numbers count lines from 1.

    Empty lines are passed over. Raises BadInput(body_too_large) above LINES_MAX lines: nothing was recorded.
    """
    raws: Sequence[bytes] = body.split(b"\n")
    if len(raws) > LINES_MAX + 1:
        raise BadInput("body_too_large", f"{len(raws)} lines; a request may have {LINES_MAX}", status=413)
    lines: list[tuple[int, ImportLine]] = []
    refusals: dict[int, Refusal] = {}
    for number, raw in enumerate(raws, 1):
        if not raw.strip():
            continue
        found = parse_line(raw, now_us)
        if isinstance(found, Refusal):
            refusals[number] = found
        else:
            lines.append((number, found))
    lines.sort(key=lambda item: _arrival(item[1]))
    return lines, refusals
