"""Where a job's state rests: checkpoints and, beside them, savepoints, in a local folder or on `hdfs://`.

HDFS is asked over WebHDFS with the standard library alone: submitting runs in Flink's Python environment, which has
no HDFS client. The file `_metadata` is written last, so a folder without one is not complete and is passed over.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from contracts.errors import BadInput, SystemMissing

_CHECKPOINT = re.compile(r"chk-\d+")
# Folders of jobs looked into, newest first: each costs two calls or more, and the newest state is in one of them.
MOST_JOBS = 50


def savepoint_dir(checkpoint_dir: str) -> str:
    """The folder of savepoints: beside that of checkpoints."""
    return checkpoint_dir.rstrip("/").rpartition("/")[0] + "/savepoints"


def as_url(folder: str) -> str:
    """The folder as Flink wants it; one without a scheme is local."""
    return folder if "://" in folder else Path(folder).resolve().as_uri()


def newest_state(checkpoint_dir: str, webhdfs_url: str | None = None) -> str | None:
    """URL of the newest complete checkpoint or savepoint, or None where there is none.

    Raises BadInput for another file system, or `hdfs://` without the NameNode's HTTP address; SystemMissing if the
    NameNode does not answer: starting from nothing then would count everything again.
    """
    url = urllib.parse.urlparse(as_url(checkpoint_dir))
    savepoints = urllib.parse.urlparse(savepoint_dir(as_url(checkpoint_dir)))
    if url.scheme == "file":
        found = [*_local(Path(url.path), "*/chk-*"), *_local(Path(savepoints.path), "savepoint-*")]
    elif url.scheme == "hdfs" and webhdfs_url:
        names = _WebHdfs(webhdfs_url)
        root = f"hdfs://{url.netloc}"
        found = [(at, root + path) for at, path in names.complete(url.path, savepoints.path)]
    else:
        raise BadInput(
            "invalid_field",
            f"retained state in {checkpoint_dir} cannot be looked for",
            next_step="give --webhdfs-url for hdfs://, or --restore URL, or --fresh",
        )
    return max(found)[1] if found else None


def _local(folder: Path, pattern: str) -> list[tuple[float, str]]:
    files = folder.glob(f"{pattern}/_metadata")
    return [(file.stat().st_mtime, file.parent.as_uri()) for file in files]


class _WebHdfs:
    """LISTSTATUS of one NameNode (Hadoop's WebHDFS REST API)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/webhdfs/v1"

    def entries(self, folder: str) -> list[dict[str, Any]]:
        """The entries of a folder, newest first; none if it does not exist."""
        address = f"{self._url}{urllib.parse.quote(folder)}?op=LISTSTATUS"
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                found: list[dict[str, Any]] = json.load(reply)["FileStatuses"]["FileStatus"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise SystemMissing("system_missing", f"WebHDFS {folder}: {error}") from error
        except OSError as error:
            raise SystemMissing(
                "system_missing", f"WebHDFS at {self._url}: {error}", next_step="./lakeboard status"
            ) from error
        return sorted(found, key=lambda entry: -int(entry["modificationTime"]))

    def complete(self, checkpoints: str, savepoints: str) -> list[tuple[float, str]]:
        """(time of `_metadata`, path of its folder) of every complete checkpoint and savepoint."""
        jobs = [f"{checkpoints}/{entry['pathSuffix']}" for entry in self.entries(checkpoints)[:MOST_JOBS]]
        folders = [
            f"{job}/{entry['pathSuffix']}"
            for job in jobs
            for entry in self.entries(job)
            if _CHECKPOINT.fullmatch(entry["pathSuffix"])
        ]
        folders += [f"{savepoints}/{entry['pathSuffix']}" for entry in self.entries(savepoints)[:MOST_JOBS]]
        return [
            (float(entry["modificationTime"]), folder)
            for folder in folders
            for entry in self.entries(folder)
            if entry["pathSuffix"] == "_metadata" and entry["length"]
        ]
