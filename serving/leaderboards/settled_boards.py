"""Boards of settled periods, from the lake's rankings at the settlement's snapshot, in the one reply shape.

The lake is imported when it is first asked: profile `live` has neither its libraries nor its data.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from contracts.boards import Board
from contracts.errors import BadInput, SystemMissing
from contracts.periods import iso_ms
from contracts.replies import BoardReply, Entry, Provenance
from contracts.settings import Settings
from serving.connections import Connections
from serving.leaderboards.live_boards import names_of

_LAKES: dict[str, Any] = {}
# A page is read in well under a second; a caller who waits longer should be told.
LAKE_WAIT_S = 15.0
# Threads of their own: readers that hang on HDFS must not take those of the rest of the process.
_READERS = ThreadPoolExecutor(8, thread_name_prefix="lake")


@dataclass(frozen=True, slots=True)
class Published:
    """The settlement that published a period: snapshot of `rankings`, its rules (joined by commas), when (UTC µs)."""

    settlement: str
    snapshot_id: int
    rule: str
    created_at_us: int


def has_lake(settings: Settings) -> bool:
    """True if this profile has a lake and this environment can read it."""
    return bool(settings.lake_warehouse) and all(
        importlib.util.find_spec(name) is not None for name in ("lake", "duckdb", "pyiceberg")
    )


async def published(connections: Connections, board: Board, settlement: str) -> Published | None:
    """The newest settlement of a period, or the named one. None if it is not settled.

    Raises BadInput(unknown_settlement, 404) if the named one did not publish this period, SystemMissing while Postgres
    is down: nobody else knows what was published.
    """
    query = (
        "select s.id, (s.snapshots->>'rankings')::bigint, s.rule,"
        " (extract(epoch from s.created_at) * 1000000)::bigint from settlement_periods p"
        " join settlements s on s.id = p.settlement_id where p.period = %s and p.start = %s and p.zone = %s"
        " and (%s = '' or s.id = %s) order by p.version desc limit 1"
    )
    async with connections.sql() as sql:
        found = await sql.execute(query, [board.period, board.start, board.zone, settlement, settlement])
        row = await found.fetchone()
    if row is None and settlement:
        raise BadInput(
            "unknown_settlement", f"settlement {settlement[:40]!r} did not publish {board.key}", status=404
        )
    return Published(*row) if row else None


def the_lake(settings: Settings) -> Any:
    """The process' one lake: its file cache and catalog are shared by all requests."""
    if settings.lake_warehouse not in _LAKES:
        module = room("lake.views")
        _LAKES[settings.lake_warehouse] = module.Lake(
            settings.postgres_url, settings.lake_warehouse, Path(settings.cache_dir) / "lake"
        )
    return _LAKES[settings.lake_warehouse]


def room(name: str) -> Any:
    """A module of the lake, imported when it is first asked for."""
    return importlib.import_module(name)


async def bounded(read: Callable[..., Any], *arguments: Any, seconds: float = LAKE_WAIT_S) -> Any:
    """`read` on a thread of the lake's own, for a bounded time. Raises SystemMissing if HDFS or the catalog is away."""
    call = asyncio.get_running_loop().run_in_executor(_READERS, read, *arguments)
    try:
        return await asyncio.wait_for(call, seconds)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        raise SystemMissing(
            "system_missing", f"the lake does not answer: {error!r}"[:300], next_step="./lakeboard status"
        ) from error


def _page(settings: Settings, board: Board, found: Published, k: int, user_id: str, m: int) -> Any:
    rankings = room("lake.rankings")
    return rankings.page(
        the_lake(settings),
        found.snapshot_id,
        str(board.scope),
        board.period,
        board.start,
        k=k,
        user_id=user_id or None,
        m=m,
    )


async def read_board(
    connections: Connections, board: Board, found: Published, k: int, user_id: str, m: int
) -> BoardReply:
    """The reply from the lake, names from Postgres. Raises SystemMissing if there is no lake, or it does not answer."""
    settings = connections.settings
    if not has_lake(settings):
        raise SystemMissing(
            "board_not_kept",
            f"profile {settings.profile} has no lake",
            next_step="./lakeboard up --profile full",
        )
    page = await bounded(_page, settings, board, found, k, user_id, m)
    known = await names_of(connections, (entry.user_id for entry in (*page.entries, *page.around)))

    def named(entry: Entry) -> Entry:
        return replace(entry, name=known.get(entry.user_id))

    return BoardReply(
        scope=str(board.scope),
        period=board.period,
        start=str(board.start),
        entries=tuple(map(named, page.entries)),
        participants=page.participants,
        provenance=Provenance(
            "rankings",
            "exact",
            iso_ms(found.created_at_us),
            "settled",
            tuple(found.rule.split(",")),
            settlement=found.settlement,
        ),
        me=named(page.me) if page.me else None,
        around=tuple(map(named, page.around)),
    )
