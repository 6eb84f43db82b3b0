"""The Python functions of the Flink job: a window's counts in, the bytes of its Count-Min and its heaviest keys out.

SQL counts each key in the window and gathers `key:count` into one array; this runs once a window, since Python
once a row is 25 to 100 times slower. Zero counts are kept by SQL so that a window with play but without a miss
still has a (header-only) sketch: a reader can tell "none" from "not yet".
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from pyflink.table import DataTypes
from pyflink.table.udf import udf

from contracts.errors import BadInput
from sketches.count_min import CountMin

# What a dashboard shows of a window; each costs one row of the TSDB a minute.
HEAVIEST = 10


def parse_counts(counts: Sequence[str | None]) -> list[tuple[str, int]]:
    """(key, count) of each `key:count`; null entries are skipped.

    Raises BadInput(invalid_field) for an entry without a whole count: the SQL above is wrong.
    """
    parsed = []
    for entry in counts:
        if entry is None:
            continue
        key, _, count = entry.rpartition(":")
        if not key or not count.isdigit():
            raise BadInput("invalid_field", f"window entry {entry[:80]!r} is not key:count")
        parsed.append((key, int(count)))
    return parsed


def count_min_of(kind: str, counts: Sequence[str | None]) -> bytes:
    """Bytes of the Count-Min of one window. counts: `key:count`, each key once, any order."""
    sketch = CountMin.from_error()
    for key, count in parse_counts(counts):
        sketch.update(kind, key, count)
    return sketch.to_bytes()


@udf(result_type=DataTypes.STRING())
def build_count_min(kind: str, counts: Sequence[str | None]) -> str:
    """Base64 of `count_min_of`, for a JSON value."""
    return base64.b64encode(count_min_of(kind, counts)).decode("ascii")


def heaviest_of(counts: Sequence[str | None], limit: int = HEAVIEST) -> list[str]:
    """The keys with the greatest counts above 0, greatest first, equal ones by key."""
    found = [(key, count) for key, count in parse_counts(counts) if count]
    return [key for key, _ in sorted(found, key=lambda item: (-item[1], item[0]))[:limit]]


@udf(result_type=DataTypes.ARRAY(DataTypes.STRING()))
def heaviest_keys(counts: Sequence[str | None]) -> list[str]:
    """`heaviest_of` for SQL."""
    return heaviest_of(counts)
