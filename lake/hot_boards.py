"""Settled boards in memory: the rows of one board at one snapshot as a table of DuckDB's, the ones used longest ago dropped.

A page of a board in Parquet decodes the board's whole row group for each question, some 10 to 20 ms for 300,000 rows; in
memory it is a few. A snapshot never changes, so a board in memory is never stale.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import duckdb

# Rows of all boards in memory: about 100 bytes each, inside the memory limit of the database for pages.
ROWS = 4_000_000
# A partition of more rows is read from its files: loading it would take longer than a caller waits.
PARTITION_ROWS = 2_000_000


class HotBoards:
    """Tables of one database, by key."""

    def __init__(self, rows: int = ROWS) -> None:
        self._limit = rows
        self._rows = 0
        self._tables: OrderedDict[Hashable, tuple[str, int]] = OrderedDict()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def table(
        self, cursor: duckdb.DuckDBPyConnection, key: Hashable, query: str, values: Sequence[object]
    ) -> tuple[str, int]:
        """(table, rows) of a board, loaded by its query if it is not here. It may be dropped at any time by another.

        Two that come at once may both load it; one of the tables is dropped.
        """
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        made = f"board_{next(self._numbers)}"
        cursor.execute(f"CREATE TABLE {made} AS {query}", list(values))
        rows = int(cursor.execute(f"SELECT count(*) FROM {made}").fetchall()[0][0])
        for name in self._keep(key, made, rows):
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
        return made, rows

    def _keep(self, key: Hashable, made: str, rows: int) -> list[str]:
        """Which tables to drop now that this one is here: never the newest."""
        dropped = []
        with self._lock:
            if key in self._tables:
                name, count = self._tables.pop(key)
                self._rows -= count
                dropped.append(name)
            self._tables[key] = made, rows
            self._rows += rows
            while self._rows > self._limit and len(self._tables) > 1:
                name, count = self._tables.popitem(last=False)[1]
                self._rows -= count
                dropped.append(name)
        return dropped
