"""The shared vectors through every engine that orders a board: Python, Lua, DuckDB, Spark, Flink.

Each engine folds the counted answers of all cases and orders them by its own copy of the rule; the expected rows are
written out by hand in tests/vectors/boards.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from contracts import names, periods, ranking
from contracts.boards import Board, Scope
from serving.boards.boards import Boards
from serving.boards.shards import AnswerToRecord, Shards

ROOT = Path(__file__).parents[2]
CASES: list[dict[str, Any]] = json.loads((ROOT / "tests/vectors/boards.json").read_text())
BOARD_SQL = (ROOT / "contracts/board.sql").read_text()
# Answers of one case → totals: what an engine's fold gives to board.sql.
TOTALS_SQL = """
SELECT period, start, zone, scope, user_id, 0 AS user_no, CAST(sum(points) AS BIGINT) AS points,
       max(CASE WHEN points > 0 THEN occurred_at_us END) AS reached_at_us, anchor_us, tick_us
FROM answers GROUP BY period, start, zone, scope, user_id, anchor_us, tick_us
"""
Rows = dict[str, list[tuple[int, str, int, int | None]]]


def frame_of(case: dict[str, Any]) -> tuple[int, int]:
    """(anchor_us, tick_us) of a case's board: its period's, or a session's, which the case then names."""
    span = periods.span(case["period"], date.fromisoformat(case["start"]), case["zone"])
    return case.get("anchor_us", span.start_us), case.get("tick_us", ranking.PERIOD_TICK_US[case["period"]])


def answer_rows() -> list[dict[str, Any]]:
    """One row per counted answer of every case; `scope` is the case's name."""
    rows = []
    for case in CASES:
        board = {
            "period": case["period"],
            "start": case["start"],
            "zone": case["zone"],
            "scope": case["name"],
        }
        place = dict(zip(("anchor_us", "tick_us"), frame_of(case), strict=True))
        for answer in case["answers"]:
            if not answer["repeat"]:
                counted = {key: answer[key] for key in ("user_id", "points", "occurred_at_us")}
                rows.append({**board, **place, **counted})
    return rows


def through_python() -> Rows:
    sums: dict[tuple[str, str], tuple[int, int | None]] = defaultdict(lambda: (0, None))
    boards: dict[str, list[ranking.Total]] = defaultdict(list)
    for row in answer_rows():
        key = (row["scope"], row["user_id"])
        points, reached = sums[key]
        if row["points"]:
            floored = ranking.floor_reached(row["occurred_at_us"], row["anchor_us"], row["tick_us"])
            reached = floored if reached is None else max(reached, floored)
        sums[key] = (points + row["points"], reached)
    for (scope, user), (points, reached) in sums.items():
        boards[scope].append(ranking.Total(user, points, reached))
    return {
        scope: [(r.rank, r.user_id, r.points, r.reached_at_us) for r in ranking.rank(totals)]
        for scope, totals in boards.items()
    }


def by_scope(rows: list[tuple[Any, ...]]) -> Rows:
    """(scope, rank, user_id, points, reached_at_us) rows, grouped and in order of rank."""
    found: Rows = defaultdict(list)
    for scope, rank, user, points, reached in sorted(rows, key=lambda row: (row[0], row[1])):
        found[scope].append((rank, user, points, reached))
    return found


def through_duckdb() -> Rows:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.register("answers", pa.Table.from_pylist(answer_rows()))
    connection.execute(f"CREATE VIEW totals AS {TOTALS_SQL}")
    query = f"SELECT scope, rank, user_id, points, reached_at_us FROM ({BOARD_SQL})"
    return by_scope(connection.execute(query).fetchall())


# Runs in a process of its own: a Spark session keeps its class path, and other tests need theirs.
SPARK_PROGRAM = """
import json, sys
from pyspark.sql import SparkSession
rows, totals_sql, board_sql = json.load(sys.stdin)
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
schema = ", ".join(f"{n} {'bigint' if isinstance(v, int) else 'string'}" for n, v in rows[0].items())
frame = spark.createDataFrame([tuple(row.values()) for row in rows], schema)
frame.createOrReplaceTempView("answers")
spark.sql(totals_sql).createOrReplaceTempView("totals")
found = spark.sql(board_sql).select("scope", "rank", "user_id", "points", "reached_at_us").collect()
print(json.dumps([list(row) for row in found]))
"""


def run_program(python: Path | str, program: str, *parts: Any) -> Rows:
    """Run an engine's program with its input on standard input; its last line of output is the rows as JSON."""
    result = subprocess.run(
        [str(python), "-c", program],
        input=json.dumps(parts),
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)},
    )
    wrong = re.findall(r"Encountered.*", result.stderr) or [result.stderr[-4000:]]
    assert result.returncode == 0, wrong[0]
    return by_scope([tuple(row) for row in json.loads(result.stdout.splitlines()[-1])])


def through_spark() -> Rows:
    return run_program(sys.executable, SPARK_PROGRAM, answer_rows(), TOTALS_SQL, BOARD_SQL)


