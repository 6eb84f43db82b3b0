"""QuestDB's doors: tables over HTTP, rows over its line protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
from questdb import QuestDBError, Sender, TimestampMicros, TimestampNanos

from contracts import tsdb
from contracts.errors import SystemMissing
from serving.relay.window_rows import Row

# Columns by the protocol's kinds, of every table of ours.
_KINDS = {column.name: column.kind for table in tsdb.TABLES for column in table.columns}


class Questdb:
    """Tables and rows. Raises SystemMissing when QuestDB is away."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)
        # One flush a batch, by hand: its offsets are committed after it. The caller tries again after an error.
        self._conf = f"http::addr={urlsplit(url).netloc};auto_flush=off;retry_timeout=0;"

    def ask(self, query: str) -> dict[str, Any]:
        """The reply to one statement."""
        try:
            reply = self._client.get("/exec", params={"query": query})
            reply.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error.response.text[:300]}") from error
        except httpx.HTTPError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error!r}") from error
        return dict(reply.json())

    def make_tables(self) -> None:
        """Create what is missing; safe to repeat. A roll-up whose table was dropped is filled again from the new one."""
        for made in (*tsdb.TABLES, *tsdb.ROLLUPS):
            self.ask(made.ddl())
        found = self.ask("select view_name from materialized_views() where view_status = 'invalid'")
        for (name,) in found["dataset"]:
            self.ask(f"REFRESH MATERIALIZED VIEW {name} FULL")

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows; a row that is there already is replaced by its equal."""
        if not rows:
            return
        try:
            with Sender.from_conf(self._conf) as sender:
                for row in rows:
                    symbols, columns = _by_kind(row)
                    at = TimestampNanos(row.ts_us * 1000)
                    sender.row(row.table, symbols=symbols, columns=columns, at=at)
                sender.flush()
        except QuestDBError as error:
            raise SystemMissing("system_missing", f"QuestDB: {error}") from error

    def close(self) -> None:
        self._client.close()


def _by_kind(row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """(symbols, other columns) as the client wants them."""
    symbols: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for name, value in row.values.items():
        if _KINDS[name] == "SYMBOL":
            symbols[name] = value
        elif _KINDS[name] == "TIMESTAMP":
            columns[name] = TimestampMicros(int(value))
        else:
            columns[name] = value
    return symbols, columns
