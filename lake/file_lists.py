"""What of the lake can be kept in memory: a table as long as its metadata is the same, the file list of a snapshot.

Both are immutable in Iceberg: metadata files and snapshots are never changed, so nothing here grows stale. One small
query to the catalog says which metadata is current; reading it, and planning a snapshot's files, are round trips to HDFS.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from sqlalchemy import text

from contracts import names
from lake.iceberg import load_table

# Lists of one snapshot and one filter each: about 100 bytes a file; a range of a year has some hundreds of files.
LISTS = 2_000

Value = TypeVar("Value")
_LOCATION = text(
    "SELECT metadata_location FROM iceberg_tables "
    "WHERE catalog_name = :catalog AND table_namespace = :namespace AND table_name = :name"
)


class Newest(Generic[Value]):
    """The values used last, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not here; two that come at once may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


class Tables:
    """The catalog's tables, loaded again only when their metadata has changed."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self._catalog = catalog
        self._known: dict[str, Table] = {}

    def load(self, name: str) -> Table:
        """The table as it is now. Raises BadInput(not_found) if nothing has been settled yet, SystemMissing."""
        known = self._known.get(name)
        if known is None or self._location(name) != known.metadata_location:
            self._known[name] = known = load_table(self._catalog, name)
        return known

    def _location(self, name: str) -> str | None:
        values = {"catalog": names.CATALOG, "namespace": names.NAMESPACE, "name": name}
        with self._catalog.engine.connect() as connection:
            row = connection.execute(_LOCATION, values).fetchone()
        return row[0] if row else None
