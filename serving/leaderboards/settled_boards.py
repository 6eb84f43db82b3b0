"""Boards of settled periods, from the lake's rankings at the settlement's snapshot, in the one reply shape.

The lake is imported on a thread, soon after the process is ready or when it is first asked: its libraries take seconds,
and the loop has players. Profile `live` has neither libraries nor data.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from contracts.boards import Board
from contracts.errors import SystemMissing
from contracts.periods import FOREVER_US, iso_ms, span
from contracts.ranges import Part
from contracts.replies import BoardReply, Provenance, RangePage, Wanted
from contracts.settings import Settings
from serving.connections import Connections
from serving.leaderboards.kept_pages import KeptPages
from serving.leaderboards.live_boards import names_of
from serving.leaderboards.publications import Published

LOG = logging.getLogger(__name__)
_LAKES: dict[str, Any] = {}
# What pages are read with. The first brings pyiceberg, the second DuckDB and pyarrow: between them one can stop.
_ROOMS = (
    "lake.iceberg",
    "lake.views",
    "lake.rankings",
    "lake.ranges",
    "lake.members",
    "lake.subjects",
    "lake.changes",
    "lake.archived",
)
# The process' own start comes first: nothing else is awaited by whoever started it.
WARM_UP_AFTER_S = 2.0
# Importing takes 2 s alone and ten times that where other processes have the machine.
IMPORT_WAIT_S = 60.0
# A page is read in well under a second; a caller who waits longer should be told.
LAKE_WAIT_S = 15.0
# Threads of their own: readers that hang on HDFS must not take those of the rest of the process.
_READERS = ThreadPoolExecutor(8, thread_name_prefix="lake")


def has_lake(settings: Settings) -> bool:
    """True if this profile has a lake and this environment can read it."""
    return bool(settings.lake_warehouse) and all(
        importlib.util.find_spec(name) is not None for name in ("lake", "duckdb", "pyiceberg")
    )


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


def _import_rooms(stop: threading.Event | None = None) -> None:
    for name in _ROOMS:
        if stop is None or not stop.is_set():
            room(name)


async def warm_up(settings: Settings) -> None:
    """Import what reads the lake, so that the first page does not; cancelled with the process, which waits for a part."""
    if not has_lake(settings):
        return
    await asyncio.sleep(WARM_UP_AFTER_S)
    began, stop = time.monotonic(), threading.Event()
    try:
        await bounded(_import_rooms, stop, seconds=IMPORT_WAIT_S)
    except (ImportError, SystemMissing) as error:
        # Whoever asks for a page is told; play needs none of it.
        LOG.warning("lake_not_imported error=%r", error)
        return
    finally:
        stop.set()
    LOG.info("lake_imported elapsed_ms=%d", (time.monotonic() - began) * 1000)


async def opened(settings: Settings) -> Any:
    """The process' one lake, imported and made on a thread if it is not there yet. Raises SystemMissing."""
    if settings.lake_warehouse not in _LAKES:

        def make() -> Any:
            _import_rooms()
            return the_lake(settings)

        await bounded(make, seconds=IMPORT_WAIT_S)
    return _LAKES[settings.lake_warehouse]


async def bounded(read: Callable[..., Any], *arguments: Any, seconds: float = LAKE_WAIT_S) -> Any:
    """`read` on a thread of the lake's own, for a bounded time. Raises SystemMissing if HDFS or the catalog is away."""
    call = asyncio.get_running_loop().run_in_executor(_READERS, read, *arguments)
    try:
        return await asyncio.wait_for(call, seconds)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        raise SystemMissing(
            "system_missing", f"the lake does not answer: {error!r}"[:300], next_step="./lakeboard status"
        ) from error


async def read_page(
    connections: Connections, pages: KeptPages, board: Board, found: Published, wanted: Wanted
) -> RangePage:
    """The page from the lake, without names. Raises SystemMissing if there is no lake, or it does not answer."""
    settings = connections.settings
    if not has_lake(settings):
        raise SystemMissing(
            "board_not_kept",
            f"profile {settings.profile} has no lake",
            next_step="./lakeboard up --profile full",
        )
    key = ("rankings", found.snapshot_id, board, wanted)
    page = pages.get(key)
    if page is None:
        lake = await opened(settings)
        place = (str(board.scope), board.period, board.start)
        page = await bounded(room("lake.rankings").read, lake, found.snapshot_id, *place, wanted)
        pages.put(key, page)
    return page


async def read_board(
    connections: Connections, pages: KeptPages, board: Board, found: Published, wanted: Wanted, explain: bool
) -> dict[str, Any]:
    """The reply from the lake, names from Postgres, and what reading took. Raises as read_page does."""
    began = time.monotonic()
    read = await read_page(connections, pages, board, found, wanted)
    page = read.page.named(await names_of(connections, read.page.user_ids()))
    reply = BoardReply(
        scope=str(board.scope),
        period=board.period,
        start=str(board.start),
        entries=page.entries,
        participants=page.participants,
        provenance=Provenance(
            "rankings",
            "exact",
            iso_ms(found.created_at_us),
            "settled",
            tuple(found.rule.split(",")),
            settlement=found.settlement,
        ),
        me=page.me,
        around=page.around,
        ranks=page.ranks,
    ).to_dict()
    if explain:
        whole = Part("rankings", span(board.period, board.start, board.zone))
        reply["explain"] = explained([whole], read, time.monotonic() - began)
    return reply


def explained(parts: Sequence[Part], read: RangePage, seconds: float) -> dict[str, Any]:
    """The source of each month, day and edge, and what reading took: files, bytes and rows at the most."""
    return {
        "parts": [
            {
                "source": part.source,
                "from": iso_ms(part.span.start_us),
                # All time has no end.
                "to": None if part.span.end_us == FOREVER_US else iso_ms(part.span.end_us),
                "day": None if part.day is None else str(part.day),
                "month": None if part.month is None else str(part.month),
                "zone": part.zone or None,
            }
            for part in parts
        ],
        "files": read.files,
        "bytes": read.bytes,
        "rows": read.rows,
        "elapsed_ms": round(seconds * 1000, 1),
    }
