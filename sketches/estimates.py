"""What every sketch answers with: a value, the interval that the truth lies in, and how surely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """lower <= truth <= upper with probability at least `confidence`, for one figure asked for.

    bound: how far truth and `value` may lie apart, the wider side, in the unit of the value.
    Count-Min: truth <= value always, and value - bound <= truth at the confidence. Frequent items: always, both sides.
    """

    value: int
    lower: int
    upper: int
    bound: int
    confidence: float


def typed_key(kind: str, key: str) -> str:
    """`kind:key`. A bare key of digits is read as an integer by the library's Count-Min and then not found again."""
    return f"{kind}:{key}"
