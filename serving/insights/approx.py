"""Estimates over any range from the sketches of this process and, for what it keeps no longer, of the lake.

Counts read a few cells of each window; the other sketches are merged. Sixteen whole days in a row are merged once and
remembered, as are the newest whole ranges: a range of a year then merges some fifty sketches instead of 365.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from contracts.sketched import BY_KIND, DAY_US, Dimension, subject_of
from serving.insights.cover import Window
from serving.insights.sketch_store import Selection, SketchStore
from sketches import windows
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.estimates import Estimate
from sketches.frequent_items import FrequentItems, Heavy
from sketches.quantiles import Quantile, Quantiles

# Days in a block. Fewer: more merges of a long range; more: longer edges.
BLOCK_DAYS = 16
# Blocks and ranges that are remembered: three kinds of 25 blocks, and what dashboards ask for; a few MB at most.
MOST_REMEMBERED = 256
# Positions of keys: a tuple of five numbers each.
MOST_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class Count:
    """How often a key occurred. late: of it, answers that are in no sketch yet, by which upper is wider."""

    estimate: Estimate
    total: int
    late: int
    windows: int


@dataclass(frozen=True, slots=True)
class Quantized:
    """Quantiles of `count` values; late answers that are in no sketch have widened the intervals."""

    quantiles: list[Quantile]
    count: int
    late: int
    windows: int


@lru_cache(maxsize=MOST_KEYS)
def positions(kind: str, key: str) -> tuple[int, ...]:
    """Where a key's counters lie in the Count-Mins of a kind."""
    dimension = BY_KIND[kind]
    return cast(CountMin, windows.empty(dimension)).positions(dimension.subject, key)


class Approx:
    """What the routes ask. store: the replica's. Any thread may ask."""

    def __init__(self, store: SketchStore) -> None:
        self._store = store
        self._remembered: OrderedDict[Hashable, windows.Sketch] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, chosen: Selection, key: str, more: Sequence[windows.Sketch] = ()) -> Count:
        """How often `key` was missed. more: the Count-Mins of the windows that are missing here."""
        kind = chosen.dimension.kind
        at = positions(kind, key)
        with self._store.lock:
            sums, total = self._store.counts(kind, chosen.windows, at)
        for sketch in cast(Sequence[CountMin], more):
            counters = sketch.counters()
            sums = [one + int(counters[position]) for one, position in zip(sums, at, strict=True)]
            total += sketch.total
        sample = cast(CountMin, windows.empty(chosen.dimension))
        value, bound = min(sums), math.ceil(sample.epsilon * total)
        late = sum(
            not answer.correct and subject_of(answer, chosen.dimension.subject) == key
            for answer in chosen.late
        )
        estimate = Estimate(value, max(0, value - bound), value + late, bound + late, 1.0 - sample.delta)
        return Count(estimate, total, late, len(chosen.windows) + len(more))

    def heaviest(
        self, chosen: Selection, limit: int, more: Sequence[windows.Sketch] = ()
    ) -> tuple[list[Heavy], int, int]:
        """(the heaviest keys, total of all weights, windows). Late answers widen the upper bounds."""
        sketch = cast(FrequentItems, self._merged(chosen, more))
        subject = chosen.dimension.subject
        late = [subject_of(answer, subject) for answer in chosen.late if not answer.correct]
        found = []
        for heavy in sketch.heaviest(subject, limit):
            extra, one = late.count(heavy.key), heavy.estimate
            wider = Estimate(
                one.value, one.lower, one.upper + extra, max(one.bound, one.upper + extra - one.value), 1.0
            )
            found.append(Heavy(heavy.key, wider))
        return found, sketch.total, len(chosen.windows) + len(more)

    def distinct(self, chosen: Selection, more: Sequence[windows.Sketch] = ()) -> tuple[Estimate, int, int]:
        """(how many users answered, late answers in no sketch, windows)."""
        one = cast(Distinct, self._merged(chosen, more)).estimate()
        late = len({answer.user_id for answer in chosen.late})
        upper = one.upper + late
        wider = Estimate(one.value, one.lower, upper, max(one.bound, upper - one.value), one.confidence)
        return wider, late, len(chosen.windows) + len(more)

    def quantiles(
        self, chosen: Selection, ranks: Sequence[float], more: Sequence[windows.Sketch] = ()
    ) -> Quantized:
        """Quantiles of a value an answer; none where nobody answered."""
        sketch = cast(Quantiles, self._merged(chosen, more))
        count, late = sketch.count, len(chosen.late)
        share = late / (count + late) if late else 0.0
        # The library sorts a sketch when it is asked, and several may ask one that is remembered.
        with self._lock:
            asked = [
                tuple(sketch.quantile(min(1.0, max(0.0, at))) for at in (rank, rank - share, rank + share))
                for rank in ranks
            ]
        found = [
            Quantile(rank, one.value, low.lower, high.upper, one.confidence)
            for rank, (one, low, high) in zip(ranks, asked, strict=True)
            if one and low and high
        ]
        return Quantized(found, count, late, len(chosen.windows) + len(more))

    def _merged(self, chosen: Selection, more: Sequence[windows.Sketch]) -> windows.Sketch:
        """The range's sketches in one; not to be changed."""
        kind = chosen.dimension.kind
        blocks, rest = _blocks(chosen.windows)
        with self._store.lock:
            parts = [self._remember(chosen.dimension, block) for block in blocks]
            block_versions = tuple(
                offset for block in blocks for offset, _ in self._store.sketches(kind, block)
            )
            found = self._store.sketches(kind, rest)
        if more:
            return windows.merged(chosen.dimension, parts + [sketch for _, sketch in found] + list(more))
        versions = tuple(offset for offset, _ in found)
        return self._get(
            (kind, tuple(blocks), block_versions, rest, versions),
            lambda: windows.merged(chosen.dimension, parts + [sketch for _, sketch in found]),
        )

    def _remember(self, dimension: Dimension, block: tuple[Window, ...]) -> windows.Sketch:
        """A block's sketch, made anew when one of its days was written again."""
        found = self._store.sketches(dimension.kind, block)
        key = (dimension.kind, block, tuple(offset for offset, _ in found))
        return self._get(key, lambda: windows.merged(dimension, [sketch for _, sketch in found]))

    def _get(self, key: Hashable, make: Callable[[], windows.Sketch]) -> windows.Sketch:
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return self._remembered[key]
        made = make()
        with self._lock:
            self._remembered[key] = made
            while len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return made


def _blocks(chosen: Sequence[Window]) -> tuple[list[tuple[Window, ...]], tuple[Window, ...]]:
    """The days of the range in blocks of BLOCK_DAYS of the calendar, where all that were played are in it; and the rest."""
    days = sorted(start for level, start in chosen if level == "day")
    if not days:
        return [], tuple(chosen)
    length = BLOCK_DAYS * DAY_US
    first, last = days[0], days[-1] + DAY_US
    by_block: dict[int, list[Window]] = {}
    for start in days:
        block = start // length
        if first <= block * length and (block + 1) * length <= last:
            by_block.setdefault(block, []).append(("day", start))
    blocks = [tuple(block) for block in by_block.values()]
    inside = {window for block in blocks for window in block}
    return blocks, tuple(window for window in chosen if window not in inside)
