"""A page of an archived user's history, beside the same page while its months were in Postgres.

    ./lakeboard bench archived-history [--months 12 --users 10000 --answers 20 --asked 500]

Claim: an archived user's page comes in under 300 ms (p99) over HTTP, with the lake's files on the local disk. Generated
answers: months × users × answers a user and month, ten a session, instants spread over the month, inserted in the order
of time, as the relay does. Starts a Postgres, two Valkey shards and an api of its own; the lake is a folder, as its files
are once cached. The same users are asked on both sides, one request after the other, each with its first page of 50 and
the one after it; the pages must be equal. Prints one JSON document; exit 1 if a page differs or the claim does not hold.
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
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psycopg
from rich.console import Console

from cli.stack.layout import layout_from
from contracts import names
from contracts.periods import next_start, span
from serving.migrations.upgrade import upgrade
from tests.services.daemons import start_postgres, start_valkey
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

LIMIT_MS = 300.0
PAGE = 50
_FIRST = date(2024, 1, 1)
_SHOW = Console(stderr=True)
# Prime steps: a user's instants are spread over the month, and no two answers of one user share one.
_HISTORY = """
INSERT INTO history (shard, seq, type, event_id, occurred_at, origin, occurred_at_us, user_id, user_no, session_id,
  session_started_at_us, session_tick_ms, quiz_id, quiz_zone, quiz_version, question_id, question_type, skill_tags,
  choice, correct, elapsed_ms, time_limit_ms, rule, points, mode, event)
SELECT 0, %(base)s + u * %(answers)s + k + 1, 'answer.v1', md5(%(month)s || '/' || u || '/' || k)::uuid,
  to_timestamp(at / 1000000), 'import', at, 'user' || u, u, 's' || %(month)s || '_' || u || '_' || k / 10, at, 1000,
  'part-' || (k / 10) %% 7, 'UTC', 1, 'q' || k, 'imported', ARRAY['tag'], 'apple', k %% 3 > 0, 1000 + k, 60000, 'speed@1', 900,
  'import', convert_to(repeat('x', 450), 'UTF8')
FROM (SELECT u, k, (%(start)s::bigint + ((u * 7919 + k * 104729) %% 2400000)) * 1000000 AS at
  FROM generate_series(0, %(users)s - 1) AS u, generate_series(0, %(answers)s - 1) AS k ORDER BY at) AS rows
"""
_LAKE = """
SELECT concat_ws('-', substr(h, 1, 8), substr(h, 9, 4), substr(h, 13, 4), substr(h, 17, 4), substr(h, 21)) AS event_id,
  at AS occurred_at_us, concat('user', u) AS user_id, u AS user_no,
  concat('s', '{month}', '_', u, '_', k div 10) AS session_id, MIN(at) OVER (PARTITION BY u, k div 10) AS session_started_at_us,
  concat('part-', (k div 10) % 7) AS quiz_id, concat('q', k) AS question_id, 'imported' AS question_type,
  array('tag') AS skill_tags,
  'apple' AS choice, k % 3 > 0 AS correct, 1000 + k AS elapsed_ms, 900L AS points, 'speed@1' AS rule, 0 AS shard,
  {base} + u * {answers} + k + 1 AS seq
FROM (SELECT *, md5(concat('{month}', '/', u, '/', k)) AS h, ({start} + ((u * 7919 + k * 104729) % 2400000)) * 1000000 AS at
  FROM (SELECT id div {answers} AS u, id % {answers} AS k FROM range({users} * {answers})))
"""


def months_of(count: int) -> list[date]:
    """The first `count` months."""
    months = [_FIRST]
    while len(months) < count:
        months.append(next_start("monthly", months[-1]))
    return months


def fill_postgres(url: str, months: list[date], users: int, answers: int) -> int:
    """Every month's answers into history; its bytes, indexes included."""
    with psycopg.connect(url, autocommit=True) as sql:
        for number, month in enumerate(months):
            start, end = month.isoformat(), next_start("monthly", month).isoformat()
            sql.execute(
                f"CREATE TABLE {names.history_partition(month)} PARTITION OF history "
                f"FOR VALUES FROM ('{start}') TO ('{end}')"
            )
            values = {
                "month": f"{month:%Y%m}",
                "users": users,
                "answers": answers,
                "base": number * users * answers,
                "start": span("monthly", month, "UTC").start_us // 1_000_000,
            }
            sql.execute(_HISTORY, values)
        sql.execute("VACUUM ANALYZE history")
        size = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'history'::regclass"
        row = sql.execute(size).fetchone()
        assert row is not None
        return int(row[0])


