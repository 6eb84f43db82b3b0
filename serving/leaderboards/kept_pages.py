"""Pages that were read from fixed snapshots, kept in memory: the same question of the same snapshots has the same answer.

A key names everything an answer depends on, so nothing here grows stale; names of users are joined later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from contracts.replies import RangePage

# Rows of all pages together: about 300 bytes each. More holds pages that nobody asks for again.
ROWS = 200_000


class KeptPages:
    """The pages used last, bounded by their rows. For one event loop: no lock."""

    def __init__(self, rows: int = ROWS) -> None:
        self._limit = rows
        self._rows = 0
        self._pages: OrderedDict[Hashable, RangePage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, key: Hashable) -> RangePage | None:
        """The page of a key, if it is kept."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: Hashable, page: RangePage) -> None:
        """Keep a page; the ones used longest ago go."""
        if key in self._pages:
            self._rows -= _rows(self._pages.pop(key))
        self._pages[key] = page
        self._rows += _rows(page)
        while self._rows > self._limit:
            self._rows -= _rows(self._pages.popitem(last=False)[1])


def _rows(page: RangePage) -> int:
    """What a page weighs: its rows and itself."""
    return 1 + len(page.page.entries) + len(page.page.around) + len(page.page.ranks)
