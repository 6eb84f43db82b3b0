"""Big boards ranked by ranges of their order: a rank is the rows of the ranges before plus the row's place in its own.

Home of the order: contracts/ranking.py (points down, reached_at up, user_id down by bytes); its packed score is the sort
key here, and tests/vectors hold this twin too. A window PARTITION BY board would sort a whole board in one task.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from contracts.ranking import TICK_BITS, TICK_MAX, TICK_SPAN
from spark_jobs.day_frames import local_rows

# One task sorts a range in memory: a million rows of about 60 bytes and 16 of its pointers are 80 MB, and two such
# tasks fit the smallest driver. Below it a board is one task by the window anyway.
RANGE_ROWS = 1_000_000
# A window sorts a board in one task: up to here that is one range's work, and a sample would only add jobs.
BIG_BOARD_ROWS = RANGE_ROWS
# Sampled rows per range: with 200, ranges differ by about 1/sqrt(200) = 7 % of their size.
SAMPLE_PER_RANGE = 200
SAMPLE_SEED = 20_240_601
BOARD = ["period", "start", "zone", "scope"]
# (packed score, user_id): greater comes first on a board, user_id by bytes.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class BigBoard:
    """A board's columns, its number of rows, and the anchor and tick that its packed scores count from (UTC µs, µs)."""

    period: str
    start: date
    zone: str
    scope: str
    rows: int
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
    """Number of the range that holds the key, 0 for the worst: `range_column`'s meaning for one key."""
    return bisect_left(bounds, by_bytes(key), key=by_bytes)


def rows_before(counts: Sequence[int]) -> list[int]:
    """Rows that rank above each range, from the rows of each, worst range first."""
    before, found = 0, []
    for count in reversed(counts):
        found.append(before)
        before += count
    return found[::-1]


def packed_column() -> Column:
    """contracts.ranking.pack over totals; at 0 points (or below) no tick counts."""
    tick = F.expr("(reached_at_us - pmod(reached_at_us, tick_us)) div tick_us")
    anchor = F.expr("(anchor_us - pmod(anchor_us, tick_us)) div tick_us")
    ticks = F.least(F.greatest(tick - anchor, F.lit(0)), F.lit(TICK_MAX))
    base = F.col("points").cast("bigint") * F.lit(TICK_SPAN)
    return F.when(F.col("points") > 0, base + F.lit(TICK_MAX) - ticks).otherwise(base)


def range_column(bounds: Sequence[Key], first: int) -> Column:
    """Number of a row's range, counted from `first`: a binary search over `packed` and `user_id`."""
    if not bounds:
        return F.lit(first)
    middle = len(bounds) // 2
    packed, user_id = bounds[middle]
    above = (F.col("packed") > F.lit(packed)) | (
        (F.col("packed") == F.lit(packed)) & (F.col("user_id") > F.lit(user_id))
    )
    return F.when(above, range_column(bounds[middle + 1 :], first + middle + 1)).otherwise(
        range_column(bounds[:middle], first)
    )


def is_board(board: BigBoard) -> Column:
    """True for the rows of the board."""
    found = F.lit(True)
    for name in BOARD:
        found = found & (F.col(name) == F.lit(getattr(board, name)))
    return found


def not_on(board_totals: DataFrame, boards: Sequence[BigBoard]) -> DataFrame:
    """The rows of all other boards."""
    for board in boards:
        board_totals = board_totals.where(~is_board(board))
    return board_totals


def big_boards(board_totals: DataFrame, at_least: int) -> list[BigBoard]:
    """The boards with at least so many rows, in their columns' order."""
    rows = (
        board_totals.groupBy(*BOARD)
        .agg(F.count("*").alias("rows"), F.first("anchor_us"), F.first("tick_us"))
        .where(F.col("rows") >= at_least)
        .orderBy(*BOARD)
        .collect()
    )
    return [BigBoard(*row) for row in rows]


def ranked_by_range(
    board_totals: DataFrame, boards: Sequence[BigBoard], range_rows: int = RANGE_ROWS
) -> DataFrame:
    """Rows of the boards: the columns BOARD, rank, user_id, user_no, points, reached_at_us, sorted within each range.

    Steps: 1 sample; 2 cut; 3 count the rows of each range; 4 move each range to a task of its own, which sorts it. A
    range holds rows by their values alone, so that totals computed twice give the same ranks.
    """
    number = F.lit(None).cast("int")
    for index, board in enumerate(boards):
        number = F.when(is_board(board), F.lit(index)).otherwise(number)
    keyed = board_totals.select(
        number.alias("board"), packed_column().alias("packed"), "user_id", "user_no"
    ).where("board IS NOT NULL")
    ranges = [number_of_ranges(board.rows, range_rows) for board in boards]
    fraction = min(1.0, SAMPLE_PER_RANGE * sum(ranges) / sum(board.rows for board in boards))
    sampled: list[list[Key]] = [[] for _ in boards]
    for row in keyed.select("board", "packed", "user_id").sample(fraction, SAMPLE_SEED).collect():
        sampled[row.board].append((row.packed, row.user_id))
    bounds = [cuts(sample, n) for sample, n in zip(sampled, ranges, strict=True)]
    firsts = [sum(len(b) + 1 for b in bounds[:index]) for index in range(len(boards) + 1)]
    piece = F.lit(None).cast("int")
    for index in range(len(boards)):
        piece = F.when(F.col("board") == index, range_column(bounds[index], firsts[index])).otherwise(piece)
    pieces = keyed.withColumn("piece", piece).drop("board")
    counts = {row[0]: row[1] for row in pieces.groupBy("piece").count().collect()}
    where = []
    for index, board in enumerate(boards):
        numbers = range(firsts[index], firsts[index + 1])
        before = rows_before([counts.get(n, 0) for n in numbers])
        where += [
            (n, b, board.period, board.start, board.zone, board.scope, board.anchor_us, board.tick_us)
            for n, b in zip(numbers, before, strict=True)
        ]
    return _numbered(pieces, where)


def _numbered(pieces: DataFrame, where: Sequence[tuple[object, ...]]) -> DataFrame:
    shape = (
        "piece INT, before BIGINT, period STRING, start DATE, zone STRING, scope STRING, anchor_us BIGINT, "
        "tick_us BIGINT"
    )
    placed = (
        pieces.repartitionById(len(where), F.col("piece"))
        .sortWithinPartitions(F.desc("packed"), F.desc("user_id"))
        # The low 33 bits count a task's rows in their order; its high bits are the task's number.
        .withColumn("place", F.monotonically_increasing_id().bitwiseAND(F.lit((1 << 33) - 1)))
    )
    ticks = F.lit(TICK_MAX) - F.col("packed").bitwiseAND(F.lit(TICK_MAX))
    anchor_tick = F.expr("(anchor_us - pmod(anchor_us, tick_us)) div tick_us")
    return placed.join(F.broadcast(local_rows(pieces.sparkSession, where, shape)), "piece").select(
        *BOARD,
        (F.col("before") + F.col("place") + F.lit(1)).alias("rank"),
        "user_id",
        "user_no",
        F.shiftright("packed", TICK_BITS).alias("points"),
        F.when(F.col("packed") > 0, (anchor_tick + ticks) * F.col("tick_us")).alias("reached_at_us"),
    )