# Runs in Flink's own environment: batch mode, rows on standard input, result as JSON on the last line.
FLINK_PROGRAM = """
import json, sys
from pyflink.table import EnvironmentSettings, TableEnvironment, DataTypes
rows, totals_sql, board_sql = json.load(sys.stdin)
table_env = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
table_env.get_config().set("parallelism.default", "1")
names = list(rows[0])
types = [DataTypes.BIGINT() if isinstance(rows[0][n], int) else DataTypes.STRING() for n in names]
schema = DataTypes.ROW([DataTypes.FIELD(n, t) for n, t in zip(names, types)])
table = table_env.from_elements([tuple(r[n] for n in names) for r in rows], schema)
table_env.create_temporary_view("answers", table)
table_env.create_temporary_view("totals", table_env.sql_query(totals_sql))
query = "SELECT `scope`, `rank`, user_id, points, reached_at_us FROM (" + board_sql + ")"
with table_env.sql_query(query).execute().collect() as found:
    print(json.dumps([list(row) for row in found]))
"""


def through_flink() -> Rows:
    from cli.environments import ensure

    def quoted(sql: str) -> str:
        # Flink reserves these words; the other engines do not know its quotes.
        code = "\n".join(line for line in sql.splitlines() if not line.strip().startswith("--"))
        return re.sub(r"\b(period|start|zone|scope|rank)\b", r"`\1`", code)

    return run_program(ensure("flink"), FLINK_PROGRAM, answer_rows(), quoted(TOTALS_SQL), quoted(BOARD_SQL))


def answers_in_order_of_arrival(case: dict[str, Any], prefix: str, key: str) -> list[AnswerToRecord]:
    """The case's answers as the script takes them; a repeat has the question of that user's first answer."""
    made = []
    for number, answer in enumerate(case["answers"]):
        question = "w0" if answer["repeat"] or number == 0 else f"w{number}"
        # The script keeps occurred_at for the reply alone (0 … 2^53); the order travels as ticks.
        occurred = min(max(answer["occurred_at_us"], 0), 2**53)
        ticks = ranking.ticks_of(answer["occurred_at_us"], *frame_of(case))
        who = (f"{prefix}s", f"{prefix}q", question, answer["user_id"])
        made.append(
            AnswerToRecord(*who, answer["points"], occurred, True, b"{}", ((key, ticks),), mode="import")
        )
    return made


async def record_and_read(urls: list[str]) -> Rows:
    """Each case through record_answers.lua on a quiz of its own, read back by ZREVRANGE."""
    found: Rows = {}
    shards = Shards(urls)
    try:
        for case in CASES:
            prefix = uuid.uuid4().hex[:8] + "-"
            quiz = f"{prefix}q"
            board = Board(
                Scope("quiz", quiz), case["period"], date.fromisoformat(case["start"]), case["zone"]
            )
            shard = shards.shard_of(quiz)
            await shards.create_session(shard, f"{prefix}s", {"quiz_id": quiz, "state": "ended"})
            key = names.board(str(board.scope), board.period, board.start)
            outcomes = await shards.record(shard, answers_in_order_of_arrival(case, prefix, key))
            assert [a["repeat"] for a in case["answers"]] == [o.status == "repeat" for o in outcomes]
            anchor_us, tick_us = frame_of(case)
            found[case["name"]] = [
                (
                    p.rank,
                    p.user_id,
                    p.points,
                    None if p.ticks is None else ranking.reached_at_us(anchor_us, p.ticks, tick_us),
                )
                for p in await Boards(shards).top(key, 100, quiz)
            ]
    finally:
        await shards.close()
    return found


def through_lua(valkey_urls: list[str]) -> Rows:
    return asyncio.run(record_and_read(valkey_urls))


# Each engine with its kind and the fixture it takes.
ENGINES: dict[str, tuple[Callable[..., Rows], pytest.MarkDecorator, str]] = {
    "python": (through_python, pytest.mark.unit, ""),
    "lua": (through_lua, pytest.mark.service, "valkey_urls"),
    "duckdb": (through_duckdb, pytest.mark.unit, ""),
    "spark": (through_spark, pytest.mark.engine, ""),
    "flink": (through_flink, pytest.mark.engine, ""),
}
_found: dict[str, Rows] = {}


@pytest.mark.parametrize("engine", [pytest.param(name, marks=kind) for name, (_, kind, _) in ENGINES.items()])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_engine_orders_a_board_alike(
    engine: str, case: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if engine not in _found:
        through, _, fixture = ENGINES[engine]
        _found[engine] = through(*([request.getfixturevalue(fixture)] if fixture else []))
    expected = [
        tuple(row[key] for key in ("rank", "user_id", "points", "reached_at_us")) for row in case["expected"]
    ]
    assert expected == _found[engine][case["name"]]


@pytest.mark.unit
@pytest.mark.parametrize(
    "case",
    json.loads((ROOT / "tests/vectors/periods.json").read_text()),
    ids=lambda c: f"{c['zone']} {c['start']}",
)
def test_boundaries_of_periods(case: dict[str, str]) -> None:
    span = periods.span(case["period"], date.fromisoformat(case["start"]), case["zone"])
    expected = [periods.instant_us(datetime.fromisoformat(case[key])) for key in ("start_at", "end_at")]
    assert expected == [span.start_us, span.end_us]
