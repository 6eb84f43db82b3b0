"""The rows of a board that are wanted, without an order of all its users: slices by points, ranked by contracts/board.sql.

A row's rank is the number of users with more points than its slice, plus its place inside the slice; a slice holds every
user between two counts of points, so that ties are whole. Ranking a million users to show ten took most of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import duckdb

from contracts.correction_sql import text
from contracts.periods import iso_ms
from contracts.ranking import POINTS_MAX, RANGE_TICK_US
from contracts.replies import BoardPage, Entry, UserRank, Wanted
from contracts.sampling import BUCKETS, in_sample_sql, scaled

_TOP, _NEAR = "top", "near"
# Sums of a range may pass what one board in Redis holds.
_ABOVE_ALL = POINTS_MAX * POINTS_MAX


@dataclass(frozen=True, slots=True)
class Slice:
    """Every user with low … high points."""

    name: str
    low: int
    high: int


def read_slices(
    connection: duckdb.DuckDBPyConnection, anchor_us: int, wanted: Wanted, fast: bool
) -> tuple[BoardPage, int]:
    """The page, and how many users of `sums` count (in a sample: those of the sample).

    Needs the table sums (user_no, points, reached_at_us, counts), the relations known and asked_users (user_no, user_id).
    """
    counted = int(_value(connection, "SELECT count(*) FROM sums WHERE counts") or 0)
    scores = dict(
        connection.execute("SELECT user_id, points FROM asked_users JOIN sums USING (user_no)").fetchall()
    )
    slices = _slices(connection, wanted, scores)
    rows = _ranked(connection, anchor_us, slices, wanted, fast) if slices else {}
    near = rows.get(_NEAR, [])
    me = next((entry for entry in near if entry.user_id == wanted.user_id), None)
    by_user = {entry.user_id: entry for name, shown in rows.items() if name != _TOP for entry in shown}
    ranks = tuple(UserRank(user, by_user.get(user)) for user in wanted.users)
    participants = scaled(counted) if fast else counted
    return BoardPage(tuple(rows.get(_TOP, [])), participants, me, tuple(near), ranks), counted


def _slices(connection: duckdb.DuckDBPyConnection, wanted: Wanted, scores: dict[str, int]) -> list[Slice]:
    """The top, the asked user's neighbourhood, and one slice for each count of points among the users asked for."""
    found = []
    if wanted.k:
        low = _value(connection, f"SELECT min(points) FROM ({_nearest('true', 'DESC', wanted.k)})")
        found += [] if low is None else [Slice(_TOP, low, _ABOVE_ALL)]
    if wanted.user_id in scores:
        own = scores[wanted.user_id]
        high = _value(connection, f"SELECT max(points) FROM ({_nearest(f'points > {own}', 'ASC', wanted.m)})")
        low = _value(connection, f"SELECT min(points) FROM ({_nearest(f'points < {own}', 'DESC', wanted.m)})")
        found.append(Slice(_NEAR, own if low is None else low, own if high is None else high))
    for points in sorted({scores[user] for user in wanted.users if user in scores}):
        found.append(Slice(str(points), points, points))
    return found


def _nearest(where: str, order: str, count: int) -> str:
    return f"SELECT points FROM sums WHERE counts AND {where} ORDER BY points {order} LIMIT {count}"


def _value(connection: duckdb.DuckDBPyConnection, query: str) -> int | None:
    found: int | None = connection.execute(query).fetchall()[0][0]
    return found


def _ranked(
    connection: duckdb.DuckDBPyConnection,
    anchor_us: int,
    slices: Sequence[Slice],
    wanted: Wanted,
    fast: bool,
) -> dict[str, list[Entry]]:
    """The rows of each slice that are shown, best first, ranked among all users (of a sample: estimated)."""
    counts = ", ".join(f"count(*) FILTER (points > {one.high})" for one in slices)
    ahead = connection.execute(f"SELECT {counts} FROM sums WHERE counts").fetchall()[0]
    above = {one.name: int(count) for one, count in zip(slices, ahead, strict=True)}
    # Those asked for who are not of the sample have a place in their own slices alone.
    me = f"SELECT user_no FROM asked_users WHERE user_id = {text(wanted.user_id)}"
    beside = {_TOP: "counts", _NEAR: f"(counts OR user_no IN ({me}))"}
    members = " UNION ALL ".join(
        f"SELECT '{one.name}' AS scope, user_no, points, reached_at_us FROM sums "
        f"WHERE points BETWEEN {one.low} AND {one.high} AND {beside.get(one.name, 'true')}"
        for one in slices
    )
    connection.execute(f"CREATE TEMP TABLE members AS {members}")
    connection.execute(
        "CREATE TEMP VIEW totals AS SELECT 'range' AS period, DATE '1970-01-01' AS start, 'UTC' AS zone, scope, user_id, "
        f"user_no, points, reached_at_us, CAST({int(anchor_us)} AS BIGINT) AS anchor_us, "
        f"CAST({RANGE_TICK_US} AS BIGINT) AS tick_us FROM members JOIN "
        # names only of those who are shown or tie with them
        "(SELECT DISTINCT user_no, user_id FROM known SEMI JOIN members USING (user_no)) USING (user_no)"
    )
    exact = files("contracts").joinpath("board.sql").read_text()
    counts_too = in_sample_sql("user_no") if fast else "true"
    connection.execute(
        f"CREATE TEMP TABLE ordered AS SELECT scope, user_id, points, reached_at_us, rank, CAST(count(*) FILTER ({counts_too}) "
        "OVER (PARTITION BY scope ORDER BY rank ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS BIGINT) AS before "
        f"FROM ({exact})"
    )
    place = f"(SELECT rank FROM ordered WHERE scope = '{_NEAR}' AND user_id = {text(wanted.user_id)})"
    found = connection.execute(
        "SELECT scope, user_id, points, reached_at_us, before FROM ordered WHERE CASE scope "
        f"WHEN '{_TOP}' THEN rank <= {int(wanted.k)} WHEN '{_NEAR}' THEN abs(rank - {place}) <= {int(wanted.m)} "
        "ELSE user_id IN (SELECT user_id FROM asked_users) END ORDER BY scope, rank"
    ).fetchall()
    rows: dict[str, list[Entry]] = {}
    for name, user, points, reached, before in found:
        rank = 1 + (BUCKETS if fast else 1) * (above[name] + before)
        reached_at = None if reached is None else iso_ms(reached)
        rows.setdefault(name, []).append(Entry(rank, user, points, reached_at))
    return rows
