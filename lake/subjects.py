"""Boards of quizzes, questions and words over any range: sums by subject, then the exact board query (CONTRACTS B2, D5).

Quizzes come from the roll-ups of their own scopes, where those are published, by the days of their own zones; questions,
words, and what is cut or not published, from answers. An answer without a word is on no board of words. Subjects are few
beside users: they are grouped by name and numbered after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.boards import Counting
from contracts.classes import Clip
from contracts.correction_sql import text
from contracts.names import WORD_TAG
from contracts.replies import RangePage, Wanted
from lake.counted import ROLLED_UP, SUMMED
from lake.members import OF_MEMBERS, register_members
from lake.page_query import PageQuery, Sources, column_of, in_scope, inside, one_of
from lake.slices import read_slices

# A quiz numbers its own questions, so that a question's name has both; "/" is in no id.
_QUESTION = "quiz_id || '/' || question_id"
# Twin of contracts.names.word_of: the first tag that names a word.
_WORD = (
    f"list_filter(skill_tags, lambda one: starts_with(one, {text(WORD_TAG)}) AND len(one) > {len(WORD_TAG)})[1]"
    f"[{len(WORD_TAG) + 1}:]"
)
_ID = {"quiz": "quiz_id", "question": _QUESTION, "word": _WORD}


@dataclass
class SubjectQuery(PageQuery):
    """One query. by_zone: what the quizzes of each zone are made of, "" for all quizzes; of one publication.

    members: of a class, whose answers alone count; all of it is then summed from answers.
    """

    counting: Counting
    by_zone: Mapping[str, Sources]
    members: Sequence[Clip] | None = None

    def _run(self, wanted: Wanted) -> RangePage:
        parts = [self._rolled_up("user_months"), self._rolled_up("user_days"), self._answers()]
        there = " UNION ALL ".join(part for part in parts if part)
        self._go_on()
        self._connection.execute(
            "CREATE TEMP TABLE named AS SELECT row_number() OVER () AS user_no, * FROM ("
            "SELECT user_id, CAST(sum(points) AS BIGINT) AS points, max(reached_at_us) AS reached_at_us "
            f"FROM ({there or _NOTHING}) GROUP BY user_id)"
        )
        asked_for = ", ".join(text(one) for one in sorted({wanted.user_id, *wanted.users}))
        for view, query in {
            "sums": "SELECT user_no, points, reached_at_us, true AS counts FROM named",
            "known": "SELECT user_no, user_id FROM named",
            "asked_users": f"SELECT user_no, user_id FROM named WHERE user_id IN ({asked_for})",
        }.items():
            self._connection.execute(f"CREATE TEMP VIEW {view} AS {query}")
        page, _ = read_slices(self._connection, self.asked.start_us, wanted, fast=False)
        return self._read(page)

    def _rolled_up(self, name: str) -> str:
        """Rows of the months or days of quizzes' scopes that are settled and whole in their zones."""
        starts = {zone: of.starts(name) for zone, of in self.by_zone.items() if of.starts(name)}
        if not starts:
            return ""
        snapshots = next(iter(self.by_zone.values())).snapshots
        every = sorted({start for own in starts.values() for start in own})
        self._view_roll_up(name, snapshots[name], every)
        column = column_of(name)
        zones = " OR ".join(
            f"(zone = {text(zone)} AND ({one_of(column, own)}))" for zone, own in starts.items()
        )
        own = (
            f"scope = {text(str(self.scope))}" if self.scope.kind == "quiz" else "starts_with(scope, 'quiz:')"
        )
        measured = ROLLED_UP[self.counting.measure]
        return f"SELECT scope[len('quiz:') + 1:] AS user_id, {measured} FROM {name} WHERE {own} AND ({zones})"

    def _answers(self) -> str:
        """Sums of the answers of edges and of days that nothing else has."""
        spans = [one for of in self.by_zone.values() for one in of.answers]
        if not spans:
            return ""
        self._view_counted(spans, next(iter(self.by_zone.values())))
        relation = "counted"
        if self.members is not None:
            register_members(self._connection, self.members)
            relation = OF_MEMBERS
        zones = " OR ".join(
            f"({f'quiz_zone = {text(zone)}' if zone else 'true'} AND ({inside(of.answers)}))"
            for zone, of in self.by_zone.items()
            if of.answers
        )
        return (
            f"SELECT {_ID[self.counting.subject]} AS user_id, {SUMMED[self.counting.measure]} "
            f"FROM {relation} WHERE ({zones}) AND {in_scope(self.scope)} AND ({_ID[self.counting.subject]}) IS NOT NULL "
            "GROUP BY ALL"
        )


_NOTHING = "SELECT '' AS user_id, 0 AS points, CAST(NULL AS BIGINT) AS reached_at_us WHERE false"
