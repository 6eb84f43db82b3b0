"""What OpenAPI says of a route's replies: an example of the good one, and the problem documents with their codes."""

from __future__ import annotations

from typing import Any

from contracts.errors import TITLES, LakeboardError, problem

MEDIA_TYPE = "application/problem+json"
Responses = dict[int | str, dict[str, Any]]


def documented(example: dict[str, Any], *, status: int = 200, **codes: str) -> Responses:
    """The `responses` of a route. codes: `s404="unknown_user not_found"` for each status it may answer with.

    Said or not, 422 has our form: FastAPI would put its own there. Raises KeyError for an unknown code.
    """
    codes.setdefault("s422", "invalid_field")
    found: Responses = {
        status: {"description": "Done", "content": {"application/json": {"example": example}}}
    }
    for name, texts in codes.items():
        number = int(name.removeprefix("s"))
        examples = {
            code: {"summary": TITLES[code], "value": problem(LakeboardError(code, "…", status=number))}
            for code in texts.split()
        }
        found[number] = {
            "description": f"Problem document (RFC 9457): {', '.join(examples)}",
            "content": {MEDIA_TYPE: {"examples": examples}},
        }
    return found
