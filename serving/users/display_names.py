"""The name that others see: what is taken of what somebody typed. Pure."""

from __future__ import annotations

from contracts.errors import BadInput

NAME_LENGTH = 24


def clean_name(name: str) -> str:
    """A name without control characters or outer blanks. Raises BadInput(invalid_field) if nothing is left."""
    found = " ".join("".join(c for c in name if c.isprintable()).split())
    if not found:
        raise BadInput("invalid_field", "name: write at least one letter")
    return found
