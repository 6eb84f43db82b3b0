"""The lake's disk through WebHDFS: the warehouse's folder, what it takes, the space left, and whether HDFS is well.

Data files go another way (lake/files.py, hdfs-native: four times as fast); this is for what an operator asks.
`python -m lake.storage --webhdfs-url URL --warehouse URL` prints one JSON document and exits 3 if HDFS is not well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from hdfs import HdfsError, InsecureClient
from hdfs.client import _Request
from requests import RequestException

from contracts.errors import SystemMissing

# The user that owns what we make; HDFS runs without permissions on one machine (cli/stack/hdfs.py).
USER = "lakeboard"
# Connect and read. A NameNode that is up answers in milliseconds; longer would hold a readiness probe.
TIMEOUT_S = 5.0
# Below this a settlement of a month may stop half-way; above it warns while there is still time to act.
LEAST_FREE_BYTES = 1024**3


class _Client(InsecureClient):
    """hdfs 2.7 has no call for the whole file system's space; its request's operation is the attribute's name."""

    _getstatus = _Request("GET")


@dataclass(frozen=True, slots=True)
class Storage:
    """What is there, in bytes: of the whole file system, and of the warehouse (replicas counted in `stored`)."""

    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    warehouse_bytes: int
    warehouse_stored_bytes: int
    warehouse_files: int

    @property
    def healthy(self) -> bool:
        """False while there is too little room to write a settlement, or no DataNode is counted (capacity 0)."""
        return self.free_bytes >= LEAST_FREE_BYTES


def _folder(warehouse: str) -> str:
    return urlsplit(warehouse).path or "/"


def _call(webhdfs_url: str, what: str, action: Any) -> Any:
    client = _Client(webhdfs_url, user=USER, timeout=TIMEOUT_S)
    try:
        return action(client)
    except (HdfsError, RequestException) as error:
        raise SystemMissing(
            "system_missing", f"HDFS at {webhdfs_url}: {what}: {error}", next_step="./lakeboard status"
        ) from error


def make_warehouse(webhdfs_url: str, warehouse: str) -> None:
    """Make the warehouse's folder; a repeat changes nothing. Raises SystemMissing if HDFS does not answer.

    warehouse: the hdfs:// URL of the lake's folder.
    """
    _call(webhdfs_url, "make the warehouse's folder", lambda c: c.makedirs(_folder(warehouse)))


def storage(webhdfs_url: str, warehouse: str) -> Storage:
    """Space of the file system and of the warehouse (zeros if it is not there yet).

    Raises SystemMissing if the NameNode does not answer. Cost: two calls; the NameNode walks the warehouse's tree.
    """

    def ask(client: _Client) -> Storage:
        space = client._getstatus("/").json()["FsStatus"]
        content = client.content(_folder(warehouse), strict=False) or {}
        return Storage(
            capacity_bytes=space["capacity"],
            used_bytes=space["used"],
            free_bytes=space["remaining"],
            warehouse_bytes=content.get("length", 0),
            warehouse_stored_bytes=content.get("spaceConsumed", 0),
            warehouse_files=content.get("fileCount", 0),
        )

    found: Storage = _call(webhdfs_url, "ask for its space", ask)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 if HDFS is well, 1 if it has too little room, 3 if it does not answer."""
    parser = argparse.ArgumentParser(prog="lake.storage", description="The lake's disk: space and health")
    parser.add_argument("--webhdfs-url", required=True)
    parser.add_argument("--warehouse", required=True)
    parser.add_argument("--make", action="store_true", help="make the warehouse's folder first")
    args = parser.parse_args(argv)
    try:
        if args.make:
            make_warehouse(args.webhdfs_url, args.warehouse)
        found = storage(args.webhdfs_url, args.warehouse)
    except SystemMissing as error:
        print(f"{error.code}: {error.detail}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({**asdict(found), "healthy": found.healthy}))
    return 0 if found.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
