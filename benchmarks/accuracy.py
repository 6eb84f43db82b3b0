"""How near the sketches come, how large they are and how long they take, beside exact counting in the same run.

    ./lakeboard bench accuracy [--events 400000 --answers ednet_answers.csv.gz] [--write]

Streams: keys of Zipf's law with exponents 0.8 to 1.4, near-uniform keys, and real answers (EdNet) where the file is there.
Every sketch is made as the system makes it: minutes, merged. A row a sketch and stream: estimates (at least 1,000), the share
of them whose interval holds the truth, errors, bytes, update and merge times, and the same for what one would use instead: a
Counter, a set, the sorted values. `--write` puts docs/accuracy.md and its picture in place. Prints one JSON document.

Claim: the share inside is at least the stated confidence in every row (`all_within_bounds`).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.reports.accuracy import write_report
from contracts.sampling import CONFIDENCE, bound_of, bucket, scaled
from contracts.sketched import BY_KIND
from sketches import windows
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles

_SHOW = Console(stderr=True)
ROOT = Path(__file__).resolve().parents[1]
EDNET = ROOT.parent / "shared" / "data" / "ednet_answers.csv.gz"
SKEWS = (0.8, 1.0, 1.2, 1.4)
KEYS = 50_000
PARTS = 60
ESTIMATES = 1_000
TOP = 100
RANKS = (0.05, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999)
COUNT_MIN, HEAVY, USERS, TIMES = (
    BY_KIND[kind] for kind in ("missed_words", "heavy_words", "participants", "elapsed_ms")
)


@dataclass(frozen=True)
class Stream:
    """Keys in order of arrival, and the values (ms) of the same answers."""

    name: str
    keys: list[str]
    values: list[int]


def streams(args: argparse.Namespace) -> list[Stream]:
    rng = np.random.default_rng(args.seed)
    found = []
    for skew in (*SKEWS, 0.05):
        weights = 1.0 / np.arange(1, KEYS + 1) ** skew
        numbers = rng.choice(KEYS, args.events, p=weights / weights.sum())
        values = rng.lognormal(8.5, 0.4 + skew / 2, args.events).astype(int)
        name = "near-uniform" if skew < 0.1 else f"zipf {skew:g}"
        found.append(Stream(name, [f"k{number}" for number in numbers], values.tolist()))
    if args.answers.exists():
        with gzip.open(args.answers, "rt", encoding="utf-8") as file:
            rows = [(row["question_id"], int(row["elapsed_ms"])) for row in csv.DictReader(file)]
        found.append(Stream("EdNet questions", [key for key, _ in rows], [value for _, value in rows]))
    else:
        _SHOW.print(f"{args.answers} is not there: no row of real data")
    return found


def parts_of(items: Sequence[Any]) -> list[Sequence[Any]]:
    size = math.ceil(len(items) / PARTS)
    return [items[at : at + size] for at in range(0, len(items), size)]


def exact(keys: Sequence[str]) -> dict[str, float]:
    """A Counter of the whole: seconds an update, and bytes of what it holds."""
    began = time.process_time()
    counts: Counter[str] = Counter()
    for key in keys:
        counts[key] += 1
    took = time.process_time() - began
    size = sys.getsizeof(counts) + sum(sys.getsizeof(key) + 32 for key in counts)
    return {"bytes": size, "update_ns": took / len(keys) * 1e9}


def row(
    name: str,
    stream: str,
    sketch: Any,
    inside: list[bool],
    confidence: float,
    errors: list[float],
    **more: Any,
) -> dict[str, Any]:
    """One row. errors: |estimate − truth|, in the unit of the figure."""
    share = sum(inside) / len(inside)
    ordered = sorted(errors)
    return {
        "sketch": name,
        "stream": stream,
        "estimates": len(inside),
        "within": round(share, 4),
        "confidence": confidence,
        "holds": share >= confidence,
        "error_p50": round(ordered[len(ordered) // 2], 4),
        "error_p99": round(ordered[int(len(ordered) * 0.99)], 4),
        "error_max": round(ordered[-1], 4),
        "bytes": len(sketch.to_bytes()) if sketch is not None else 0,
        **more,
    }


def built(dimension: Any, stream: Stream) -> tuple[Any, float, float]:
    """(the day, ns an update, µs a merge) of a stream in minutes, each answer an update."""
    made, began = [], time.process_time()
    for part in parts_of(stream.keys):
        sketch = windows.empty(dimension)
        for key in part:
            sketch.update("word", key)  # type: ignore[call-arg, arg-type]
        made.append(sketch)
    update_ns = (time.process_time() - began) / len(stream.keys) * 1e9
    began = time.process_time()
    whole = windows.merged(dimension, made)
    return whole, update_ns, (time.process_time() - began) / len(made) * 1e6


def asked(truth: Counter[str]) -> list[str]:
    """At least ESTIMATES keys: the heaviest, evenly many of the others, and some that never came."""
    ordered = [key for key, _ in truth.most_common()]
    others = ordered[TOP :: max(1, len(ordered) // ESTIMATES)]
    return ordered[:TOP] + others + [f"absent{number}" for number in range(max(100, ESTIMATES - len(others)))]


def count_min(stream: Stream, truth: Counter[str]) -> dict[str, Any]:
    sketch, update_ns, merge_us = built(COUNT_MIN, stream)
    assert isinstance(sketch, CountMin)
    found = {key: sketch.estimate("word", key) for key in asked(truth)}
    inside = [one.lower <= truth[key] <= one.upper for key, one in found.items()]
    errors = [float(one.value - truth[key]) for key, one in found.items()]
    than = exact(stream.keys)
    return row(
        "count_min",
        stream.name,
        sketch,
        inside,
        1 - sketch.delta,
        errors,
        bound=sketch.bound,
        update_ns=round(update_ns),
        merge_us=round(merge_us, 1),
        exact_bytes=int(than["bytes"]),
        exact_update_ns=round(than["update_ns"]),
        bytes_ratio=round(len(sketch.to_bytes()) / than["bytes"], 4),
        update_ratio=round(update_ns / than["update_ns"], 2),
        plotted=[[truth[key], one.value - truth[key]] for key, one in found.items()],
    )


def frequent(stream: Stream, truth: Counter[str]) -> dict[str, Any]:
    sketch, update_ns, merge_us = built(HEAVY, stream)
    assert isinstance(sketch, FrequentItems)
    found = {key: sketch.estimate("word", key) for key in asked(truth)}
    inside = [one.lower <= truth[key] <= one.upper for key, one in found.items()]
    errors = [float(abs(one.value - truth[key])) for key, one in found.items()]
    than, top = exact(stream.keys), {key for key, _ in truth.most_common(TOP)}
    # Found is what the sketch can name with certainty: a lower bound above the greatest error.
    sure = {
        one.key for one in sketch.heaviest("word", TOP) if one.estimate.lower > sketch.epsilon * sketch.total
    }
    return row(
        "frequent_items",
        stream.name,
        sketch,
        inside,
        1.0,
        errors,
        bound=int(sketch.epsilon * sketch.total),
        recall_top=round(len(top & {one.key for one in sketch.heaviest("word", TOP)}) / TOP, 2),
        sure_top=round(len(top & sure) / TOP, 2),
        update_ns=round(update_ns),
        merge_us=round(merge_us, 1),
        exact_bytes=int(than["bytes"]),
        exact_update_ns=round(than["update_ns"]),
        bytes_ratio=round(len(sketch.to_bytes()) / than["bytes"], 4),
        update_ratio=round(update_ns / than["update_ns"], 2),
    )


def distinct(stream: Stream, seed: int) -> dict[str, Any]:
    """Windows of the stream of random lengths, each merged from four parts; keys as users."""
    rng = np.random.default_rng(seed)
    inside, errors, updates, merges, sketch = [], [], 0, 0.0, Distinct.from_size()
    most: list[str] = []
    began = spent = 0.0
    for _ in range(ESTIMATES):
        length = int(10 ** rng.uniform(2, 4))
        at = int(rng.integers(0, len(stream.keys) - length))
        keys = stream.keys[at : at + length]
        made = []
        began = time.process_time()
        for part in (keys[one::4] for one in range(4)):
            one = Distinct.from_size()
            for key in part:
                one.update("user", key)
            made.append(one)
        spent += time.process_time() - began
        updates += length
        began = time.process_time()
        whole = windows.merged(USERS, made)
        merges += time.process_time() - began
        assert isinstance(whole, Distinct)
        truth, found = len(set(keys)), whole.estimate()
        inside.append(found.lower <= truth <= found.upper)
        errors.append(abs(found.value / truth - 1))
        if length > len(most):
            sketch, most = whole, keys
    # Of the same, longest window; again and again, as one is soon done.
    began = time.process_time()
    for _ in range(50):
        there = set()
        for key in most:
            there.add(key)
    set_ns = (time.process_time() - began) / 50 / len(most) * 1e9
    size = sys.getsizeof(there) + sum(map(sys.getsizeof, there))
    update_ns = spent / updates * 1e9
    return row(
        "distinct",
        stream.name,
        sketch,
        inside,
        0.95,
        errors,
        update_ns=round(update_ns),
        merge_us=round(merges / ESTIMATES / 4 * 1e6, 1),
        exact_bytes=size,
        exact_update_ns=round(set_ns),
        bytes_ratio=round(len(sketch.to_bytes()) / size, 4),
        update_ratio=round(update_ns / set_ns, 2),
    )


def quantiles(stream: Stream, seed: int) -> dict[str, Any]:
    """Random stretches of the values, each in 60 merged parts; errors are of ranks."""
    rng = np.random.default_rng(seed)
    values = np.array(stream.values)
    inside, errors, spent, merges, updates, sketch = [], [], 0.0, 0.0, 0, Quantiles.from_size()
    most = values[:0]
    trials = math.ceil(ESTIMATES / len(RANKS))
    for _ in range(trials):
        length = int(10 ** rng.uniform(3, 4.5))
        at = int(rng.integers(0, max(1, len(values) - length)))
        here = values[at : at + length]
        began = time.process_time()
        made = [windows.of_values(TIMES, part) for part in parts_of(here.tolist())]
        spent += time.process_time() - began
        updates += len(here)
        began = time.process_time()
        whole = windows.merged(TIMES, made)
        merges += time.process_time() - began
        assert isinstance(whole, Quantiles)
        ordered = np.sort(here)
        for rank in RANKS:
            found = whole.quantile(rank)
            assert found is not None
            truth = int(ordered[max(0, math.ceil(rank * len(ordered)) - 1)])
            inside.append(found.lower <= truth <= found.upper)
            low, high = (
                np.searchsorted(ordered, found.value, side) / len(ordered) for side in ("left", "right")
            )
            errors.append(float(max(0.0, low - rank, rank - high)))
        if length > len(most):
            sketch, most = whole, here
    began = time.process_time()
    for _ in range(50):
        size = np.sort(most).nbytes
    sort_ns = (time.process_time() - began) / 50 / len(most) * 1e9
    update_ns = spent / updates * 1e9
    return row(
        "quantiles",
        stream.name,
        sketch,
        inside,
        0.95,
        errors,
        update_ns=round(update_ns),
        merge_us=round(merges / trials / PARTS * 1e6, 1),
        exact_bytes=size,
        exact_update_ns=round(sort_ns),
        bytes_ratio=round(len(sketch.to_bytes()) / size, 4),
        update_ratio=round(update_ns / sort_ns, 2),
    )


def sample(seed: int) -> dict[str, Any]:
    """`accuracy=fast`: users of a board are any part of the numbers given out; how many there are, from bucket 0."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(1, 400_001, dtype=np.uint64)
    first = np.array([bucket(int(number)) == 0 for number in numbers])
    inside, errors = [], []
    for _ in range(ESTIMATES):
        there = rng.random(len(numbers)) < 10 ** rng.uniform(-3, 0)
        truth, counted = int(there.sum()), int((there & first).sum())
        inside.append(abs(scaled(counted) - truth) <= bound_of(counted))
        errors.append(abs(scaled(counted) / max(1, truth) - 1))
    return row("sample_1_in_64", "boards of 400 to 400,000 users", None, inside, CONFIDENCE, errors)


