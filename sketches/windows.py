"""The sketch of one dimension over one window: made empty, filled, merged, written and read at that dimension's size.

Which dimensions there are, and their records, is contracts/sketched.py. Flink fills minutes from counts that SQL made;
the relay merges, and adds late answers one by one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

from contracts.errors import BadInput
from contracts.sketched import (
    COUNT_MIN,
    DISTINCT,
    FREQUENT_ITEMS,
    QUANTILES,
    Answered,
    Dimension,
    subject_of,
)
from sketches import distinct, quantiles
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles

Sketch = CountMin | FrequentItems | Quantiles | Distinct


class Answer(Answered, Protocol):
    """What is read of a late answer; contracts.events.AnswerEvent is one."""

    @property
    def correct(self) -> bool: ...
    @property
    def elapsed_ms(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def user_id(self) -> str: ...


def empty(dimension: Dimension) -> Sketch:
    """A sketch of the dimension's class and size without anything in it."""
    if dimension.sketch == COUNT_MIN:
        return CountMin.from_error(dimension.epsilon)
    if dimension.sketch == FREQUENT_ITEMS:
        return FrequentItems.from_size()
    if dimension.sketch == QUANTILES:
        return Quantiles.from_size()
    assert dimension.sketch == DISTINCT, dimension
    return Distinct.from_size()


def read(dimension: Dimension, data: bytes) -> Sketch:
    """The sketch in `data`. Raises BadInput(bad_sketch) if it is not one of the dimension's class and size."""
    readers = {
        COUNT_MIN: CountMin.from_bytes,
        FREQUENT_ITEMS: FrequentItems.from_bytes,
        QUANTILES: Quantiles.from_bytes,
        DISTINCT: Distinct.from_bytes,
    }
    sketch = cast(Sketch, readers[dimension.sketch](data))
    if _size(sketch) != _size(empty(dimension)):
        raise BadInput(
            "bad_sketch", f"{dimension.kind}: size {_size(sketch)}, wanted {_size(empty(dimension))}"
        )
    return sketch


def _size(sketch: Sketch) -> tuple[float, ...]:
    if isinstance(sketch, CountMin):
        return (sketch.epsilon, sketch.delta, sketch.seed)
    return (sketch.k,) if isinstance(sketch, Quantiles) else (sketch.lg_size,)


def as_text(sketch: Sketch) -> str:
    """Base64 of the bytes, for a JSON value."""
    return base64.b64encode(sketch.to_bytes()).decode("ascii")


def from_text(dimension: Dimension, text: str) -> Sketch:
    """`as_text` backwards. Raises BadInput(bad_sketch)."""
    try:
        # Not validated letter by letter, which takes ten times as long: the envelope has a checksum.
        data = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise BadInput("bad_sketch", f"{dimension.kind}: the bytes are not base64") from error
    return read(dimension, data)


def of_counts(dimension: Dimension, counts: Mapping[str, int]) -> Sketch:
    """The sketch of a window's counts by key, for Count-Min and frequent items; for users the counts do not matter."""
    sketch = empty(dimension)
    for key, count in counts.items():
        if isinstance(sketch, Distinct):
            sketch.update(dimension.subject, key)
        else:
            assert isinstance(sketch, CountMin | FrequentItems), dimension
            sketch.update(dimension.subject, key, count)
    return sketch


def of_values(dimension: Dimension, values: Iterable[int]) -> Sketch:
    """The sketch of a window's values, one an answer. Raises BadInput(invalid_field) for a negative one."""
    sketch = empty(dimension)
    assert isinstance(sketch, Quantiles), dimension
    sketch.update_many(values)
    return sketch


def add(dimension: Dimension, sketch: Sketch, answers: Iterable[Answer]) -> None:
    """Take in answers one by one: what Flink's SQL counts, for the few that came late."""
    for answer in answers:
        if isinstance(sketch, Quantiles):
            # A clock that went back counts as 0.
            sketch.update(answer.points if dimension.measure == "points" else max(0, answer.elapsed_ms))
        elif isinstance(sketch, Distinct):
            sketch.update(dimension.subject, answer.user_id)
        elif not answer.correct and (key := subject_of(answer, dimension.subject)) is not None:
            sketch.update(dimension.subject, key)


def merged(dimension: Dimension, sketches: Sequence[Sketch]) -> Sketch:
    """Any number of a dimension's sketches in a new one; they stay as they are."""
    if not sketches:
        return empty(dimension)
    if dimension.sketch == QUANTILES:
        return quantiles.merged(cast(Sequence[Quantiles], sketches))
    if dimension.sketch == DISTINCT:
        return distinct.merged(cast(list[Distinct], list(sketches)))
    whole = empty(dimension)
    for sketch in sketches:
        # One class a dimension, which the type checker cannot see.
        cast(CountMin, whole).merge(cast(CountMin, sketch))
    return whole
