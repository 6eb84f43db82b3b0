"""A board over any range, from user-months, user-days and answers: sums by user, then the exact board query (CONTRACTS D5, D6).

Who decides which day comes from where is contracts/ranges.py; rows that Redis holds come in as `held`; which rows of the
sums need an order is lake/slices.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from contracts.correction_sql import text
from contracts.replies import Bound, RangePage, Wanted
from contracts.sampling import BUCKETS, CONFIDENCE, bound_of, in_sample_sql
from lake.counted import ROLLED_UP, SUMMED
from lake.page_query import PageQuery, Sources, column_of, direct_bits, in_scope, inside, one_of
from lake.slices import read_slices


@dataclass
class RangeQuery(PageQuery):
    """One query of users' sums of a measure. fast: one of 64 buckets of users, scaled up."""

    zone: str
    sources: Sources
    fast: bool = False
    measure: str = "points"

    def _run(self, wanted: Wanted) -> RangePage:
        asked_for = {wanted.user_id, *wanted.users} - {""}
        self._answer_sums(asked_for)
        known_rows = self._known_users()
        self._connection.register(
            "asked_for", pa.table({"user_id": pa.array(sorted(asked_for), pa.string())})
        )
        self._held_sums()
        self._connection.execute(
            "CREATE TEMP VIEW known AS SELECT * FROM known_to_lake UNION ALL SELECT user_no, user_id FROM held_sums"
        )
        self._connection.execute(
            "CREATE TEMP TABLE asked_users AS SELECT DISTINCT user_no, user_id FROM known "
            "SEMI JOIN asked_for USING (user_id)"
        )
        parts = [part for part in (self._rolled_up("user_months"), self._rolled_up("user_days")) if part]
        # Not where they are empty: a union hides the files' statistics, without which sums cost more.
        parts += ["SELECT user_no, points, reached_at_us FROM held_sums"] if self.sources.held else []
        if self.sources.answers or not parts:
            parts.append("SELECT user_no, points, reached_at_us FROM answer_sums")
        self._go_on()
        # A sample's users lie wide apart: a table for all of them costs more than hashing a few.
        rows = (self._rows - known_rows + len(self.sources.held)) // (BUCKETS if self.fast else 1)
        self._connection.execute(f"SET perfect_ht_threshold = {direct_bits(rows, self._threads)}")
        # One row per user. The users of rolled-up parts need no filter again: each part has left out its own.
        self._connection.execute(
            "CREATE TEMP TABLE sums AS SELECT user_no, CAST(sum(points) AS BIGINT) AS points, "
            "max(reached_at_us) AS reached_at_us, "
            f"{in_sample_sql('user_no') if self.fast else 'true'} AS counts "
            f"FROM ({' UNION ALL '.join(parts)}) GROUP BY user_no"
        )
        page, counted = read_slices(self._connection, self.asked.start_us, wanted, self.fast)
        bound = Bound(bound_of(counted), CONFIDENCE) if self.fast else None
        return self._read(page, len(self.sources.held), bound)

    def _sampled(self, wanted_too: str) -> str:
        """The condition that leaves users out: none, or all but the sample and those who were asked for."""
        return f"({in_sample_sql('user_no')} OR {wanted_too})" if self.fast else "true"

    def _answer_sums(self, asked_for: set[str]) -> None:
        """answer_sums: one row per user (user_no, user_id, points, reached_at_us) of edges and days nothing else has."""
        spans = self.sources.answers
        if not spans:
            self._connection.execute(
                "CREATE TEMP TABLE answer_sums (user_no BIGINT, user_id VARCHAR, points BIGINT, reached_at_us BIGINT)"
            )
            return
        self._view_counted(spans, self.sources)
        users = ", ".join(text(user) for user in sorted(asked_for))
        sampled = self._sampled(f"user_id IN ({users})" if users else "false")
        self._connection.execute(
            f"CREATE TEMP TABLE answer_sums AS SELECT user_no, min(user_id) AS user_id, {SUMMED[self.measure]} "
            f"FROM counted WHERE ({inside(spans)}) AND {in_scope(self.scope)} AND {sampled} GROUP BY user_no"
        )

    def _known_users(self) -> int:
        """known_to_lake: (user_no, user_id) of the settlement's user_numbers and of the answers read, some twice.

        Returns the rows of user_numbers, which no sum reads.
        """
        read_before, numbers = self._rows, "SELECT user_no, user_id FROM answer_sums"
        if "user_numbers" in self.sources.snapshots:
            self._view("user_numbers", self.sources.snapshots["user_numbers"], None)
            numbers += " UNION ALL SELECT user_no, user_id FROM user_numbers"
        self._connection.execute(f"CREATE TEMP VIEW known_to_lake AS {numbers}")
        return self._rows - read_before

    def _held_sums(self) -> None:
        """held_sums: one row per user of the days that Redis holds; who is new to the lake gets a number below 0."""
        held = self.sources.held
        users, points, reached = zip(*held, strict=True) if held else ((), (), ())
        table = pa.table(
            {
                "user_id": pa.array(users, pa.string()),
                "points": pa.array(points, pa.int64()),
                "reached_at_us": pa.array(reached, pa.int64()),
            }
        )
        self._connection.register("held", table)
        # No look at who is known where nobody is held: most ranges have no such day, and user_numbers is long.
        known = (
            "(SELECT DISTINCT user_no, user_id FROM known_to_lake SEMI JOIN held USING (user_id))"
            if held
            else "(SELECT 0 AS user_no, '' AS user_id WHERE false)"
        )
        sampled = self._sampled("user_id IN (SELECT user_id FROM asked_for)")
        self._connection.execute(
            "CREATE TEMP TABLE held_sums AS SELECT * FROM ("
            "SELECT coalesce(user_no, -row_number() OVER (ORDER BY user_id)) AS user_no, user_id, points, reached_at_us "
            "FROM (SELECT user_id, CAST(sum(points) AS BIGINT) AS points, max(reached_at_us) AS reached_at_us "
            f"FROM held GROUP BY user_id) LEFT JOIN {known} USING (user_id)) WHERE {sampled}"
        )

    def _rolled_up(self, name: str) -> str:
        """Rows of the months or days that are settled and whole; their sums by user are the caller's."""
        starts = self.sources.starts(name)
        if not starts:
            return ""
        self._view_roll_up(name, self.sources.snapshots[name], starts)
        sampled = self._sampled("user_no IN (SELECT user_no FROM asked_users)")
        return (
            f"SELECT user_no, {ROLLED_UP[self.measure]} FROM {name} WHERE scope = {text(str(self.scope))} "
            f"AND zone = {text(self.zone)} AND ({one_of(column_of(name), starts)}) AND {sampled}"
        )