def wrong_tool(args: argparse.Namespace) -> dict[str, Any]:
    """Frequent items over users' totals of points: near-uniform, so nobody is heavy and the top 100 are not found."""
    rng = np.random.default_rng(args.seed)
    totals = rng.integers(4_000, 6_000, 20_000)
    sketch = FrequentItems.from_size()
    for user, points in enumerate(totals.tolist()):
        sketch.update("user", str(user), points)
    top = {str(user) for user in np.argsort(-totals, kind="stable")[:TOP]}
    sure = [
        one.key for one in sketch.heaviest("user", TOP) if one.estimate.lower > sketch.epsilon * sketch.total
    ]
    return {
        "sketch": "frequent_items",
        "stream": "totals of 20,000 users",
        "recall_top": round(len(top & set(sure)) / TOP, 2),
        "listed": len(sketch.heaviest("user", TOP)),
        "recall_listed": round(len(top & {one.key for one in sketch.heaviest("user", TOP)}) / TOP, 2),
        "bound": int(sketch.epsilon * sketch.total),
        "greatest_total": int(totals.max()),
    }


def main() -> int:
    """Exit 0 if every share is at least its confidence, else 1."""
    parser = argparse.ArgumentParser(prog="bench accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--answers", type=Path, default=EDNET, help="EdNet's answers; left out where it is not there"
    )
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md and its pictures")
    parser.add_argument(
        "--json", action="store_true", help="accepted for uniformity: the output is always JSON"
    )
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for stream in streams(args):
        truth = Counter(stream.keys)
        rows += [
            count_min(stream, truth),
            frequent(stream, truth),
            distinct(stream, args.seed),
            quantiles(stream, args.seed),
        ]
        _SHOW.print(f"{stream.name} measured")
    rows.append(sample(args.seed))
    wrong = wrong_tool(args)
    document = {
        "all_within_bounds": all(one["holds"] for one in rows),
        "events": args.events,
        "rows": [{name: value for name, value in one.items() if name != "plotted"} for one in rows],
        "wrong_tool": wrong,
    }
    if args.write:
        write_report(ROOT / "docs", rows, wrong, args.events)
    print(json.dumps(document, indent=1))
    return 0 if document["all_within_bounds"] else 1


if __name__ == "__main__":
    sys.exit(main())
