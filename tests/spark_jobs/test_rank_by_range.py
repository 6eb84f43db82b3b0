"""Boards by ranges: equal to contracts.ranking and to board.sql, row for row; the checks of big boards see each break."""

from __future__ import annotations

import random
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from contracts.ranking import Total, floor_reached, pack, rank

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tests.spark_jobs.conftest import Lake

START, ANCHOR_US, TICK_US = date(2024, 5, 1), 1_714_521_600_000_000, 1_000_000
SHAPE = (
    "period STRING, start DATE, zone STRING, scope STRING, user_no BIGINT, points BIGINT, reached_at_us BIGINT, "
    "anchor_us BIGINT, tick_us BIGINT, user_id STRING"
)
SIZES = {"global": 900, "quiz:a": 400, "quiz:b": 30, "quiz:c": 1}
ODD = ("", " ", "Z", "a", "é", "ü", "中", "😀", "￿", "'", '"', "\\")


def random_rows(seed: int) -> list[tuple[Any, ...]]:
    """Totals with few different points and instants (some before the anchor, some past the clamp) and odd user ids."""
    draw, rows = random.Random(seed), []
    for scope, size in SIZES.items():
        for number in range(size):
            points = draw.choice((0, 0, 1, 2, 3, 500, 2**31 - 1))
            tick = draw.choice((-5, 0, 1, 2, 3, 2**22 - 2, 2**22 - 1, 2**22 + 7))
            reached = ANCHOR_US + tick * TICK_US + draw.randrange(TICK_US) if points else None
            user = draw.choice(ODD) + format(draw.randrange(99), "x") + f"_{number}"
            rows.append(("monthly", START, "UTC", scope, number, points, reached, ANCHOR_US, TICK_US, user))
    draw.shuffle(rows)
    return rows


def by_contract(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """(scope, rank, user_id, points, reached_at_us) by contracts.ranking, in order."""
    found = []
    for scope in sorted(SIZES):
        totals = [
            Total(r[9], r[5], floor_reached(r[6], r[7], r[8]) if r[5] else None)
            for r in rows
            if r[3] == scope
        ]
        found += [(scope, one.rank, one.user_id, one.points, one.reached_at_us) for one in rank(totals)]
    return found


def in_order(found: DataFrame) -> list[tuple[Any, ...]]:
    return sorted((r.scope, r.rank, r.user_id, r.points, r.reached_at_us) for r in found.collect())


@pytest.fixture(scope="module")
def rows() -> list[tuple[Any, ...]]:
    return random_rows(11)


@pytest.fixture(scope="module")
def board_totals(lake: Lake, rows: list[tuple[Any, ...]]) -> DataFrame:
    return lake.spark.createDataFrame(rows, SHAPE).persist()


@pytest.mark.unit
def test_ranges_hold_every_key_once_in_order() -> None:
    from spark_jobs.rank_by_range import by_bytes, cuts, number_of_ranges, range_of, rows_before

    draw = random.Random(3)
    keys = [(pack(draw.randrange(4), 0), draw.choice(ODD) + str(i)) for i in range(500)]
    bounds = cuts(draw.sample(keys, 90), 7)
    assert 6 == len(bounds)
    placed = [range_of(key, bounds) for key in keys]
    assert set(range(7)) == set(placed)
    worst_first = sorted(keys, key=by_bytes)
    assert sorted(placed) == [range_of(key, bounds) for key in worst_first]
    counts = [placed.count(n) for n in range(7)]
    assert [sum(counts[n + 1 :]) for n in range(7)] == rows_before(counts)
    assert [] == cuts([], 5)
    assert 1 == len(cuts([(1, "a")] * 9, 5)), "one key is one cut"
    assert [1, 1, 2, 50] == [number_of_ranges(n) for n in (0, 1_000_000, 1_000_001, 50_000_000)]


@pytest.mark.unit
def test_shuffles_grow_with_the_rows_within_bounds() -> None:
    from spark_jobs.session import SHUFFLE_PARTITIONS, SHUFFLE_PARTITIONS_MAX, partitions_for

    expected = [SHUFFLE_PARTITIONS, SHUFFLE_PARTITIONS, 120, SHUFFLE_PARTITIONS_MAX]
    assert expected == [partitions_for(n) for n in (0, 2_000_000, 60_000_000, 10**12)]


@pytest.mark.engine
@pytest.mark.parametrize("big_rows,range_rows", [(10_000, 1), (300, 60), (1, 200)])
def test_by_ranges_equals_the_contract(
    board_totals: DataFrame, rows: list[tuple[Any, ...]], big_rows: int, range_rows: int
) -> None:
    """Above 10,000 rows all goes through board.sql; from 1 all by ranges; between, two boards of four."""
    from spark_jobs.rank_period import rankings

    assert by_contract(rows) == in_order(rankings(board_totals, big_rows, range_rows))


@pytest.mark.engine
def test_by_ranges_equals_the_shared_vectors(lake: Lake) -> None:
    from pyspark.sql import functions as F

    from spark_jobs.rank_period import rankings
    from tests.contracts.test_vectors import CASES, TOTALS_SQL, answer_rows

    answers = answer_rows()
    shape = ", ".join(f"{n} {'bigint' if isinstance(v, int) else 'string'}" for n, v in answers[0].items())
    lake.spark.createDataFrame([tuple(a.values()) for a in answers], shape).createOrReplaceTempView("answers")
    totals = lake.spark.sql(TOTALS_SQL).withColumn("start", F.col("start").cast("date"))
    expected = sorted(
        (case["name"], e["rank"], e["user_id"], e["points"], e["reached_at_us"])
        for case in CASES
        for e in case["expected"]
    )
    assert expected == in_order(rankings(totals, 1, 2))


@pytest.mark.engine
@pytest.mark.parametrize("big_rows", [1, 10_000])
def test_checks_see_what_is_broken(board_totals: DataFrame, big_rows: int) -> None:
    from pyspark.sql import functions as F

    from spark_jobs.checks import check_rankings
    from spark_jobs.rank_period import rankings

    totals = board_totals.where("scope = 'quiz:b'").persist()
    good = rankings(totals).persist()
    last = F.col("rank") == 30

    def broken(found: DataFrame) -> list[int]:
        return [int(check.bad) for check in check_rankings(found, totals, big_rows)]

    def put(column: str, value: Any) -> DataFrame:
        return good.withColumn(column, F.when(last, F.lit(value)).otherwise(F.col(column)))

    first = good.where("rank = 1").collect()[0]
    assert [0, 0, 0, 0] == broken(good)
    assert [0, 1, 0, 0] == broken(put("rank", 31)), "a gap"
    assert [0, 1, 0, 0] == broken(put("rank", 29)), "a repeated rank"
    assert [1, 0, 0, 0] == broken(put("user_id", first.user_id)), "a user again, under another number"
    twice = put("user_id", first.user_id).withColumn(
        "user_no", F.when(last, F.lit(first.user_no)).otherwise(F.col("user_no"))
    )
    assert [1, 0, 0, 0] == broken(twice), "a user again"
    assert 1 == broken(good.where("rank < 30"))[2], "a missing row"
    assert [0, 0, 0, 1] == broken(put("points", 7_777)), "other points"
