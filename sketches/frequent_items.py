"""Frequent items: the heaviest keys of a stream and how often each occurred, between two bounds that always hold.

Misra-Gries counters as Apache DataSketches keeps them (Anderson et al. 2017): a map of at most 3/4 · 2^lg_size keys;
where it is full, the median count is taken off every key. So an estimate is off by at most 3.5 / 2^lg_size of the total
weight, merged or not, and no key heavier than that is missing. That is a good answer for skewed streams (words,
questions, quizzes) and none for near-uniform ones: there no key is heavier, so the list is empty of true heavy ones.
Merging is not associative to the byte; its bounds hold in any order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import cast

from datasketches import frequent_items_error_type, frequent_strings_sketch

from contracts.errors import BadInput
from sketches.encoding import KIND_FREQUENT_ITEMS, Envelope, unwrap, wrap
from sketches.estimates import Estimate, typed_key

# 1,536 keys, off by at most 0.17 % of the total: at most 40 kB of short keys. A step more halves the error and doubles
# the bytes of a full window.
DEFAULT_LG_SIZE = 11
MIN_LG_SIZE, MAX_LG_SIZE = 3, 20
# The library adds weights up in 64 bits without looking.
MAX_TOTAL = 2**63 - 1
# lg_size u8, seed u64: the library hashes with a constant of its own, named so that another one is told apart.
_PARAMETERS = struct.Struct("<BQ")
_SEED = 0
# Of the payload, by the format of DataSketches (frequent_items_sketch.hpp): the map's largest size.
_LG_SIZE_BYTE = 3


@dataclass(frozen=True, slots=True)
class Heavy:
    """One key of a kind and how often it occurred."""

    key: str
    estimate: Estimate


class FrequentItems:
    """A frequent-items sketch with its size. Not safe for threads that update it together."""

    __slots__ = ("_sketch", "lg_size")

    def __init__(self, sketch: frequent_strings_sketch, lg_size: int) -> None:
        self._sketch = sketch
        self.lg_size = lg_size

    @classmethod
    def from_size(cls, lg_size: int = DEFAULT_LG_SIZE) -> FrequentItems:
        """An empty sketch. Raises BadInput(invalid_field) outside MIN_LG_SIZE … MAX_LG_SIZE."""
        if not MIN_LG_SIZE <= lg_size <= MAX_LG_SIZE:
            raise BadInput("invalid_field", f"lg_size {lg_size} is not in {MIN_LG_SIZE} … {MAX_LG_SIZE}")
        return cls(frequent_strings_sketch(lg_size), lg_size)

    @property
    def total(self) -> int:
        """Sum of all weights."""
        return int(self._sketch.total_weight)

    @property
    def epsilon(self) -> float:
        """The error's largest share of the total."""
        return float(self._sketch.epsilon)

    def update(self, kind: str, key: str, weight: int = 1) -> None:
        """Count `key` of `kind`, `weight` times. Raises BadInput for a negative weight or a total above MAX_TOTAL."""
        if weight < 0:
            raise BadInput("invalid_field", f"weight {weight} is negative")
        if self.total + weight > MAX_TOTAL:
            raise BadInput("invalid_field", f"total {self.total} + {weight} passes {MAX_TOTAL}")
        if weight:
            self._sketch.update(typed_key(kind, key), weight)

    def merge(self, other: FrequentItems) -> None:
        """Add `other` to this one; the errors add up, never past ε of the total. Raises BadInput(bad_sketch)."""
        if self.lg_size != other.lg_size:
            raise BadInput("bad_sketch", "two frequent-items sketches of different sizes are not merged")
        if self.total + other.total > MAX_TOTAL:
            raise BadInput("invalid_field", f"total {self.total} + {other.total} passes {MAX_TOTAL}")
        if other is self:
            other = FrequentItems.from_bytes(self.to_bytes())
        self._sketch.merge(other._sketch)

    def estimate(self, kind: str, key: str) -> Estimate:
        """How often `key` of `kind` occurred; lower and upper always hold."""
        item = typed_key(kind, key)
        found = self._sketch
        return _estimate(
            int(found.get_estimate(item)), int(found.get_lower_bound(item)), int(found.get_upper_bound(item))
        )

    def heaviest(self, kind: str, limit: int) -> list[Heavy]:
        """The keys of `kind` with the greatest estimates, greatest first, equal ones by key; at most `limit`.

        Every key that occurred more often than ε · total is among the sketch's; what is listed may be too many.
        """
        rows = self._sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
        prefix = typed_key(kind, "")
        found = [
            Heavy(item.removeprefix(prefix), _estimate(value, lower, upper))
            for item, value, lower, upper in cast(list[tuple[str, int, int, int]], rows)
            if item.startswith(prefix)
        ]
        return sorted(found, key=lambda heavy: (-heavy.estimate.value, heavy.key))[:limit]

    def to_bytes(self) -> bytes:
        """The sketch with its header. Two sketches of the same stream in another order may differ in bytes."""
        parameters = _PARAMETERS.pack(self.lg_size, _SEED)
        return wrap(Envelope(KIND_FREQUENT_ITEMS, parameters, bytes(self._sketch.serialize())))

    @classmethod
    def from_bytes(cls, data: bytes) -> FrequentItems:
        """The sketch in `data`. Raises BadInput(bad_sketch) if it is not one, or does not fit its header."""
        envelope = unwrap(data, KIND_FREQUENT_ITEMS)
        if len(envelope.parameters) != _PARAMETERS.size:
            raise BadInput(
                "bad_sketch", f"{len(envelope.parameters)} bytes of parameters, want {_PARAMETERS.size}"
            )
        lg_size, seed = _PARAMETERS.unpack(envelope.parameters)
        if seed != _SEED or not MIN_LG_SIZE <= lg_size <= MAX_LG_SIZE:
            raise BadInput("bad_sketch", f"size {lg_size}, seed {seed}: this code has other ones")
        try:
            sketch = frequent_strings_sketch.deserialize(envelope.payload)
            found = envelope.payload[_LG_SIZE_BYTE]
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise BadInput("bad_sketch", f"the counters cannot be read: {error}") from error
        if sketch.get_serialized_size_bytes() != len(envelope.payload):
            raise BadInput("bad_sketch", "bytes behind the counters")
        if found != lg_size:
            raise BadInput("bad_sketch", f"counters of size {found}, the header says {lg_size}")
        return cls(sketch, lg_size)


def _estimate(value: int, lower: int, upper: int) -> Estimate:
    return Estimate(value, lower, upper, max(value - lower, upper - value), 1.0)
