"""The local cache of the lake's data files: each immutable file is fetched once, the oldest used go first.

Iceberg never changes a file, so a cached one is never stale; its name is a digest of its URL. Bounded by bytes.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lake.iceberg import file_system_of

# Room for EdNet's tables a hundred times over; lower evicts files that a month's board still needs.
CACHE_BYTES = 4 * 1024**3
# Fetches at once: HDFS reads are round trips; more than this only queue at one DataNode.
FETCHES = 8


class FileCache:
    """Paths on the local disk for URLs of immutable files."""

    def __init__(self, folder: Path, limit_bytes: int = CACHE_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def paths(self, urls: list[str]) -> list[str]:
        """The local path of each URL, in order; fetches what is missing. file:// URLs are used where they lie."""
        missing = [url for url in urls if not self._there(url)]
        if not missing:
            return [self._path(url) for url in urls]
        with ThreadPoolExecutor(FETCHES) as pool:
            found = list(pool.map(self._path, urls))
        self._evict(set(found))
        return found

    def _there(self, url: str) -> bool:
        return urlsplit(url).scheme in ("", "file") or self._target(url).exists()

    def _target(self, url: str) -> Path:
        return self.folder / (hashlib.sha256(url.encode()).hexdigest() + ".parquet")

    def _path(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme in ("", "file"):
            return unquote(parts.path)
        target = self._target(url)
        if target.exists():
            os.utime(target)
            return str(target)
        # Written beside and renamed, so that a killed fetch never leaves half a file under the final name.
        part = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        part.write_bytes(file_system_of(url).cat_file(parts.path))
        part.replace(target)
        return str(target)

    def _evict(self, in_use: set[str]) -> None:
        """Remove the files used longest ago until the cache fits; never one of the current query."""
        with self._lock:
            files = sorted(
                ((f, f.stat()) for f in self.folder.glob("*.parquet")), key=lambda item: item[1].st_mtime
            )
            total = sum(stat.st_size for _, stat in files)
            for file, stat in files:
                if total <= self.limit_bytes:
                    return
                if str(file) not in in_use:
                    file.unlink(missing_ok=True)
                    total -= stat.st_size
