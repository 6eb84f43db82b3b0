"""A class' board over any range: the sums of its parent's users, joined with who was a member when (contracts/classes.py).

Memberships come with the query, as a small table; the lake keeps none of them. Each stay counts a published month that it
holds whole from user_months, any other whole published day from user_days, whole days that Redis holds as they are given,
and all else of it answer by answer. So no answer is taken twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import duckdb
import pyarrow as pa

from contracts.classes import ZONE, Clip
from contracts.correction_sql import text
from contracts.periods import first_day, next_start, span
from contracts.replies import Bound, RangePage, Wanted
from contracts.sampling import CONFIDENCE, bound_of, in_sample_sql
from lake.counted import ROLLED_UP, SUMMED
from lake.page_query import PageQuery, Sources, column_of, inside, one_of
from lake.slices import read_slices

# Answers that were given by members while they were.
OF_MEMBERS = (
    "(SELECT counted.*, m.days_from_us, m.days_to_us FROM counted JOIN membership AS m USING (user_no) "
    "WHERE occurred_at_us >= m.from_us AND occurred_at_us < m.to_us)"
)
_SCHEMA = pa.schema(
    [
        ("user_no", pa.int64()),
        ("user_id", pa.string()),
        ("from_us", pa.int64()),
        ("to_us", pa.int64()),
        # whole days [first_day, end_day) and months [first_month, end_month) of the stay; the days as instants too
        ("first_day", pa.date32()),
        ("end_day", pa.date32()),
        ("days_from_us", pa.int64()),
        ("days_to_us", pa.int64()),
        ("first_month", pa.date32()),
        ("end_month", pa.date32()),
    ]
)


def register_members(connection: duckdb.DuckDBPyConnection, members: Sequence[Clip]) -> None:
    """Make the relation `membership`: one row per stay."""
    rows = []
    for clip in members:
        first = first_day("monthly", clip.first_day - timedelta(days=1))
        rows.append(
            {
                "user_no": clip.user_no,
                "user_id": clip.user_id,
                "from_us": clip.from_us,
                "to_us": clip.to_us,
                "first_day": clip.first_day,
                "end_day": clip.end_day,
                "days_from_us": span("daily", clip.first_day, ZONE).start_us,
                "days_to_us": span("daily", clip.end_day, ZONE).start_us,
                "first_month": next_start("monthly", first),
                "end_month": first_day("monthly", clip.end_day),
            }
        )
    connection.register("membership", pa.Table.from_pylist(rows, schema=_SCHEMA))


@dataclass
class MembersQuery(PageQuery):
    """One query of members' sums of a measure. scope: the parent's. fast: one of 64 buckets of users, scaled up."""

    zone: str
    sources: Sources
    members: Sequence[Clip]
    fast: bool = False
    measure: str = "points"

    def _run(self, wanted: Wanted) -> RangePage:
        register_members(self._connection, self.members)
        parts = [self._months(), self._days(), self._answers(), self._held()]
        there = " UNION ALL ".join(part for part in parts if part) or _NOTHING
        self._go_on()
        # One row per user that answered while a member.
        self._connection.execute(
            "CREATE TEMP TABLE sums AS SELECT user_no, CAST(sum(points) AS BIGINT) AS points, "
            f"max(reached_at_us) AS reached_at_us, {in_sample_sql('user_no') if self.fast else 'true'} AS counts "
            f"FROM ({there}) GROUP BY user_no"
        )
        self._connection.execute("CREATE TEMP VIEW known AS SELECT DISTINCT user_no, user_id FROM membership")
        asked_for = ", ".join(text(one) for one in sorted({wanted.user_id, *wanted.users}))
        self._connection.execute(
            f"CREATE TEMP TABLE asked_users AS SELECT user_no, user_id FROM known WHERE user_id IN ({asked_for})"
        )
        page, counted = read_slices(self._connection, self.asked.start_us, wanted, self.fast)
        bound = Bound(bound_of(counted), CONFIDENCE) if self.fast else None
        return self._read(page, len(self.sources.held), bound)

    def _months(self) -> str:
        """Rows of published months, of those who were members all month."""
        held = "month >= m.first_month AND month < m.end_month"
        return self._rolled_up("user_months", held)

    def _days(self) -> str:
        """Rows of published days, of those who were members all day; not of those whom the day's month has counted."""
        held = "day >= m.first_day AND day < m.end_day"
        months = self.sources.starts("user_months")
        for month in months:
            inside_month = f"day >= DATE '{month}' AND day < DATE '{next_start('monthly', month)}'"
            held_month = f"DATE '{month}' >= m.first_month AND DATE '{month}' < m.end_month"
            held += f" AND NOT ({inside_month} AND {held_month})"
        return self._rolled_up("user_days", held)

    def _rolled_up(self, name: str, held: str) -> str:
        starts = self.sources.starts(name)
        if not starts:
            return ""
        self._view_roll_up(name, self.sources.snapshots[name], starts)
        return (
            f"SELECT user_no, {ROLLED_UP[self.measure]} FROM {name} JOIN membership AS m USING (user_no) "
            f"WHERE scope = {text(str(self.scope))} AND zone = {text(self.zone)} "
            f"AND ({one_of(column_of(name), starts)}) AND {held}"
        )

    def _answers(self) -> str:
        """Sums of answers: of days and edges that nothing else has, and of the days that a stay cuts, for that stay."""
        whole, cut = self.sources.answers, self.sources.cut
        if not whole and not cut:
            return ""
        self._view_counted([*whole, *cut], self.sources)
        taken = [f"({inside(whole)})"] if whole else []
        if cut:
            other = "NOT (occurred_at_us >= days_from_us AND occurred_at_us < days_to_us)"
            taken.append(f"(({inside(cut)}) AND {other})")
        return f"SELECT user_no, {SUMMED[self.measure]} FROM {OF_MEMBERS} WHERE {' OR '.join(taken)} GROUP BY user_no"

    def _held(self) -> str:
        """Whole days that Redis holds, of those who were members all day: the caller asked for no others."""
        if not self.sources.held:
            return ""
        users, points, reached = zip(*self.sources.held, strict=True)
        table = {
            "user_id": pa.array(users, pa.string()),
            "points": pa.array(points, pa.int64()),
            "reached_at_us": pa.array(reached, pa.int64()),
        }
        self._connection.register("held", pa.table(table))
        return (
            "SELECT user_no, points, reached_at_us FROM held "
            "JOIN (SELECT DISTINCT user_no, user_id FROM membership) USING (user_id)"
        )


_NOTHING = (
    "SELECT CAST(0 AS BIGINT) AS user_no, 0 AS points, CAST(NULL AS BIGINT) AS reached_at_us WHERE false"
)
