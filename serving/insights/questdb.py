"""Reads QuestDB for the pages: bounded queries with a time-out over its HTTP door; a system that is away is told at once.

Only text that this room has made goes into a query: numbers, instants and names from lists. One client a process; what
many viewers ask in the same seconds is read once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

from contracts.errors import Retryable, SystemMissing
from serving.breaker import Breaker

# A page that waits longer has nothing to show; the queries take some ms.
TIMEOUT_S = 3.0
# QuestDB shares two cores with everything else; more at once only wait there instead of here.
AT_ONCE = 4
# Figures change every ten seconds at most.
KEPT_S = 3.0
# Distinct queries of one moment: kinds × spans, each at most MOST_ROWS rows.
KEPT_QUERIES = 32
MOST_ROWS = 5_000
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    rows: Rows


class QuestdbReader:
    """Rows by SQL. Raises SystemMissing while QuestDB does not answer, Retryable when a query takes too long."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S)
        self._breaker = Breaker()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._kept: dict[str, _Kept] = {}
        self._reading: dict[str, asyncio.Task[Rows]] = {}

    async def rows(self, query: str) -> Rows:
        """The rows of a query, as dictionaries by column, at most MOST_ROWS; none while its table is not there yet."""
        kept = self._kept.get(query)
        if kept and kept.until > time.monotonic():
            return kept.rows
        task = self._reading.get(query)
        if task is None:
            task = self._reading[query] = asyncio.create_task(self._read(query))
            task.add_done_callback(lambda done: self._ended(query, done))
        return await asyncio.shield(task)

    def _ended(self, query: str, task: asyncio.Task[Rows]) -> None:
        del self._reading[query]
        if not task.cancelled() and task.exception() is None:
            self._kept.pop(query, None)
            while len(self._kept) >= KEPT_QUERIES:
                del self._kept[next(iter(self._kept))]
            self._kept[query] = _Kept(time.monotonic() + KEPT_S, task.result())

    async def _read(self, query: str) -> Rows:
        async with self._at_once:
            if not self._breaker.allows():
                raise self._missing("it has not answered")
            try:
                reply = await self._client.get(
                    "/exec",
                    params={"query": query, "limit": f"0,{MOST_ROWS}", "count": "false"},
                    # QuestDB gives up too: a query that nobody waits for any more costs nothing.
                    headers={"Statement-Timeout": str(int(TIMEOUT_S * 1000))},
                )
                document = reply.json()
            except (httpx.HTTPError, ValueError) as error:
                self._breaker.failed()
                raise self._missing(type(error).__name__) from error
        self._breaker.succeeded()
        if "dataset" in document:
            names = [column["name"] for column in document["columns"]]
            return [dict(zip(names, row, strict=True)) for row in document["dataset"]]
        told = str(document.get("error", ""))
        if "does not exist" in told:  # nothing has written yet
            return []
        if "timeout" in told:
            raise Retryable(
                "overloaded", "QuestDB took too long", next_step="ask for a shorter span, or again later"
            )
        raise SystemMissing("system_missing", f"QuestDB: {told[:200]}")

    def _missing(self, what: str) -> SystemMissing:
        return SystemMissing(
            "system_missing",
            f"QuestDB does not answer ({what}); play and boards do without it",
            next_step="see ./lakeboard status and docs/runbooks/system-down.md",
        )

    async def close(self) -> None:
        await self._client.aclose()
