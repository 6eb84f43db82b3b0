"""A full ranking of N users: read user-days, sum, rank, write Parquet; our Spark path beside DuckDB, in one run.

    ./lakeboard bench rank-users [--users N] [--memory-gib 8] [--keep FOLDER]

Claim under test: at most 3 × DuckDB doing the same job, both within the memory. Data, seeded: 1.2 N user-days of one
month, N by every user once and 0.2 N by users drawn as N·u³ (a fifth of these to the first percent of users);
points are floor(10/√u) (a heavy tail, many ties), 2 % are 0; instants are any second of the day. Each side runs in a
process of its own (the start of the JVM is not counted); then the results' rows and an order-sensitive checksum are
compared. Prints one JSON document; exit 1 if the results differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

SEED = 7
FILES = 8
START = date(2024, 5, 1)
DAYS = 31
# Of the memory: what DuckDB holds beside its limit, and the JVM beside its heap with Python (seen as peak RSS).
DUCKDB_BESIDE_GIB = 1
SPARK_BESIDE_GIB = 3
SAMPLE_S = 0.2


def random(column: str, salt: int) -> str:
    """SQL of a uniform number in [0, 1) by a row's number."""
    return f"(hash({column} * 1000 + {SEED * 100 + salt}) >> 11) / 9007199254740992.0"


def generate(folder: Path, users: int) -> None:
    """user_days/*.parquet and user_numbers/*.parquet."""
    import duckdb

    connection = duckdb.connect()
    rows, anchor_us = users * 6 // 5, anchor()
    for name in ("user_days", "user_numbers"):
        (folder / name).mkdir()
    for part in range(FILES):
        low, high = rows * part // FILES, rows * (part + 1) // FILES
        connection.execute(
            f"""COPY (SELECT 'global' AS scope, 'UTC' AS zone, DATE '{START}' + d::INTEGER AS day, user_no, points,
              CASE WHEN points > 0 THEN {anchor_us} + d * 86400000000 + ({random("i", 4)} * 86399)::BIGINT * 1000000
                + 123456 END AS reached_at_us FROM (SELECT i,
              CASE WHEN i < {users} THEN i ELSE floor({users} * pow({random("i", 1)}, 3))::BIGINT END AS user_no,
              floor({random("i", 2)} * {DAYS})::BIGINT AS d,
              CASE WHEN {random("i", 3)} < 0.02 THEN 0
                ELSE floor(10 / sqrt({random("i", 5)} + 1e-9))::BIGINT END AS points
              FROM range({low}, {high}) t(i)))
            TO '{folder}/user_days/{part}.parquet' (FORMAT parquet)"""
        )
        low, high = users * part // FILES, users * (part + 1) // FILES
        connection.execute(
            f"COPY (SELECT i AS user_no, 'u' || i AS user_id FROM range({low}, {high}) t(i)) "
            f"TO '{folder}/user_numbers/{part}.parquet' (FORMAT parquet)"
        )


def anchor() -> int:
    from contracts.periods import span

    return span("monthly", START, "UTC").start_us


def by_duckdb(folder: Path, memory_gib: int) -> dict[str, Any]:
    """The job as one would write it in DuckDB: one query, ordered once."""
    import duckdb

    clock = Clock()
    connection = duckdb.connect(
        config={"memory_limit": f"{memory_gib - DUCKDB_BESIDE_GIB}GiB", "temp_directory": f"{folder}/spill"}
    )
    connection.execute(
        f"""COPY (SELECT 'monthly' AS period, DATE '{START}' AS start, 'UTC' AS zone, 'global' AS scope,
          row_number() OVER () AS rank, user_id, user_no, points, reached_at_us FROM (
            SELECT user_id, user_no, points, CASE WHEN points > 0 THEN reached_us - reached_us % 1000000 END
              AS reached_at_us
            FROM (SELECT user_no, sum(points)::BIGINT AS points, max(reached_at_us) AS reached_us
                  FROM read_parquet('{folder}/user_days/*.parquet') GROUP BY user_no)
            JOIN read_parquet('{folder}/user_numbers/*.parquet') USING (user_no)
            ORDER BY points DESC, coalesce(reached_at_us, 0), user_id DESC))
        TO '{folder}/by_duckdb.parquet' (FORMAT parquet)"""
    )
    return {"all": clock.spent()}


