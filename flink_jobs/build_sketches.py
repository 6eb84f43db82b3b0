"""The Python functions of the Flink job: a window's counts in, the bytes of a sketch and its heaviest keys out.

SQL counts each key in the window and gathers `key:count` into one array; this runs once a sketch, since Python
once a row is 25 to 100 times slower. Which sketches there are: contracts/sketched.py; how they are made: sketches/windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, repeat

from pyflink.table import DataTypes
from pyflink.table.udf import udf

from contracts.errors import BadInput
from contracts.sketched import BY_KIND, COUNT_MIN, QUANTILES
from sketches import windows

# What a dashboard shows of a window; each costs one row of the TSDB a minute.
HEAVIEST = 10


def parse_counts(counts: Sequence[str | None]) -> Counter[str]:
    """key → count of the `key:count`; null entries are skipped, a key's counts are added up.

    Raises BadInput(invalid_field) for an entry without a whole count: the SQL is wrong.
    """
    parsed: Counter[str] = Counter()
    for entry in counts:
        if entry is None:
            continue
        key, _, count = entry.rpartition(":")
        if not key or not count.isdigit():
            raise BadInput("invalid_field", f"window entry {entry[:80]!r} is not key:count")
        parsed[key] += int(count)
    return parsed


def sketch_of(kind: str, counts: Sequence[str | None]) -> windows.Sketch:
    """The sketch of a dimension over one window. counts: `key:count`, of quantiles `value:count`, in any order."""
    dimension, parsed = BY_KIND[kind], parse_counts(counts)
    if dimension.sketch == QUANTILES:
        return windows.of_values(
            dimension, chain.from_iterable(repeat(int(value), count) for value, count in parsed.items())
        )
    return windows.of_counts(dimension, parsed)


@udf(result_type=DataTypes.STRING())
def build_sketch(kind: str, counts: Sequence[str | None]) -> str:
    """Base64 of `sketch_of`, for a JSON value."""
    return windows.as_text(sketch_of(kind, counts))


def heaviest_of(kind: str, counts: Sequence[str | None], limit: int = HEAVIEST) -> list[str]:
    """Of a Count-Min the keys with the greatest counts above 0, greatest first, equal ones by key; else none."""
    if BY_KIND[kind].sketch != COUNT_MIN:
        return []  # not None: an array inside the TaskManager's Python cannot be null
    found = [(key, count) for key, count in parse_counts(counts).items() if count]
    return [key for key, _ in sorted(found, key=lambda item: (-item[1], item[0]))[:limit]]


@udf(result_type=DataTypes.ARRAY(DataTypes.STRING()))
def heaviest_keys(kind: str, counts: Sequence[str | None]) -> list[str]:
    """`heaviest_of` for SQL."""
    return heaviest_of(kind, counts)
