"""A whole file: replay, ingest, settle, settle again, reconcile; beside DuckDB over the same file.

    ./lakeboard bench ingest-settle [--answers FILE --format ednet]

Claim: all of EdNet (251,822 lines, 2017-09 to 2019-11) is settled in under 10 minutes on 2 cores. Starts a stack of its
own on free ports, without Airflow, Flink and QuestDB. What a user would have instead is one SQL query over the file
(tests/independent.py), with no record, no live boards and no way to publish: `settle_over_duckdb` is the price of
those, on the same machine in the same run. `bytes_an_answer`: of the newest snapshots by Iceberg's metadata (all tables
together, and each), and of everything that HDFS keeps below the warehouse, metadata and replaced files too, each ÷ the rows
of `answers`; beside it the file's own bytes a line. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from cli.answer_files import read
from tests.end_to_end.whole_stack import LEFT_OUT, WholeStack
from tests.independent import independent_boards
from tests.simulated_week import PATH


def days_of(path: Path, form: str) -> tuple[str, str]:
    """First and last UTC day of a file's answers."""
    lines, _ = read(path, form, "speed@1")
    first, last = (
        datetime.fromtimestamp(line["occurred_at_us"] / 1e6, UTC).date() for line in (lines[0], lines[-1])
    )
    return str(first), str(last)


def by_duckdb(path: Path, form: str) -> tuple[float, int]:
    """(seconds, boards) of every board by SQL over the file, in this process."""
    began = time.monotonic()
    connection = independent_boards(path, form)
    row = connection.execute("SELECT count(DISTINCT (scope, period, start)) FROM boards").fetchall()[0]
    return time.monotonic() - began, int(row[0])


def bytes_an_answer(stack: WholeStack, path: Path, lines: int) -> dict[str, float]:
    """Bytes in the lake ÷ rows of `answers`: by table, `tables` (all of them), `stored` (with metadata and old files)."""
    tables = {one["name"]: one for one in stack.document("tables", "--json")}
    settings = stack.layout.settings("full")
    warehouse = urlsplit(settings.lake_warehouse).path
    reply = httpx.get(
        f"{settings.webhdfs_url.rstrip('/')}/webhdfs/v1{warehouse}",
        params={"op": "GETCONTENTSUMMARY", "user.name": "root"},
        timeout=60,
    )
    stored = reply.raise_for_status().json()["ContentSummary"]["length"]
    rows = tables["answers"]["rows"]
    sizes = {name: one["bytes"] for name, one in tables.items() if one["bytes"]}
    sizes |= {"tables": sum(sizes.values()), "stored": stored}
    found = {name: round(size / rows, 1) for name, size in sizes.items()}
    return found | {"file": round(path.stat().st_size / lines, 1)}


def measure(stack: WholeStack, path: Path, form: str) -> dict[str, Any]:
    """Every figure, on a stack that is not up yet."""
    began = time.monotonic()
    stack.run("up", "--without", LEFT_OUT)
    up_s = time.monotonic() - began
    replay = stack.document("replay", str(path), "--format", form, "--keep-boards", "--json")
    began = time.monotonic()
    stack.until_relayed()
    relayed_s = time.monotonic() - began
    first, last = days_of(path, form)
    span = ("--from", first, "--to", last)
    settled, again = stack.document("settle", *span), stack.document("settle", *span)
    held = bytes_an_answer(stack, path, replay["answers"])
    compared = stack.document("reconcile", *span, "--json")
    duckdb_s, boards = by_duckdb(path, form)
    return {
        "answers": replay["answers"],
        "counted": replay["counted"],
        "replay_s": replay["seconds"],
        "replay_answers_per_s": replay["answers_per_s"],
        "relayed_after_s": round(relayed_s, 1),
        "periods_settled": len(settled["settled"]),
        "settle_s": settled["seconds"]["all"],
        "settle_phases_s": settled["seconds"],
        "again_s": again["seconds"]["all"],
        "again_settled": len(again["settled"]),
        "boards": compared["boards"],
        "rows": compared["rows"],
        "differences": compared["differences"],
        "reconcile_s": compared["seconds"],
        "duckdb_s": round(duckdb_s, 2),
        "duckdb_boards": boards,
        "settle_over_duckdb": round(settled["seconds"]["all"] / duckdb_s, 1),
        "bytes_an_answer": held,
        "up_s": round(up_s, 1),
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="ingest-settle", description=__doc__)
    parser.add_argument("--answers", type=Path, default=PATH, help="default: the week that ships")
    parser.add_argument("--format", dest="form", choices=("csv", "ednet"), default="csv")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as folder:
        stack = WholeStack(Path(folder))
        try:
            found = measure(stack, args.answers.resolve(), args.form)
        finally:
            stack.run("down")
    print(json.dumps(found))
    return 0 if found["differences"] == 0 and found["boards"] == found["duckdb_boards"] else 1


if __name__ == "__main__":
    sys.exit(main())