def by_spark(folder: Path, memory_gib: int) -> dict[str, Any]:
    """spark_jobs' way of a big board → Parquet, with a settlement's session."""
    from pyspark.sql import functions as F

    from spark_jobs.day_frames import period_frame
    from spark_jobs.rank_by_range import big_boards, ranked_by_range, summands
    from spark_jobs.session import size_shuffles, spark_session

    spark = spark_session(
        "rank-users",
        postgres_url="postgresql://nobody@127.0.0.1/nothing",  # no table of the catalog is opened
        warehouse=f"file://{folder}/warehouse",
        jars=Path(os.environ["LAKEBOARD_CACHE_DIR"]) / "jars" / "spark",
        local_dir=folder / "local",
        driver_memory=f"{memory_gib - SPARK_BESIDE_GIB}g",
    )
    spark.range(1).select(F.count("*")).collect()
    clock, phases = Clock(), {}
    days = spark.read.parquet(f"{folder}/user_days")
    numbers = spark.read.parquet(f"{folder}/user_numbers")
    size_shuffles(spark, days.count())
    period_rows = period_frame(spark, [("monthly", START, "UTC")])
    boards = big_boards(days, period_rows)
    phases["count"] = clock.spent()
    rows = summands(days, period_rows, boards)
    with ranked_by_range(rows, numbers, boards) as ranked:
        phases["sum_and_cut"] = clock.spent()
        ranked.write.parquet(f"{folder}/by_spark")
    phases["sort_and_write"] = clock.spent()
    spark.stop()
    return {"all": {k: sum(each[k] for each in phases.values()) for k in ("s", "cpu_s")}, "phases": phases}


SIDES = {"duckdb": by_duckdb, "spark": by_spark}


def tree(pid: int) -> tuple[int, float]:
    """(resident bytes, processor seconds) of a process and all below it that still run."""
    children: dict[int, list[int]] = {}
    used: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        used[int(stat.parent.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), seconds
    rss, cpu_s, waiting = 0, 0.0, [pid]
    while waiting:
        one = waiting.pop()
        more_rss, more_s = used.get(one, (0, 0.0))
        rss, cpu_s = rss + more_rss, cpu_s + more_s
        waiting += children.get(one, [])
    return rss, cpu_s


class Clock:
    """Wall and processor seconds of this process and those below it since the last asking."""

    def __init__(self) -> None:
        self.spent()

    def spent(self) -> dict[str, float]:
        before = getattr(self, "_now", (0.0, 0.0))
        self._now = time.monotonic(), tree(os.getpid())[1]
        return {"s": round(self._now[0] - before[0], 1), "cpu_s": round(self._now[1] - before[1], 1)}


def in_its_own_process(side: str, folder: Path, memory_gib: int) -> dict[str, Any]:
    """What the side reports, with the greatest resident memory of its processes."""
    command = [sys.executable, "-m", "benchmarks.rank_users", "--side", side, "--keep", str(folder)]
    process = subprocess.Popen([*command, "--memory-gib", str(memory_gib)], stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree(process.pid)[0])
        time.sleep(SAMPLE_S)
    assert process.stdout is not None
    text = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{side} failed with exit {process.returncode}")
    return {**json.loads(text.splitlines()[-1]), "peak_rss_gib": round(peak / 2**30, 2)}


def checksum(files: str) -> tuple[int, int]:
    """(rows, sum of a hash of every row with its rank): another order gives another sum."""
    import duckdb

    row = (
        duckdb.connect()
        .execute(
            "SELECT count(*), sum(hash(rank, user_id, user_no, points, coalesce(reached_at_us, -1), period, start, zone, "
            f"scope)::HUGEINT) FROM read_parquet('{files}')"
        )
        .fetchall()[0]
    )
    return int(row[0]), int(row[1])


def measure(folder: Path, users: int, memory_gib: int) -> dict[str, Any]:
    print(f"generating {users:,} users in {folder}", file=sys.stderr)
    if not (folder / "user_days").exists():
        generate(folder, users)
    found = {}
    for side in SIDES:
        print(f"ranking with {side}", file=sys.stderr)
        found[side] = in_its_own_process(side, folder, memory_gib)
    ours, theirs = found["spark"]["all"], found["duckdb"]["all"]
    sums = [checksum(f"{folder}/{files}") for files in ("by_duckdb.parquet", "by_spark/*.parquet")]
    return {
        "users": users,
        "rows_ranked": sums[0][0],
        "equal": sums[0] == sums[1] and sums[0][0] == users,
        "duckdb": theirs,
        "spark": {key: round(value, 1) for key, value in ours.items()},
        "spark_over_duckdb": round(ours["s"] / theirs["s"], 2),
        "cpu_over_duckdb": round(ours["cpu_s"] / theirs["cpu_s"], 2),
        "spark_phases": found["spark"]["phases"],
        "peak_rss_gib": {side: each["peak_rss_gib"] for side, each in found.items()},
        "memory_gib": memory_gib,
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="rank-users", description=__doc__)
    parser.add_argument("--users", type=int, default=50_000_000)
    parser.add_argument("--memory-gib", type=int, default=8)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and leave it there")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.keep, args.memory_gib)))
        return 0
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-", ignore_cleanup_errors=True) as made:
        folder = args.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, args.users, args.memory_gib)
    print(json.dumps(found))
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
