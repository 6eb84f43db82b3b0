"""Boards by ranges: equal to contracts.ranking and to board.sql, row for row; the checks of big boards see each break."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from contracts.ranking import Total, floor_reached, pack, rank

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tests.spark_jobs.conftest import Lake

START, ANCHOR_US, TICK_US = date(2024, 5, 1), 1_714_521_600_000_000, 1_000_000
DAYS_SHAPE = "scope STRING, zone STRING, day DATE, user_no BIGINT, points BIGINT, reached_at_us BIGINT"
SIZES = {"global": 900, "quiz:a": 400, "quiz:b": 30, "quiz:c": 1}
ODD = ("", " ", "Z", "a", "é", "ü", "中", "😀", "￿", "'", '"', "\\")


Row = tuple[str, int, str, int, int | None]


def random_rows(seed: int) -> list[Row]:
    """(scope, user_no, user_id, points, reached_at_us) with few different points and instants (some before the anchor,
    some past the clamp) and odd user ids; a user is on one board."""
    draw, rows = random.Random(seed), []
    for scope, size in SIZES.items():
        for _ in range(size):
            points = draw.choice((0, 0, 1, 2, 3, 500, 2**31 - 1))
            tick = draw.choice((-5, 0, 1, 2, 3, 2**22 - 2, 2**22 - 1, 2**22 + 7))
            reached = ANCHOR_US + tick * TICK_US + draw.randrange(TICK_US) if points else None
            number = len(rows)
            rows.append(
                (
                    scope,
                    number,
                    draw.choice(ODD) + format(draw.randrange(99), "x") + f"_{number}",
                    points,
                    reached,
                )
            )
    draw.shuffle(rows)
    return rows


def user_days(rows: list[Row]) -> list[tuple[Any, ...]]:
    """The same totals as user-days of May: some in one, some in two of which either holds the instant."""
    draw, found = random.Random(5), []
    for scope, number, _, points, reached in rows:
        if points > 1 and draw.random() < 0.5:
            first = draw.randrange(1, points)
            earlier = None if reached is None else reached - draw.randrange(10**9)
            found.append((scope, "UTC", date(2024, 5, 3), number, first, earlier))
            points -= first
        found.append((scope, "UTC", date(2024, 5, draw.randrange(4, 32)), number, points, reached))
    draw.shuffle(found)
    return found


def by_contract(rows: list[Row]) -> list[tuple[Any, ...]]:
    """(scope, rank, user_id, points, reached_at_us) by contracts.ranking, in order."""
    found = []
    for scope in sorted(SIZES):
        totals = [
            Total(user, points, floor_reached(reached, ANCHOR_US, TICK_US) if reached is not None else None)
            for own, _, user, points, reached in rows
            if own == scope
        ]
        found += [(scope, one.rank, one.user_id, one.points, one.reached_at_us) for one in rank(totals)]
    return found


def in_order(found: DataFrame) -> list[tuple[Any, ...]]:
    return sorted((r.scope, r.rank, r.user_id, r.points, r.reached_at_us) for r in found.collect())


@dataclass(frozen=True)
class May:
    """User-days of one month, as a settlement has them."""

    rows: list[Row]
    per_day: DataFrame
    period_rows: DataFrame
    user_numbers: DataFrame


@pytest.fixture(scope="module")
def may(lake: Lake) -> May:
    from spark_jobs.day_frames import period_frame

    rows = random_rows(11)
    numbers = lake.spark.createDataFrame([(row[1], row[2]) for row in rows], "user_no BIGINT, user_id STRING")
    return May(
        rows,
        lake.spark.createDataFrame(user_days(rows), DAYS_SHAPE).persist(),
        period_frame(lake.spark, [("monthly", START, "UTC")]),
        numbers.persist(),
    )


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
@pytest.mark.parametrize("big_rows,range_rows", [(300, 100), (1, 400)])
def test_big_and_small_boards_equal_the_contract(may: May, big_rows: int, range_rows: int) -> None:
    """From 300 user-days on two boards of four go by ranges, from 1 all of them."""
    from spark_jobs.rank_by_range import big_boards, ranked_by_range, summands
    from spark_jobs.rank_period import rankings, totals

    big = big_boards(may.per_day, may.period_rows, big_rows)
    assert (["global", "quiz:a"] if big_rows == 300 else sorted(SIZES)) == [board.scope for board in big]
    small = in_order(rankings(totals(may.per_day, may.period_rows, may.user_numbers, big)))
    rows = summands(may.per_day, may.period_rows, big)
    with ranked_by_range(rows, may.user_numbers, big, range_rows) as found:
        assert by_contract(may.rows) == sorted(small + in_order(found))


@pytest.mark.engine
def test_by_ranges_equals_the_shared_vectors(lake: Lake) -> None:
    from spark_jobs.rank_by_range import BigBoard, ranked_by_range
    from tests.contracts.test_vectors import CASES, answer_rows

    answers = answer_rows()
    key = ("period", "start", "zone", "scope", "anchor_us", "tick_us")
    boards = sorted({tuple(answer[name] for name in key) for answer in answers})
    users = {user: number for number, user in enumerate(sorted({a["user_id"] for a in answers}))}
    rows = lake.spark.createDataFrame(
        [
            (
                boards.index(tuple(a[name] for name in key)),
                users[a["user_id"]],
                a["points"],
                a["occurred_at_us"] if a["points"] > 0 else None,
            )
            for a in answers
        ],
        "board INT, user_no BIGINT, points BIGINT, reached_at_us BIGINT",
    )
    numbers = lake.spark.createDataFrame(list(users.items()), "user_id STRING, user_no BIGINT")
    big = [
        BigBoard(period, date.fromisoformat(start), zone, scope, 4, anchor_us, tick_us)
        for period, start, zone, scope, anchor_us, tick_us in boards
    ]
    expected = sorted(
        (case["name"], e["rank"], e["user_id"], e["points"], e["reached_at_us"])
        for case in CASES
        for e in case["expected"]
    )
    with ranked_by_range(rows, numbers, big, 40) as found:
        assert expected == in_order(found)


@pytest.mark.engine
@pytest.mark.parametrize("by_ranges", [pytest.param(True, marks=pytest.mark.long), False])
def test_checks_see_what_is_broken(may: May, by_ranges: bool) -> None:
    from pyspark.sql import functions as F

    from spark_jobs.big_board_checks import check_big_rankings
    from spark_jobs.checks import check_rankings
    from spark_jobs.rank_by_range import big_boards, summands
    from spark_jobs.rank_period import rankings, totals

    per_day = may.per_day.where("scope = 'quiz:b'").persist()
    board_totals = totals(per_day, may.period_rows, may.user_numbers).persist()
    good = rankings(board_totals).persist()
    big = big_boards(per_day, may.period_rows, 1)
    rows = summands(per_day, may.period_rows, big)
    last = F.col("rank") == 30

    def broken(found: DataFrame) -> list[int]:
        checks = (
            check_big_rankings(found, rows, may.user_numbers, big)
            if by_ranges
            else check_rankings(found, board_totals)
        )
        return [int(check.bad) for check in checks[:4]]

    def put(column: str, value: Any) -> DataFrame:
        return good.withColumn(column, F.when(last, F.lit(value)).otherwise(F.col(column)))

    first = good.where("rank = 1").collect()[0]
    assert [0, 0, 0, 0] == broken(good)
    assert [0, 1, 0, 0] == broken(put("rank", 31)), "a gap"
    assert [0, 1, 0, 0] == broken(put("rank", 29)), "a repeated rank"
    assert 1 == broken(put("user_id", first.user_id))[0], "a user again, under another number"
    twice = put("user_id", first.user_id).withColumn(
        "user_no", F.when(last, F.lit(first.user_no)).otherwise(F.col("user_no"))
    )
    assert 1 == broken(twice)[0], "a user again"
    assert 1 == broken(good.where("rank < 30"))[2], "a missing row"
    assert [0, 0, 0, 1] == broken(put("points", 7_777)), "other points"
    swapped = good.withColumn("rank", F.expr("CASE rank WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE rank END"))
    if by_ranges:
        tops = [check_big_rankings(found, rows, may.user_numbers, big)[4].bad for found in (good, swapped)]
        assert [0, 2] == tops
