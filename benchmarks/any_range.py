"""Boards over any range from user-days and user-months, beside bare DuckDB over the same Parquet files.

    ./lakeboard bench any-range [--rows 30000000] [--days 90] [--users 1000000] [--asks 15]

Claims: 90 days over 30 M user-day rows are answered no slower than by bare DuckDB over the same files in the same run
(`ratio_to_duckdb`, of medians), under 1 s where months leave at most 5 M rows (`with_months_p50_ms`), an identical request
again in under 100 ms, a settled page or one user's rank in under 50 ms (p99). Makes the rows in a folder, the tables and
settlement in a Postgres of its own, and asks a real api process over HTTP. `differences` counts rows that differ from
SQL written here, over each range, its months and its estimate's bound; it must be 0. Prints one JSON document.
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
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psycopg
from pyiceberg.catalog.sql import SqlCatalog

from contracts import names
from contracts.periods import iso_ms
from serving.migrations.upgrade import upgrade
from tests.services.daemons import start_postgres, start_valkey
from tests.serving.api_process import ApiProcess
from tests.small_lake import schema_of

FIRST = date(2026, 1, 1)
BOARD_DAY = FIRST
TOP = 100


class Rows:
    """User-days, the months they sum to, numbers of users and one day's ranking: Parquet, made by DuckDB, in Iceberg."""

    def __init__(self, folder: Path, rows: int, days: int, users: int) -> None:
        self.folder, self.days, self.users = folder, days, users
        self.sql = duckdb.connect()
        a_day = rows // days
        step = max(users // a_day, 1)
        for number in range(days):
            # About a_day users of the day, another set each day; points skewed, some have none.
            self._write(
                f"user_days-{number:03d}",
                f"SELECT 'global' AS scope, 'UTC' AS zone, DATE '{FIRST + timedelta(days=number)}' AS day, user_no, points, "
                "CASE WHEN points > 0 THEN at_us END AS reached_at_us, 1 + h % 20 AS plays, h % 7 AS misses FROM ("
                f"SELECT user_no, h, CASE WHEN h % 13 = 0 THEN 0 ELSE (h % 20) * (500 + h // 97 % 500) END AS points, "
                f"{_us(FIRST + timedelta(days=number))} + h % 86400000000 AS at_us FROM (SELECT user_no, "
                f"(hash(user_no, {number}) >> 2)::BIGINT AS h FROM (SELECT (range * {step} + {number} * 7919) % {users} + 1 "
                f"AS user_no FROM range({a_day})))) ORDER BY user_no",
            )
        self._write(
            "user_numbers-0",
            f"SELECT range + 1 AS user_no, 'u' || (range + 1) AS user_id FROM range({users})",
        )
        self.months = _whole_months(FIRST, FIRST + timedelta(days=days))
        for month in self.months:
            following = (month + timedelta(days=32)).replace(day=1)
            self._write(
                f"user_months-{month}",
                f"SELECT 'global' AS scope, 'UTC' AS zone, DATE '{month}' AS month, user_no, sum(points)::BIGINT AS points, "
                "max(reached_at_us) AS reached_at_us, sum(plays)::BIGINT AS plays, sum(misses)::BIGINT AS misses "
                f"FROM {self.files('user_days')} WHERE day >= DATE '{month}' AND day < DATE '{following}' "
                "GROUP BY user_no ORDER BY user_no",
            )
        self._write(
            "rankings-0",
            f"SELECT 'daily' AS period, DATE '{BOARD_DAY}' AS start, 'UTC' AS zone, 'global' AS scope, row_number() OVER "
            "(ORDER BY points DESC, reached_at_us // 1000000 ASC NULLS LAST, user_id DESC) AS rank, user_id, user_no, points, "
            f"reached_at_us // 1000000 * 1000000 AS reached_at_us FROM {self.files('user_days-000')} AS a_day "
            f"JOIN {self.files('user_numbers')} AS numbers USING (user_no) ORDER BY rank",
        )

    def files(self, prefix: str) -> str:
        return f"read_parquet('{self.folder}/{prefix}*.parquet')"

    def _write(self, name: str, query: str) -> None:
        self.sql.execute(
            f"COPY ({query}) TO '{self.folder}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd)"
        )
        print(f"wrote {name}", file=sys.stderr, end="\r")

    def publish(self, postgres_url: str) -> str:
        """The tables with these files, and one settlement of every day, month and the ranked day; the warehouse."""
        warehouse = f"file://{self.folder}/warehouse"
        catalog = SqlCatalog(
            names.CATALOG,
            uri=postgres_url.replace("postgresql://", "postgresql+psycopg://", 1),
            warehouse=warehouse,
            **{"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"},
        )
        catalog.create_namespace_if_not_exists(names.NAMESPACE)
        snapshots = {}
        for name in ("user_days", "user_months", "user_numbers", "rankings"):
            table = catalog.create_table((names.NAMESPACE, name), schema_of(name))
            paths = sorted(str(path) for path in self.folder.glob(f"{name}-*.parquet"))
            if paths:
                table.add_files([f"file://{path}" for path in paths])
                current = table.current_snapshot()
                assert current is not None
                snapshots[name] = current.snapshot_id
        catalog.create_table((names.NAMESPACE, "answers"), schema_of("answers"))
        last = FIRST + timedelta(days=self.days - 1)
        with psycopg.connect(postgres_url) as sql:
            sql.execute(
                "INSERT INTO settlements (id, from_day, to_day, version, rule, snapshots, last_seq) "
                "VALUES ('1', %s, %s, 1, 'speed@1', %s, '{}')",
                (FIRST, last, json.dumps(snapshots)),
            )
            starts = [("daily", FIRST + timedelta(days=n)) for n in range(self.days)]
            for period, start in [*starts, *(("monthly", month) for month in self.months)]:
                sql.execute(
                    "INSERT INTO settlement_periods (settlement_id, period, start, zone, version) "
                    "VALUES ('1', %s, %s, 'UTC', 1)",
                    (period, start),
                )
        return warehouse

    def forget_months(self, postgres_url: str, forgotten: bool) -> None:
        """Whether months count as settled: without them every day is read from user-days."""
        with psycopg.connect(postgres_url) as sql:
            if forgotten:
                sql.execute("DELETE FROM settlement_periods WHERE period = 'monthly'")
                return
            for month in self.months:
                sql.execute(
                    "INSERT INTO settlement_periods (settlement_id, period, start, zone, version) "
                    "VALUES ('1', 'monthly', %s, 'UTC', 1)",
                    (month,),
                )

    def board(self, low: date, high: date, k: int) -> list[tuple[Any, ...]]:
        """Top k by SQL of its own: (rank, user_id, points, reached_at as replies say it)."""
        found = self.sql.execute(
            "SELECT 'u' || user_no, points, reached_us FROM (SELECT user_no, sum(points)::BIGINT AS points, "
            # seconds since the range's begin, at most 2^22 - 1 of them
            f"least(max(reached_at_us) // 1000000, {_us(low) // 1_000_000 + 2**22 - 1}) * 1000000 AS reached_us "
            f"FROM {self.files('user_days')} "
            f"WHERE scope = 'global' AND day >= DATE '{low}' AND day < DATE '{high}' GROUP BY user_no) "
            f"ORDER BY points DESC, reached_us ASC NULLS LAST, 'u' || user_no DESC LIMIT {k}"
        ).fetchall()
        return [
            (place, user, points, None if reached is None else iso_ms(reached))
            for place, (user, points, reached) in enumerate(found, 1)
        ]

    def participants(self, low: date, high: date) -> int:
        query = f"SELECT count(DISTINCT user_no) FROM {self.files('user_days')} WHERE day >= DATE '{low}' AND day < DATE '{high}'"
        return int(self.sql.execute(query).fetchall()[0][0])


def _us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def _whole_months(low: date, high: date) -> list[date]:
    found, month = [], low.replace(day=1)
    while (following := (month + timedelta(days=32)).replace(day=1)) <= high:
        found += [month] if month >= low else []
        month = following
    return found


def _ms(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return (time.perf_counter() - began) * 1000, found


def shown(reply: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(e["rank"], e["user_id"], e["points"], e["reached_at"]) for e in reply["entries"]]


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used: what a busy machine does not stretch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(http: httpx.Client, api_pid: int, rows: Rows, postgres_url: str, asks: int) -> dict[str, Any]:
    """Every figure, over HTTP."""
    differences = 0
    whole = FIRST, FIRST + timedelta(days=rows.days)

    def ask(low: date, high: date, **more: Any) -> dict[str, Any]:
        params = {"from": str(low), "to": str(high), "k": TOP, "explain": True, **more}
        reply = http.get("/v1/leaderboards/global", params=params)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def check(reply: dict[str, Any], low: date, high: date) -> int:
        wanted = rows.board(low, high, TOP)
        got = shown(reply)
        wrong = sum(a != b for a, b in zip(wanted, got, strict=False)) + abs(len(wanted) - len(got))
        return wrong + (reply["participants"] != rows.participants(low, high))

    # Cold: a user that no request has asked for makes every request a new question of the same files.
    rows.forget_months(postgres_url, True)
    cold, bare, again = [], [], []
    cold_cpu_s, bare_cpu_s = 0.0, 0.0
    ask(*whole)  # both have their files in the page cache
    rows.board(*whole, TOP)
    for number in range(asks):
        same = partial(ask, *whole, users=f"u{number + 1}")
        before = cpu_s(api_pid)
        cold_ms, reply = _ms(same)
        cold.append(cold_ms)
        cold_cpu_s += cpu_s(api_pid) - before
        before = cpu_s(os.getpid())
        bare.append(_ms(lambda: rows.board(*whole, TOP))[0])
        bare_cpu_s += cpu_s(os.getpid()) - before
        again.append(_ms(same)[0])
    read = reply["explain"]["rows"]
    differences += check(reply, *whole)
    fast = [
        _ms(partial(ask, *whole, users=f"u{number + 1}", accuracy="fast"))
        for number in range(max(asks // 3, 1))
    ]
    estimate = fast[-1][1]
    off = abs(estimate["participants"] - reply["participants"])
    rows.forget_months(postgres_url, False)
    with_months = [_ms(partial(ask, *whole, users=f"u{number + 1}")) for number in range(asks)]
    differences += check(with_months[-1][1], *whole)
    chance = random.Random(7)
    for _ in range(5):
        low, high = sorted(FIRST + timedelta(days=n) for n in chance.sample(range(rows.days + 1), 2))
        if high - low > timedelta(days=1):
            differences += check(ask(low, high), low, high)
    pages, own = settled(http, rows)
    return {
        "differences": differences,
        "rows_read": read,
        "cold_p50_ms": _median(cold),
        "duckdb_p50_ms": _median(bare),
        "ratio_to_duckdb": round(statistics.median(cold) / statistics.median(bare), 2),
        "cpu_ratio_to_duckdb": round(cold_cpu_s / bare_cpu_s, 2),
        "repeated_p50_ms": _median(again),
        "with_months_p50_ms": _median([ms for ms, _ in with_months]),
        "with_months_rows": with_months[-1][1]["explain"]["rows"],
        "fast_p50_ms": _median([ms for ms, _ in fast]),
        "fast_participants_off": off,
        "fast_bound": estimate["provenance"]["bound"]["value"],
        "settled_page_p50_ms": _median(pages),
        "settled_page_p99_ms": _p99(pages),
        "settled_rank_p99_ms": _p99(own),
    }


def settled(http: httpx.Client, rows: Rows) -> tuple[list[float], list[float]]:
    """ms of pages (top and neighbours) and of one user's rank, each of another user: none is a kept page."""
    path = f"/v1/leaderboards/global/daily/{BOARD_DAY}"
    users = [
        row[0]
        for row in rows.sql.execute(
            f"SELECT user_id FROM {rows.files('rankings')} USING SAMPLE reservoir(420 ROWS) REPEATABLE (5)"
        ).fetchall()
    ]

    def one(**params: Any) -> float:
        elapsed_ms, reply = _ms(lambda: http.get(path, params=params))
        body = reply.raise_for_status().json()
        assert body["provenance"]["source"] == "rankings" and (body["me"] or body["ranks"])
        return elapsed_ms

    for user in users[:20]:
        one(around=user)
    return [one(around=user, k=50) for user in users[20:220]], [
        one(k=0, users=user) for user in users[220:420]
    ]


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 1)


def _p99(values: list[float]) -> float:
    return round(sorted(values)[min(int(len(values) * 0.99), len(values) - 1)], 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="any-range", description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--asks", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as name:
        folder = Path(name)
        rows = Rows(folder, args.rows, args.days, args.users)
        postgres, valkey = start_postgres(folder / "postgres"), start_valkey(folder / "valkey")
        url = postgres.new_database()
        try:
            upgrade(url)
            api = ApiProcess(folder / "api", [valkey.url], url, rows.publish(url))
            try:
                with httpx.Client(base_url=api.url, timeout=120) as http:
                    found = measure(http, api.child.pid, rows, url, args.asks)
            finally:
                api.stop()
        finally:
            valkey.stop()
            postgres.stop()
    found |= {
        "rows": args.rows,
        "days": args.days,
        "users": args.users,
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }
    print(json.dumps(found))
    return 0 if found["differences"] == 0 and found["fast_participants_off"] <= found["fast_bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
