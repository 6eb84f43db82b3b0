"""`import lake`: the lake for analysts. `lake.open()`, `lake.tables()` and `lake.catalog()` are lake/analyst.py's.

The one package file with code: a notebook's first line has to be one that people remember. Importing it connects to
nothing and loads no library: the leaderboards import modules of this room one by one, and profile `live` has neither
DuckDB nor pyiceberg.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lake.analyst import catalog as catalog
    from lake.analyst import open as open
    from lake.analyst import tables as tables

# No module of the room may have one of these names: importing it would put the module in the function's place.
_OFFERED = ("catalog", "open", "tables")


def __getattr__(name: str) -> Any:
    if name in _OFFERED:
        return getattr(import_module("lake.analyst"), name)
    raise AttributeError(f"module 'lake' has no attribute {name!r}; it offers {', '.join(_OFFERED)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
