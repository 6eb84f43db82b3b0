"""Quantiles: below which value a share of the values lies, sharpest at the upper end (p95, p99 of a time taken).

REQ in its high-rank mode (Cormode et al. 2021) of Apache DataSketches. Values are whole numbers from 0, such as
milliseconds. An estimate is a value that occurred; its interval holds the true quantile at CONFIDENCE.

Merging has a trap: after a merge the library may compact with a coin that was not drawn but is that of a new sketch,
always the same, and then errors of many merges add up on one side (60 to 400 parts: by up to 4 standard deviations near
p99). Bytes that are read get a coin that is drawn. So every merge here ends in writing and reading the sketch; errors are then
1.0 to 1.4 of the library's standard deviation, which is why the interval is three of them wide on each side.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from datasketches import req_ints_sketch

from contracts.errors import BadInput
from sketches.encoding import KIND_QUANTILES, Envelope, unwrap, wrap

# The library's default: 5 kB for 100,000 values, rank off by at most 1.7 % at p50 and 0.04 % at p99. Twice as large
# halves the error and doubles the bytes.
DEFAULT_K = 12
MIN_K, MAX_K = 4, 1024
# What a value of the library holds; a greater one counts as this, which moves no quantile below it.
MAX_VALUE = 2**31 - 1
# In the library's standard deviations, see above.
DEVIATIONS = 3
CONFIDENCE = 0.95
# k u16, high-rank mode u8, seed u64: the library draws coins of its own, so there is none.
_PARAMETERS = struct.Struct("<HBQ")
_HIGH_RANKS, _SEED = 1, 0


@dataclass(frozen=True, slots=True)
class Quantile:
    """lower <= truth <= upper with probability at least `confidence`; truth is the smallest value of that rank."""

    rank: float
    value: int
    lower: int
    upper: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Rank:
    """The share of values that are at most `value`: lower <= truth <= upper with probability at least `confidence`."""

    value: int
    rank: float
    lower: float
    upper: float
    confidence: float


class Quantiles:
    """A quantiles sketch with its size. Not safe for threads that use it together: the library sorts when it is read."""

    __slots__ = ("_sketch", "k")

    def __init__(self, sketch: req_ints_sketch, k: int) -> None:
        self._sketch = sketch
        self.k = k

    @classmethod
    def from_size(cls, k: int = DEFAULT_K) -> Quantiles:
        """An empty sketch. Raises BadInput(invalid_field) for an odd k or one outside MIN_K … MAX_K."""
        if not MIN_K <= k <= MAX_K or k % 2:
            raise BadInput("invalid_field", f"k {k} is not an even number in {MIN_K} … {MAX_K}")
        return cls(req_ints_sketch(k, True), k)

    @property
    def count(self) -> int:
        """How many values there were."""
        return int(self._sketch.n)

    def update(self, value: int) -> None:
        """Take in one value. Raises BadInput(invalid_field) for a negative one."""
        self.update_many((value,))

    def update_many(self, values: Iterable[int]) -> None:
        """Take in values, all or, where one is negative, none."""
        array = np.fromiter((min(value, MAX_VALUE) for value in values), dtype=np.int64)
        if not array.size:
            return
        if int(array.min()) < 0:
            raise BadInput("invalid_field", f"value {int(array.min())} is negative")
        self._sketch.update(array.astype(np.int32))

    def merge(self, other: Quantiles) -> None:
        """Add `other` to this one. Raises BadInput(bad_sketch) if the sizes differ.

        Cost: the sketch is written and read (see above), 20 µs. Many at once: `merged`.
        """
        if self.k != other.k:
            raise BadInput("bad_sketch", f"quantiles of size {self.k} and {other.k} are not merged")
        # The one with fewer values goes into the other one, and never a sketch into itself.
        self._sketch = _merged_pair(self._sketch, req_ints_sketch.deserialize(other._sketch.serialize()))

    def quantile(self, rank: float) -> Quantile | None:
        """The smallest value that a share `rank` of the values is at most; None without values.

        Raises BadInput(invalid_field) outside 0 … 1.
        """
        if not 0.0 <= rank <= 1.0:
            raise BadInput("invalid_field", f"rank {rank} is not in 0 … 1")
        sketch = self._sketch
        if sketch.is_empty():
            return None
        low = min(rank, max(0.0, sketch.get_rank_lower_bound(rank, DEVIATIONS)))
        high = max(rank, min(1.0, sketch.get_rank_upper_bound(rank, DEVIATIONS)))
        value, lower, upper = (int(sketch.get_quantile(at, True)) for at in (rank, low, high))
        return Quantile(rank, value, lower, upper, CONFIDENCE)

    def rank(self, value: int) -> Rank | None:
        """The share of values that are at most `value`; None without values."""
        sketch = self._sketch
        if sketch.is_empty():
            return None
        found = float(sketch.get_rank(max(-1, min(value, MAX_VALUE)), True))
        lower = max(0.0, float(sketch.get_rank_lower_bound(found, DEVIATIONS)))
        upper = min(1.0, float(sketch.get_rank_upper_bound(found, DEVIATIONS)))
        return Rank(value, found, min(found, lower), max(found, upper), CONFIDENCE)

    def to_bytes(self) -> bytes:
        """The sketch with its header. Two sketches of the same values differ in bytes."""
        parameters = _PARAMETERS.pack(self.k, _HIGH_RANKS, _SEED)
        return wrap(Envelope(KIND_QUANTILES, parameters, bytes(self._sketch.serialize())))

    @classmethod
    def from_bytes(cls, data: bytes) -> Quantiles:
        """The sketch in `data`. Raises BadInput(bad_sketch) if it is not one, or does not fit its header."""
        envelope = unwrap(data, KIND_QUANTILES)
        if len(envelope.parameters) != _PARAMETERS.size:
            raise BadInput(
                "bad_sketch", f"{len(envelope.parameters)} bytes of parameters, want {_PARAMETERS.size}"
            )
        k, high_ranks, seed = _PARAMETERS.unpack(envelope.parameters)
        if (high_ranks, seed) != (_HIGH_RANKS, _SEED) or not MIN_K <= k <= MAX_K:
            raise BadInput("bad_sketch", f"k {k}, mode {high_ranks}, seed {seed}: this code has other ones")
        try:
            sketch = req_ints_sketch.deserialize(envelope.payload)
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            raise BadInput("bad_sketch", f"the values cannot be read: {error}") from error
        if len(sketch.serialize()) != len(envelope.payload):
            raise BadInput("bad_sketch", "bytes behind the values")
        if sketch.k != k or not sketch.is_hra():
            raise BadInput("bad_sketch", f"values of size {sketch.k}, the header says {k}")
        return cls(sketch, k)


def _merged_pair(left: req_ints_sketch, right: req_ints_sketch) -> req_ints_sketch:
    """Both in one, with coins that are drawn; either may be changed."""
    larger, smaller = (left, right) if left.n >= right.n else (right, left)
    larger.merge(smaller)
    return req_ints_sketch.deserialize(larger.serialize())


def merged(sketches: Sequence[Quantiles]) -> Quantiles:
    """At least one sketch in one; pair by pair, so that a value passes log2(n) merges and not n.

    Raises BadInput(bad_sketch) if the sizes differ. The sketches stay as they are.
    """
    sizes = {sketch.k for sketch in sketches}
    if len(sizes) != 1:
        raise BadInput("bad_sketch", f"quantiles of sizes {sorted(sizes)} are not merged")
    level = [req_ints_sketch.deserialize(sketch._sketch.serialize()) for sketch in sketches]
    while len(level) > 1:
        pairs = [_merged_pair(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return Quantiles(level[0], min(sizes))
