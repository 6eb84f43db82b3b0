"""Big boards ranked by ranges of their order: a rank is the rows of the ranges before plus the row's place in its own.

Home of the order: contracts/ranking.py (points down, reached_at up, user_id down by bytes); its packed score is the sort
key here. A window PARTITION BY board would sort a whole board in one task. What each task does, spark_jobs/rank_in_duckdb.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from contracts.ranking import TICK_MAX, TICK_SPAN, ticks_of
from spark_jobs import rank_in_duckdb
from spark_jobs.day_frames import local_rows
from spark_jobs.rank_in_duckdb import (
    CUT_SHAPE,
    NUMBERED_SHAPE,
    NUMBERS,
    SPLIT_SHAPE,
    SUMMANDS,
    Cut,
    Key,
    Piece,
    sort_and_number,
    split_by_user,
    sum_and_cut,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tasks travel with their code: an executor needs duckdb and pyarrow, and nothing of ours.
cloudpickle.register_pickle_by_value(rank_in_duckdb)

# One task sums a bucket of about so many users, or sorts a range of so many rows, within rank_in_duckdb.MEMORY_LIMIT.
RANGE_ROWS = 1_000_000
# A window sorts a board in one task: up to here that is one range's work, and a sample would only add jobs.
BIG_BOARD_ROWS = RANGE_ROWS
# Sampled rows per range: with 200, ranges differ by about 1/sqrt(200) = 7 % of their size.
SAMPLE_PER_RANGE = 200
BOARD = ["period", "start", "zone", "scope"]


@dataclass(frozen=True, slots=True)
class BigBoard:
    """A board's columns, its user-days (no fewer than its rows), and the anchor and tick of its packed scores (UTC µs, µs)."""

    period: str
    start: date
    zone: str
    scope: str
    user_days: int
    anchor_us: int
    tick_us: int


