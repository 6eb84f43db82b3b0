"""Where things lie on this machine: the clone, its home folder, the cache. Standard library only.

`LAKEBOARD_HOME` (data, logs, run, secrets) belongs to one stack; `LAKEBOARD_CACHE_DIR` (environments, jars) may be
shared by several clones, because everything in it is named by the hash of its lock or checked by sum.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The stack's own folder; default `.lakeboard` in the clone."""
    return Path(os.environ.get("LAKEBOARD_HOME") or ROOT / ".lakeboard").resolve()


def cache() -> Path:
    """Environments and jars; default `cache` in the home folder."""
    return Path(os.environ.get("LAKEBOARD_CACHE_DIR") or home() / "cache").resolve()