def fill_lake(
    url: str, warehouse: str, folder: Path, months: list[date], users: int, answers: int
) -> tuple[int, int]:
    """The same answers into `user_sessions`, as archive_month writes them; (snapshot id, bytes)."""
    from spark_jobs.archive_month import user_sessions
    from spark_jobs.session import create_tables, snapshot_id, spark_session

    jars = layout_from(os.environ).jars("spark")
    spark = spark_session(
        "bench", postgres_url=url, warehouse=warehouse, jars=jars, local_dir=folder / "spark"
    )
    try:
        create_tables(spark)
        for number, month in enumerate(months):
            text = _LAKE.format(
                month=f"{month:%Y%m}",
                users=users,
                answers=answers,
                base=number * users * answers,
                start=span("monthly", month, "UTC").start_us // 1_000_000,
            )
            rows = spark.sql(text)
            user_sessions(rows, month).writeTo(names.table("user_sessions")).append()
        size = spark.sql(
            f"SELECT sum(file_size_in_bytes) FROM {names.table('user_sessions')}.files"
        ).collect()
        found = snapshot_id(spark, "user_sessions")
        assert found is not None
        return found, int(size[0][0])
    finally:
        spark.stop()


def ask(http: httpx.Client, users: list[int]) -> tuple[list[float], list[Any]]:
    """Milliseconds of each request and the pages: the first, and the one after it, of each user."""
    times, pages = [], []
    for user in users:
        cursor = ""
        for _ in range(2):
            params = {"limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            began = time.perf_counter()
            reply = http.get(f"/v1/users/user{user}/history", params=params)
            times.append((time.perf_counter() - began) * 1000)
            assert reply.status_code == 200, reply.text
            pages.append(reply.json()["answers"])
            cursor = reply.json()["next"]
            if not cursor:
                break
    return times, pages


def figures(times: list[float]) -> dict[str, float]:
    """p50, p99 and the worst, in ms."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 1), "p99_ms": round(cuts[98], 1), "most_ms": round(max(times), 1)}


def drop_to_the_lake(url: str, months: list[date], snapshot: int) -> None:
    """The end of history's partitions, as archive_month ends a month."""
    with psycopg.connect(url, autocommit=True) as sql:
        for month in months:
            sql.execute(
                "INSERT INTO archived_months (month, entries, checksum, through, snapshots) VALUES (%s, 0, 0, '{}', %s)",
                (month, json.dumps({"user_sessions": snapshot})),
            )
            sql.execute(f"DROP TABLE {names.history_partition(month)}")


def measure(folder: Path, url: str, valkeys: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    months, warehouse = months_of(args.months), f"file://{folder}/warehouse"
    upgrade(url)
    with _SHOW.status("filling Postgres"):
        postgres_bytes = fill_postgres(url, months, args.users, args.answers)
    with _SHOW.status("filling the lake"):
        snapshot, lake_bytes = fill_lake(url, warehouse, folder, months, args.users, args.answers)
    users = random.Random(5).sample(range(args.users), args.asked)
    api = ApiProcess(folder / "api", valkeys, url, warehouse)
    try:
        with (
            _SHOW.status("asking"),
            httpx.Client(base_url=api.url, headers={"X-API-Key": IMPORTER_KEY}, timeout=60) as http,
        ):
            ask(http, users[:5])
            from_postgres, expected = ask(http, users)
            drop_to_the_lake(url, months, snapshot)
            first, _ = ask(http, users[:1])
            from_lake, found = ask(http, users)
    finally:
        api.stop()
    postgres, lake = figures(from_postgres), figures(from_lake)
    total = args.months * args.users * args.answers
    return {
        "answers": total,
        "months": args.months,
        "users": args.users,
        "requests": len(from_lake),
        "differences": sum(one != other for one, other in zip(expected, found, strict=True)),
        "lake": lake,
        "lake_very_first_ms": round(first[0], 1),
        "postgres": postgres,
        "lake_over_postgres_p50": round(lake["p50_ms"] / postgres["p50_ms"], 1),
        "lake_over_postgres_p99": round(lake["p99_ms"] / postgres["p99_ms"], 1),
        "lake_bytes_an_answer": round(lake_bytes / total, 1),
        "postgres_bytes_an_answer": round(postgres_bytes / total, 1),
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="archived-history", description=__doc__)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=20, help="a user and month")
    parser.add_argument("--asked", type=int, default=500, help="users that are asked for, two pages each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as name:
        folder = Path(name)
        postgres = start_postgres(folder)
        valkeys = [start_valkey(folder / f"valkey_{number}") for number in (1, 2)]
        try:
            found = measure(folder, postgres.new_database(), [one.url for one in valkeys], args)
        finally:
            for daemon in (postgres, *valkeys):
                daemon.stop()
    print(json.dumps(found))
    return 0 if found["differences"] == 0 and found["lake"]["p99_ms"] < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
