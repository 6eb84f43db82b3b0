"""A replica with 400 days of sketches: how long it takes to start, what it weighs, how fast it answers.

    ./lakeboard bench replica [--days 400 --keys 20000 --answers 200000 --lookups 2000]

Starts a Kafka and fills `sketches.v1` with all that the topic keeps at most: 120 minutes, 48 hours and `--days` days of every
dimension, a day of `--answers` answers whose words, questions and quizzes are Zipf (1.0) over `--keys` keys, hours a
20th and minutes a 1000th of it. `--distinct` sketches a dimension and level are made and used in turn: reading and merging
costs the same as if all were different. Ranges begin at a random day and end at a random minute of the last two
hours, so a look-up reads up to 400 days, 23 hours and 59 minutes. Prints one JSON document.

Claims: starts under 10 s; a count's look-up under 1 ms at p99.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer
from rich.console import Console

from contracts import names
from contracts.sketched import (
    BY_KIND,
    COUNT_MIN,
    DAY_US,
    DIMENSIONS,
    DISTINCT,
    FREQUENT_ITEMS,
    HOUR_US,
    KEEP_US,
    LEVEL_US,
    MINUTE_US,
    Dimension,
    SketchKey,
    SketchRecord,
)
from serving.insights.replica import SketchReplica
from sketches import windows
from sketches.count_min import CountMin
from tests.services.daemons import start_kafka

_SHOW = Console(stderr=True)
SHARE = {"day": 1.0, "hour": 1 / 20, "minute": 1 / 1000}
START_CLAIM_S, LOOKUP_CLAIM_MS = 10.0, 1.0


def texts(dimension: Dimension, answers: int, args: argparse.Namespace) -> list[str]:
    """Some sketches of one dimension over windows of so many answers, as base64."""
    found = []
    rng = np.random.default_rng(zlib.crc32(f"{dimension.kind}:{answers}".encode()))
    weights = 1.0 / np.arange(1, args.keys + 1)
    for _ in range(args.distinct):
        if dimension.sketch in (COUNT_MIN, FREQUENT_ITEMS):
            # A quarter of the answers is wrong.
            counts = rng.multinomial(max(1, answers // 4), weights / weights.sum())
            keys = {f"key-{key}": int(counts[key]) for key in np.flatnonzero(counts)}
            sketch = windows.of_counts(dimension, keys)
        elif dimension.sketch == DISTINCT:
            users = rng.integers(0, answers, answers // 4).tolist()
            sketch = windows.of_counts(dimension, dict.fromkeys(map(str, users), 1))
        else:
            sketch = windows.of_values(dimension, rng.lognormal(8.5, 0.8, answers).astype(int).tolist())
        found.append(windows.as_text(sketch))
    return found


def fill(bootstrap: str, now_us: int, args: argparse.Namespace) -> tuple[int, int]:
    """Write all that the topic keeps; (records, bytes of their values before compression)."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks=1,
        compression_type="gzip",
        linger_ms=50,
        batch_size=2**20,
        max_request_size=2**22,
    )
    count = size = 0
    for dimension in DIMENSIONS:
        for level, share in SHARE.items():
            made = texts(dimension, int(args.answers * share), args)
            first = now_us - (args.days * DAY_US if level == "day" else KEEP_US[level])
            starts = range(
                -(-first // LEVEL_US[level]) * LEVEL_US[level], now_us - LEVEL_US[level] + 1, LEVEL_US[level]
            )
            for number, start in enumerate(starts):
                key = SketchKey(dimension.kind, level, start)
                parts = tuple(range(start, start + DAY_US, HOUR_US)) if level == "day" else ()
                if level == "hour":
                    parts = tuple(range(start, start + HOUR_US, MINUTE_US))
                record = SketchRecord(key, 1, made[number % len(made)], parts=parts).encode()
                producer.send(names.SKETCHES, key=key.encode(), value=record, partition=0)
                count, size = count + 1, size + len(record)
        _SHOW.print(f"{dimension.kind} written")
    producer.flush()
    producer.close()
    return count, size


def timed(ask: Callable[[int, int], object], ranges: list[tuple[int, int]]) -> dict[str, float]:
    """p50 and p99 of one call a range, ms: by the clock, and of processor time, which other work does not lengthen."""
    took, used = [], []
    for start, end in ranges:
        began, before = time.perf_counter(), time.thread_time()
        ask(start, end)
        used.append((time.thread_time() - before) * 1000)
        took.append((time.perf_counter() - began) * 1000)
    found = {}
    for name, values in (("", sorted(took)), ("cpu_", sorted(used))):
        found[f"{name}p50_ms"] = round(statistics.median(values), 3)
        found[f"{name}p99_ms"] = round(values[int(len(values) * 0.99)], 3)
    return found


def lookups(replica: SketchReplica, now_us: int, args: argparse.Namespace) -> dict[str, Any]:
    """Times of each kind of question over random ranges."""
    rng = random.Random(7)
    minute, day = now_us // MINUTE_US * MINUTE_US, now_us // DAY_US * DAY_US
    ranges = [
        (day - rng.randrange(1, args.days) * DAY_US, minute - rng.randrange(1, 119) * MINUTE_US)
        for _ in range(args.lookups)
    ]
    store, asks = replica.sketches, replica.approx

    def count(start: int, end: int) -> object:
        key = f"key-{rng.randrange(args.keys)}"
        return asks.count(store.select("missed_words", start, end, now_us), key)

    few = ranges[: max(20, args.lookups // 20)]
    others: dict[str, Callable[[int, int], object]] = {
        "heaviest": lambda start, end: asks.heaviest(store.select("heavy_words", start, end, now_us), 10),
        "participants": lambda start, end: asks.distinct(store.select("participants", start, end, now_us)),
        "quantiles": lambda start, end: asks.quantiles(
            store.select("elapsed_ms", start, end, now_us), [0.5, 0.99]
        ),
    }
    found: dict[str, Any] = {"count": timed(count, ranges)}
    for name, ask in others.items():
        found[name] = {"first": timed(ask, few), "again": timed(ask, few)}
    return found


def merged_by_library(args: argparse.Namespace) -> float:
    """ms to answer one count by merging a Count-Min a day: what the table of counters saves."""
    dimension = BY_KIND["missed_words"]
    made = [windows.from_text(dimension, one) for one in texts(dimension, args.answers, args)]
    began = time.perf_counter()
    whole = windows.merged(dimension, [made[number % len(made)] for number in range(args.days)])
    assert isinstance(whole, CountMin)
    whole.estimate("word", "key-1")
    return round((time.perf_counter() - began) * 1000, 2)


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Exit 0 if the claims hold, 1 if they do not."""
    parser = argparse.ArgumentParser(prog="bench replica", description=__doc__.splitlines()[0])
    for name, default in (
        ("days", 400),
        ("keys", 20_000),
        ("answers", 200_000),
        ("distinct", 2),
        ("lookups", 2_000),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--json", action="store_true", help="accepted for uniformity: the output is always JSON"
    )
    args = parser.parse_args()
    now_us = time.time_ns() // 1000
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as folder:
        kafka = start_kafka(Path(folder) / "kafka")
        try:
            records, size = fill(kafka.url, now_us, args)
            before = _rss_mb()
            replica = SketchReplica(kafka.url)
            began = time.perf_counter()
            replica.start()
            while replica.lag.records != 0:
                time.sleep(0.02)
            start_s = time.perf_counter() - began
            assert sum(replica.sketches.held().values()) == records, "not all were read"
            document = {
                "days": args.days,
                "sketches": records,
                "bytes": size,
                "start_s": round(start_s, 2),
                "memory_mb": round(_rss_mb() - before, 1),
                "tables_mb": round(replica.sketches.nbytes() / 2**20, 1),
                "lookup": lookups(replica, now_us, args),
                "count_by_merging_ms": merged_by_library(args),
            }
            replica.stop()
        finally:
            kafka.stop()
    p99 = document["lookup"]["count"]["p99_ms"]  # type: ignore[index]
    document["holds"] = start_s < START_CLAIM_S and p99 < LOOKUP_CLAIM_MS
    print(json.dumps(document, indent=1))
    return 0 if document["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