def number_of_ranges(rows: int, range_rows: int = RANGE_ROWS) -> int:
    """Ranges of about `range_rows` rows that `rows` rows are cut into; at least 1."""
    return max(1, -(-rows // range_rows))


def cuts(sample: Iterable[Key], ranges: int) -> list[Key]:
    """At most `ranges` − 1 different keys, worst first, that cut the sample into equal ranges.

    Range i holds the keys above the cut of i − 1 and up to its own, so equal scores may be cut by user_id.
    """
    ordered = sorted(sample, key=by_bytes)
    places = (len(ordered) * i // ranges for i in range(1, ranges))
    return sorted({ordered[place] for place in places if place < len(ordered)}, key=by_bytes)


def by_bytes(key: Key) -> tuple[int, bytes]:
    return key[0], key[1].encode()


def range_of(key: Key, bounds: Sequence[Key]) -> int:
    """Number of the range that holds the key, 0 for the worst: what rank_in_duckdb's search means for one key."""
    return bisect_left(bounds, by_bytes(key), key=by_bytes)


def rows_before(counts: Sequence[int]) -> list[int]:
    """Rows that rank above each range, from the rows of each, worst range first."""
    before, found = 0, []
    for count in reversed(counts):
        found.append(before)
        before += count
    return found[::-1]


def is_board(board: BigBoard) -> Column:
    """True for the rows of the board."""
    found = F.lit(True)
    for name in BOARD:
        found = found & (F.col(name) == F.lit(getattr(board, name)))
    return found


def not_on(rows: DataFrame, boards: Sequence[BigBoard]) -> DataFrame:
    """The rows of all other boards."""
    for board in boards:
        rows = rows.where(~is_board(board))
    return rows


def big_boards(per_day: DataFrame, period_rows: DataFrame, at_least: int = BIG_BOARD_ROWS) -> list[BigBoard]:
    """The boards with at least so many user-days, in their columns' order. period_rows: day_frames.period_frame."""
    rows = (
        per_day.groupBy("zone", "day", "scope")
        .count()
        .join(F.broadcast(period_rows), ["zone", "day"])
        .groupBy(*BOARD, "anchor_us", "tick_us")
        .agg(F.sum("count").alias("user_days"))
        .where(F.col("user_days") >= at_least)
        .orderBy(*BOARD)
        .select(*BOARD, "user_days", "anchor_us", "tick_us")
        .collect()
    )
    return [BigBoard(*row) for row in rows]


def summands(per_day: DataFrame, period_rows: DataFrame, boards: Sequence[BigBoard]) -> DataFrame:
    """User-days of the boards: board (its place among them), user_no, points, reached_at_us."""
    shape = "board INT, period STRING, start DATE, zone STRING, scope STRING"
    places = [(n, b.period, b.start, b.zone, b.scope) for n, b in enumerate(boards)]
    days = period_rows.join(local_rows(per_day.sparkSession, places, shape), BOARD[:3])
    return per_day.join(
        F.broadcast(days.select("zone", "day", "scope", "board")), ["zone", "day", "scope"]
    ).select("board", "user_no", "points", "reached_at_us")


@contextmanager
def ranked_by_range(
    rows: DataFrame, user_numbers: DataFrame, boards: Sequence[BigBoard], range_rows: int = RANGE_ROWS
) -> Iterator[DataFrame]:
    """Rows of the boards: the columns BOARD, rank, user_id, user_no, points, reached_at_us; a task's rows in their order.

    rows: `summands` of the boards; user_numbers: (user_no, user_id). The rows are kept beside Spark until the end.
    Steps: 1 sample users; 2 cut; 3 split by user, sum, cut; 4 count the rows of each range; 5 move each range to a task of
    its own, which sorts it. A range holds rows by their values alone, so that a task that runs twice gives the same ranks.
    """
    spark = rows.sparkSession
    scratch = spark.conf.get("spark.local.dir", "") or ""
    one_of = max(1, range_rows // SAMPLE_PER_RANGE)
    samples = _sampled(rows, user_numbers, boards, one_of)
    bounds = [cuts(sample, number_of_ranges(len(sample) * one_of, range_rows)) for sample in samples]
    firsts = [sum(len(b) + 1 for b in bounds[:index]) for index in range(len(boards) + 1)]
    cut = [
        Cut(index, bounds[index], firsts[index], board.anchor_us, board.tick_us)
        for index, board in enumerate(boards)
    ]
    buckets = number_of_ranges(sum(board.user_days for board in boards), range_rows)
    split = rows.mapInArrow(split_by_user(SUMMANDS, buckets, scratch), SPLIT_SHAPE).unionByName(
        user_numbers.select("user_no", "user_id").mapInArrow(
            split_by_user(NUMBERS, buckets, scratch), SPLIT_SHAPE
        )
    )
    pieces = (
        split.repartitionById(buckets, F.col("bucket"))
        .mapInArrow(sum_and_cut(cut, scratch), CUT_SHAPE)
        .persist(StorageLevel.DISK_ONLY)
    )
    try:
        counts = {row[0]: row[1] for row in pieces.groupBy("piece").agg(F.sum("rows")).collect()}
        yield _numbered(pieces, boards, cut, firsts, counts, scratch)
    finally:
        pieces.unpersist()


def _sampled(
    rows: DataFrame, user_numbers: DataFrame, boards: Sequence[BigBoard], one_of: int
) -> list[list[Key]]:
    """Keys of each board, of one of so many users: whole users, so that their sums are right."""
    chosen = F.pmod(F.xxhash64("user_no"), F.lit(one_of)) == 0
    sums = (
        rows.where(chosen)
        .groupBy("board", "user_no")
        .agg(F.sum("points").alias("points"), F.max("reached_at_us").alias("reached_at_us"))
        .join(user_numbers.where(chosen), "user_no")
        .select("board", "points", "reached_at_us", "user_id")
    )
    found: list[list[Key]] = [[] for _ in boards]
    for index, points, reached, user_id in sums.collect():
        board = boards[index]
        ticks = TICK_MAX if reached is None else ticks_of(reached, board.anchor_us, board.tick_us)
        # Not ranking.pack: sums of the lake may pass what one board in Redis holds.
        found[index].append((points * TICK_SPAN + TICK_MAX - ticks, user_id))
    return found


def _numbered(
    pieces: DataFrame,
    boards: Sequence[BigBoard],
    cut: Sequence[Cut],
    firsts: Sequence[int],
    counts: dict[int, int],
    scratch: str,
) -> DataFrame:
    places: list[Piece] = []
    where: list[tuple[object, ...]] = []
    for index, board in enumerate(boards):
        numbers = range(firsts[index], firsts[index + 1])
        before = rows_before([counts.get(n, 0) for n in numbers])
        places += [Piece(b, cut[index].anchor_tick, board.tick_us) for b in before]
        where += [(n, board.period, board.start, board.zone, board.scope) for n in numbers]
    shape = "piece INT, period STRING, start DATE, zone STRING, scope STRING"
    return (
        pieces.repartitionById(len(places), F.col("piece"))
        .mapInArrow(sort_and_number(places, scratch), NUMBERED_SHAPE)
        .join(F.broadcast(local_rows(pieces.sparkSession, where, shape)), "piece")
        .select(*BOARD, "rank", "user_id", "user_no", "points", "reached_at_us")
    )
