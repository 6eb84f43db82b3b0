"""Count-Min: how often each key occurred, never too low, too high by at most a stated bound.

Plain Count-Min (Cormode & Muthukrishnan 2005), no conservative update: merged counters equal those of the whole
stream to the byte (CONTRACTS E3). With width ⌈e/ε⌉ and ⌈ln(1/δ)⌉ rows, an estimate exceeds the truth by more than
ε · total weight with probability at most δ. The hashing and the counters are Apache DataSketches'; this module
adds typed keys, the envelope of `sketches.encoding`, and a check that two sketches may be merged.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from datasketches import count_min_sketch

from contracts.errors import BadInput
from sketches.encoding import KIND_COUNT_MIN, Envelope, unwrap, wrap
from sketches.estimates import Estimate, typed_key

# ε 0.001, δ 0.01: 5 rows of 2,719 counters, 109 kB. Half the ε doubles the bytes of every window on the topic.
DEFAULT_EPSILON = 0.001
DEFAULT_DELTA = 0.01
DEFAULT_SEED = 9001
# DataSketches keeps counters as doubles: above 2^53 a step of one is lost, so "never too low" would be false.
MAX_TOTAL = 2**53
_PARAMETERS = struct.Struct("<ddIIQ")
# The library adds up num_hashes · num_buckets in 30 bits; far below it a sketch is already larger than any of ours.
_MAX_CELLS = 2**23
# Of a payload, by the format of DataSketches (count_min.hpp): the preamble alone, and it with the total weight.
_EMPTY_BYTES, _FULL_BYTES = 16, 24


class CountMin:
    """A Count-Min sketch with the parameters it was made from. Not safe for threads that update it together."""

    __slots__ = ("_sketch", "delta", "epsilon")

    def __init__(self, sketch: count_min_sketch, epsilon: float, delta: float) -> None:
        self._sketch = sketch
        self.epsilon = epsilon
        self.delta = delta

    @classmethod
    def from_error(
        cls, epsilon: float = DEFAULT_EPSILON, delta: float = DEFAULT_DELTA, *, seed: int = DEFAULT_SEED
    ) -> CountMin:
        """An empty sketch of that error. Raises BadInput(invalid_field) outside 0 < epsilon, delta < 1."""
        rows, width = _shape(epsilon, delta)
        return cls(count_min_sketch(rows, width, seed), epsilon, delta)

    @property
    def total(self) -> int:
        """Sum of all weights."""
        return int(self._sketch.total_weight)

    @property
    def seed(self) -> int:
        return int(self._sketch.seed)

    @property
    def bound(self) -> int:
        """ε · total, rounded up: how far an estimate may lie above the truth."""
        return math.ceil(self.epsilon * self.total)

    def update(self, kind: str, key: str, weight: int = 1) -> None:
        """Count `key` of `kind`, `weight` times. Raises BadInput for a negative weight or a total above 2^53."""
        if weight < 0:
            raise BadInput(
                "invalid_field", f"weight {weight} is negative: the estimate would fall below the truth"
            )
        if self.total + weight > MAX_TOTAL:
            raise BadInput("invalid_field", f"total {self.total} + {weight} passes {MAX_TOTAL}")
        if weight:
            self._sketch.update(typed_key(kind, key), float(weight))

    def merge(self, other: CountMin) -> None:
        """Add `other` to this one. Raises BadInput(bad_sketch) if width, rows, seed, ε or δ differ."""
        if self._header() != other._header():
            raise BadInput("bad_sketch", "two Count-Min sketches of different parameters cannot be merged")
        if self.total + other.total > MAX_TOTAL:
            raise BadInput("invalid_field", f"total {self.total} + {other.total} passes {MAX_TOTAL}")
        if other is self:  # the library refuses to merge a sketch with itself
            other = CountMin.from_bytes(self.to_bytes())
        self._sketch.merge(other._sketch)

    def estimate(self, kind: str, key: str) -> Estimate:
        """How often `key` of `kind` occurred: truth <= value always. bound = ε · total, rounded up; confidence = 1 - δ.

        Cost: one hash a row.
        """
        value = int(self._sketch.get_estimate(typed_key(kind, key)))
        bound = self.bound
        return Estimate(value, max(0, value - bound), value, bound, 1.0 - self.delta)

    def counters(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """All counters, row after row; those of merged sketches are sums of these."""
        data = bytes(self._sketch.serialize())
        if len(data) == _EMPTY_BYTES:
            return np.zeros(self._sketch.num_hashes * self._sketch.num_buckets)
        return np.frombuffer(data, dtype="<f8", offset=_FULL_BYTES)

    def positions(self, kind: str, key: str) -> tuple[int, ...]:
        """Where `counters` has those of a key, one a row; the least of them is the estimate.

        Found by counting the key alone, so that the library's hashing has no second copy here.
        """
        alone = CountMin.from_error(self.epsilon, self.delta, seed=self.seed)
        alone.update(kind, key)
        return tuple(int(at) for at in np.flatnonzero(alone.counters()))

    def _header(self) -> bytes:
        return _PARAMETERS.pack(
            self.epsilon, self.delta, self._sketch.num_hashes, self._sketch.num_buckets, self._sketch.seed
        )

    def to_bytes(self) -> bytes:
        """The sketch with its header; equal counters and parameters give equal bytes."""
        return wrap(Envelope(KIND_COUNT_MIN, self._header(), bytes(self._sketch.serialize())))

    @classmethod
    def from_bytes(cls, data: bytes) -> CountMin:
        """The sketch in `data`. Raises BadInput(bad_sketch) if it is not one, or its counters do not fit its header."""
        envelope = unwrap(data, KIND_COUNT_MIN)
        if len(envelope.parameters) != _PARAMETERS.size:
            raise BadInput(
                "bad_sketch", f"{len(envelope.parameters)} bytes of parameters, want {_PARAMETERS.size}"
            )
        epsilon, delta, rows, width, seed = _PARAMETERS.unpack(envelope.parameters)
        # The library reads on behind bytes that end too early.
        if len(envelope.payload) not in (_EMPTY_BYTES, _FULL_BYTES + 8 * rows * width):
            raise BadInput("bad_sketch", f"{len(envelope.payload)} bytes of counters for {rows} x {width}")
        try:
            expected = _shape(epsilon, delta)
            sketch = count_min_sketch.deserialize(envelope.payload)
        except (BadInput, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise BadInput("bad_sketch", f"the counters cannot be read: {error}") from error
        found = (sketch.num_hashes, sketch.num_buckets, sketch.seed)
        if found != (rows, width, seed) or (rows, width) != expected:
            raise BadInput(
                "bad_sketch", f"counters of shape and seed {found}, the header says {(rows, width, seed)}"
            )
        return cls(sketch, epsilon, delta)


def _shape(epsilon: float, delta: float) -> tuple[int, int]:
    """Rows and width of an error: ⌈ln(1/δ)⌉ and ⌈e/ε⌉; at least 1 row and 3 counters, as the library wants."""
    if not (0.0 < epsilon < 1.0 and 0.0 < delta < 1.0):
        raise BadInput("invalid_field", f"epsilon {epsilon} and delta {delta} must lie between 0 and 1")
    rows = max(1, math.ceil(math.log(1.0 / delta)))
    width = max(3, math.ceil(math.e / epsilon))
    if rows * width > _MAX_CELLS or rows > 127:
        raise BadInput("invalid_field", f"epsilon {epsilon}, delta {delta} need {rows} x {width} counters")
    return rows, width
