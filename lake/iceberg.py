"""The Iceberg catalog `lake` from Python: the tables that Spark writes, read through pyiceberg.

Opens nothing at import. hdfs:// goes through hdfs-native, file:// through fsspec's local files.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import fsspec as iceberg_fsspec
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from contracts import names
from contracts.errors import BadInput, SystemMissing

# A NameNode that is up answers in milliseconds.
PROBE_S = 2.0


@lru_cache(maxsize=8)
def file_system(scheme: str, host: str | None = None, port: int | None = None) -> AbstractFileSystem:
    """The fsspec file system of a URL's scheme: hdfs (one NameNode) or file."""
    if scheme == "hdfs":
        from hdfs_native.fsspec import HdfsFileSystem

        return HdfsFileSystem(host=host, port=port)
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem()


def probe(url: str) -> None:
    """See that the NameNode of an hdfs:// URL takes connections. Raises SystemMissing.

    hdfs-native tries a dead one for 180 s before it says so.
    """
    parts = urlsplit(url)
    if parts.scheme != "hdfs":
        return
    try:
        socket.create_connection((parts.hostname, parts.port or 8020), timeout=PROBE_S).close()
    except OSError as error:
        raise SystemMissing(
            "system_missing", f"HDFS at {parts.netloc} does not answer", next_step="./lakeboard status"
        ) from error


@contextmanager
def answering() -> Iterator[None]:
    """What the catalog's database does not do inside raises SystemMissing."""
    try:
        yield
    except SQLAlchemyError as error:
        raise SystemMissing(
            "system_missing", f"the lake's catalog does not answer: {error}", next_step="./lakeboard status"
        ) from error


def file_system_of(url: str) -> AbstractFileSystem:
    """The file system that holds `url`."""
    parts = urlsplit(url)
    return file_system("hdfs", parts.hostname, parts.port) if parts.scheme == "hdfs" else file_system("file")


def open_catalog(postgres_url: str, warehouse: str) -> SqlCatalog:
    """The catalog in Postgres that Spark's JDBC catalog shares. warehouse: its hdfs:// or file:// folder."""
    parts = urlsplit(warehouse)
    if parts.scheme == "hdfs":
        # pyiceberg 0.12 maps hdfs to pyarrow, which needs libhdfs; its fsspec table takes ours. The address is
        # read from the warehouse: Iceberg's metadata keeps absolute paths of that one NameNode.
        def hdfs(_: dict[str, Any]) -> AbstractFileSystem:
            return file_system("hdfs", parts.hostname, parts.port)

        iceberg_fsspec.SCHEME_TO_FS["hdfs"] = hdfs
    return SqlCatalog(
        names.CATALOG,
        uri=postgres_url.replace("postgresql://", "postgresql+psycopg://", 1),
        warehouse=warehouse,
        init_catalog_tables="false",
        **{"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"},
    )


def load_table(catalog: SqlCatalog, name: str) -> Table:
    """One lake table by its short name. Raises BadInput(not_found) if nothing has been settled yet, SystemMissing."""
    probe(str(catalog.properties["warehouse"]))
    try:
        return catalog.load_table((names.NAMESPACE, name))
    except NoSuchTableError as error:
        raise BadInput(
            "not_found", f"the lake has no table {name}", next_step="./lakeboard settle", status=404
        ) from error
