"""Which months are in the lake alone, and a user's answers there; the lake is imported when it is first asked.

Whoever reads both sides reads Postgres' history first and the archived months after it: a month that is archived in
between is then found on both sides, never on none, and its answers are told apart by event id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg

from contracts.answer_filters import EVERYTHING, AnswerFilters
from contracts.errors import SystemMissing
from contracts.events import AnswerEvent
from contracts.settings import Settings
from serving.boards.shards import REPEAT, Outcome
from serving.connections import Connections
from serving.leaderboards.settled_boards import bounded, has_lake, room, the_lake

_MONTHS = (
    "SELECT month, (snapshots->>'user_sessions')::bigint FROM archived_months ORDER BY archived_at, month"
)
_READERS: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class ArchivedMonths:
    """The months, and the newest snapshot of `user_sessions` that one of them was archived with: it holds them all."""

    months: tuple[date, ...]
    snapshot_id: int | None


def _of(rows: Sequence[tuple[date, int | None]]) -> ArchivedMonths:
    snapshots = [snapshot for _, snapshot in rows if snapshot is not None]
    return ArchivedMonths(tuple(sorted(month for month, _ in rows)), snapshots[-1] if snapshots else None)


async def archived_months(sql: psycopg.AsyncConnection) -> ArchivedMonths:
    """What is archived now. Ask after history was read."""
    return _of(await (await sql.execute(_MONTHS)).fetchall())


def archived_months_now(postgres_url: str) -> ArchivedMonths:
    """What is archived now, for a process without an event loop."""
    with psycopg.connect(postgres_url, connect_timeout=5) as sql:
        return _of(sql.execute(_MONTHS).fetchall())


def check_readable(settings: Settings, months: Sequence[date]) -> None:
    """Raise SystemMissing where months are archived and this process cannot read the lake."""
    if months and not has_lake(settings):
        raise SystemMissing(
            "system_missing",
            f"answers of {min(months):%Y-%m} are archived, and profile {settings.profile} has no lake here",
            next_step="./lakeboard up --profile full",
        )


def _reader(settings: Settings) -> Any:
    """The process' one reader: its list of files and open files are shared by all requests."""
    if settings.lake_warehouse not in _READERS:
        _READERS[settings.lake_warehouse] = room("lake.archived").ArchivedAnswers(the_lake(settings))
    return _READERS[settings.lake_warehouse]


async def page(
    connections: Connections,
    archived: ArchivedMonths,
    user_id: str,
    before: tuple[int, str] | None,
    limit: int,
    filters: AnswerFilters = EVERYTHING,
    what: str = "page",
) -> list[dict[str, Any]]:
    """The user's archived answers (or, what: sessions) before a place, newest first, as lake.archived gives them.

    Raises SystemMissing if they are not to be read here, or the lake does not answer.
    """
    if archived.snapshot_id is None or not archived.months:
        return []
    check_readable(connections.settings, archived.months)

    def read() -> Any:
        reader = _reader(connections.settings)
        read_rows = getattr(reader, what)
        return read_rows(archived.snapshot_id, archived.months, user_id, before, limit, filters)

    return list(await bounded(read))


async def repeats(connections: Connections, events: Sequence[AnswerEvent]) -> dict[str, Outcome]:
    """The outcomes of those answers that are archived, by event id (CONTRACTS A3). Raises SystemMissing."""
    if not events:
        return {}
    async with connections.sql() as sql:
        archived = await archived_months(sql)
    if archived.snapshot_id is None:
        return {}
    check_readable(connections.settings, archived.months)
    wanted = [(event.user_id, event.event_id) for event in events]

    def read() -> Any:
        return _reader(connections.settings).places(archived.snapshot_id, archived.months, wanted)

    return {ident: Outcome(REPEAT, *place) for ident, place in (await bounded(read)).items()}
