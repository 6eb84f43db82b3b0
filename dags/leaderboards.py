"""The three DAGs that settle: daily when answers came in, weekly and monthly when daily boards were published; all by time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow.sdk import DAG, Asset
from one_line import ANSWERS, DAILY_BOARDS, UNCHANGED, Doc, day_params, days_back, one_line_dag


@dataclass(frozen=True, slots=True)
class Kind:
    """When a kind of period is settled. days: how far its window trails."""

    crons: tuple[str, ...]
    days: int
    woken_by: Asset
    when: str
    emits: Asset | None = None


# Minutes after midnight UTC: past the grace (60 s) and the relay's lag; one DAG after the other, not at once. A quiz's
# zone may end its day 12 hours after UTC's: the day after looks again, and a window reaches back over both.
KINDS = {
    "daily": Kind(
        ("5 0 * * *", "5 12 * * *"),
        3,
        ANSWERS,
        "at 00:05 and 12:05 UTC, and when ingest has new answers",
        DAILY_BOARDS,
    ),
    "weekly": Kind(
        ("15 0 * * 1,2",), 8, DAILY_BOARDS, "at 00:15 UTC on Mondays and Tuesdays, and after daily boards"
    ),
    "monthly": Kind(
        ("25 0 1,2 * *",), 32, DAILY_BOARDS, "at 00:25 UTC on the 1st and 2nd, and after daily boards"
    ),
}


def leaderboards(period: str) -> DAG:
    """The DAG `leaderboards_<period>`."""
    kind = KINDS[period]
    doc = Doc(
        title=f"Settle {period} leaderboards",
        purpose=f"publish the exact {period} boards (global and each quiz) of the periods that have ended"
        f"{'' if period == 'daily' else ', and those of the days they hold'}.",
        inputs="topic `answers.v1`, barriers from the api",
        outputs="`rankings`, roll-ups `user_days` and `user_months`, a settlement in Postgres",
        runs=f"{kind.when}, over the last {kind.days} days",
        rerun="clear the task, or trigger with `from` and `to` (days, inclusive). What is settled is not settled again; "
        "answers that came late are published as the next version. A run that finds nothing new is shown as skipped.",
        affected=f"readers of ended {period} boards see them as `provisional` until it has run.",
    )
    return one_line_dag(
        f"leaderboards_{period}",
        "settle",
        f"./lakeboard job settle --period {period} {days_back(kind.days)} --unchanged-exit {UNCHANGED}",
        doc,
        crons=kind.crons,
        timeout=timedelta(hours=2),
        next_step="./lakeboard status; docs/runbooks/backfill.md says what an incomplete day lacks; then clear the task",
        tags=("leaderboards", period),
        params=day_params(),
        woken_by=kind.woken_by,
        emits=kind.emits,
    )
