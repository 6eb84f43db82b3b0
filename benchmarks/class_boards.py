"""A class' board of 1,000 members in a global board of a million: over HTTP, beside what one would do with Redis alone.

    ./lakeboard bench class_boards [--members 1000000 --size 1000 --reads 100]

Starts a Valkey (append-only file synced), a Postgres and one api process. Rows, each the median and 99th of reads in turn:

    whole        every member was one all week: the class' top 10 and one's neighbours, over HTTP
    cut          every member joined today, in mid-day, with 10 answers since: counted answer by answer, over HTTP
    zmscore      the scores alone, by redis-py: the least that a filter can cost
    zinterstore  ZINTERSTORE of the board with a set of the members into a key of its own, its top 10, and the key deleted
    zrange_all   the whole board read and filtered by the caller

`ratio` is a row over `whole`. Prints one JSON document. Claim: `whole` under 20 ms on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
from redis import Redis
from rich.console import Console

from contracts import names
from contracts.events import ANSWER_TYPE
from contracts.identity import event_id
from contracts.periods import from_instant_us, period_start, span
from contracts.ranking import pack
from serving.relay.to_history import History
from tests.services.daemons import start_postgres, start_valkey
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

_SHOW = Console(stderr=True)
FILL_ROWS = 10_000
ANSWERS_EACH = 10


def now_us() -> int:
    return time.time_ns() // 1_000


def fill(redis: Redis, key: str, members: int) -> None:
    """A board with so many members, points spread widely."""
    for at in range(0, members, FILL_ROWS):
        rows = {
            f"u{n:08d}": pack(random.randrange(1, 1_000_000), n % 600_000) for n in range(at, at + FILL_ROWS)
        }
        redis.zadd(key, rows)


def make_class(sql: psycopg.Connection, ident: str, users: list[str], joined_us: int) -> None:
    sql.execute("INSERT INTO classes (class_id, name, owner_id) VALUES (%s, %s, 'nobody')", (ident, ident))
    with sql.cursor().copy(
        "COPY class_members (class_id, user_id, user_no, joined_at_us) FROM STDIN"
    ) as copy:
        for number, user in enumerate(users, 1):
            copy.write_row((ident, user, number, joined_us))


def give_answers(url: str, users: list[str], after_us: int) -> None:
    """Answers of today in history, as the relay writes them; their bytes are read only where corrections hold."""
    columns = "shard, seq, type, event_id, occurred_at, occurred_at_us, user_id, points, mode, event"
    history = History(url, 0)
    try:
        history.make_partitions([(None, None, None, None, from_instant_us(after_us))])
    finally:
        history.close()
    with psycopg.connect(url) as sql:
        with sql.cursor().copy(f"COPY history ({columns}) FROM STDIN") as copy:
            seq = 0
            for user in users:
                for number in range(ANSWERS_EACH):
                    seq += 1
                    at = after_us + 1 + number
                    ident = event_id("bench", f"w{number}", user)
                    row = (0, seq, ANSWER_TYPE, ident, from_instant_us(at), at, user, 700, "live", b"{}")
                    copy.write_row(row)
        sql.commit()
        sql.execute("ANALYZE history")


def timed(read: Callable[[], Any], reads: int) -> dict[str, float]:
    """Median and 99th of reads in turn, ms."""
    read()
    took = []
    for _ in range(reads):
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1_000)
    took.sort()
    return {"p50_ms": round(statistics.median(took), 2), "p99_ms": round(took[int(len(took) * 0.99) - 1], 2)}


def over_http(http: httpx.Client, ident: str, users: list[str], source: str) -> Callable[[], None]:
    """A read of the class' week, around a random member. Raises RuntimeError if it is not the board that it should be."""

    def read() -> None:
        params: dict[str, str | int] = {"k": 10, "m": 5, "around": random.choice(users)}
        board = (
            http.get(f"/v1/leaderboards/class:{ident}/weekly/current", params=params)
            .raise_for_status()
            .json()
        )
        if (board["participants"], board["provenance"]["source"]) != (len(users), source) or not board["me"]:
            raise RuntimeError(f"not the board of {ident}: {board['participants']}, {board['provenance']}")

    return read


def by_redis(redis: Redis, key: str, users: list[str]) -> dict[str, Callable[[], Any]]:
    """What one would do without a class board; each ends with the class' first ten."""
    there = set(users)
    redis.delete("bench:members")
    redis.sadd("bench:members", *users)

    def zmscore() -> list[Any]:
        scores = redis.zmscore(key, users)
        return sorted(zip(scores, users, strict=True), key=lambda one: (one[0] or 0, one[1]), reverse=True)[
            :10
        ]

    def zinterstore() -> Any:
        with redis.pipeline(transaction=False) as pipe:
            pipe.zinterstore("bench:class", {key: 1, "bench:members": 0})
            pipe.zrevrange("bench:class", 0, 9, withscores=True)
            pipe.delete("bench:class")
            return pipe.execute()[1]

    def zrange_all() -> list[Any]:
        rows = redis.zrevrange(key, 0, -1, withscores=True)
        return [row for row in rows if row[0].decode() in there][:10]

    return {"zmscore": zmscore, "zinterstore": zinterstore, "zrange_all": zrange_all}


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    shard, postgres = start_valkey(folder / "valkey"), start_postgres(folder / "postgres")
    api = None
    try:
        url = postgres.new_database()
        api = ApiProcess(folder / "api", [shard.url], url)
        week, today = (period_start(period, now_us()) for period in ("weekly", "daily"))
        key = names.board("global", "weekly", week)
        users = [f"u{n:08d}" for n in random.sample(range(args.members), args.size)]
        # From one second after midnight on: today is cut for everybody, and this week is.
        joined_us = span("daily", today).start_us + 1_000_000
        with _SHOW.status(f"{args.members} members"), Redis.from_url(shard.url) as redis:
            fill(redis, key, args.members)
            with psycopg.connect(url) as sql:
                make_class(sql, "whole", users, 0)
                make_class(sql, "cut", users, joined_us)
            give_answers(url, users, joined_us)
            found: dict[str, dict[str, float]] = {}
            with httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as http:
                found["whole"] = timed(over_http(http, "whole", users, "redis"), args.reads)
                found["cut"] = timed(over_http(http, "cut", users, "history"), args.reads)
            for name, read in by_redis(redis, key, users).items():
                found[name] = timed(read, max(args.reads // (20 if name == "zrange_all" else 1), 3))
        whole = found["whole"]["p50_ms"]
        return {name: {**row, "ratio": round(row["p50_ms"] / whole, 2)} for name, row in found.items()}
    finally:
        if api is not None:
            api.stop()
        postgres.stop()
        shard.stop()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="class_boards", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=1_000, help="members of the class")
    parser.add_argument("--reads", type=int, default=100, help="for each row")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as folder:
        found = measure(Path(folder), args)
    about = {"members": args.members, "size": args.size, "processors": os.cpu_count()}
    print(json.dumps({**about, **found, "load": [round(value, 1) for value in os.getloadavg()]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
