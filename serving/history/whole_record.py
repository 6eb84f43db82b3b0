"""One shard's whole record: history, and where months were archived, the lake. For readers that begin at seq 0."""

from __future__ import annotations

from typing import Any

from contracts.settings import Settings
from serving.boards.outbox import Entry
from serving.history.archive import archived_months_now, check_readable
from serving.leaderboards.settled_boards import room, the_lake
from serving.relay.to_history import History


class WholeRecord(History):
    """History whose holes are filled from the lake. Which months are archived is asked when the first hole is met."""

    def __init__(self, settings: Settings, shard: int) -> None:
        super().__init__(settings.postgres_url, shard)
        self._settings = settings
        self._archived: Any = None

    def close(self) -> None:
        """Give back the connection and the lake's stream."""
        super().close()
        if self._archived is not None:
            self._archived.close()
            self._archived = None

    def read_after(self, position: int, count: int) -> list[Entry]:
        """The unbroken entries after a position, from one side at a time; none only where neither side has the next.

        Raises SystemMissing if the next one is archived and this process cannot read the lake.
        """
        entries = super().read_after(position, count)
        whole = [entry for place, entry in enumerate(entries, position + 1) if entry.seq == place]
        if whole:
            return whole
        end = entries[0].seq - 1 if entries else self.position()
        if end <= position:
            return []
        return self._from_the_lake(position, min(count, end - position))

    def _from_the_lake(self, position: int, count: int) -> list[Entry]:
        if self._archived is None:
            months = archived_months_now(self._settings.postgres_url).months
            if not months:
                return []
            check_readable(self._settings, months)
            module = room("lake.archived_entries")
            self._archived = module.ArchivedEntries(the_lake(self._settings), self._shard, months)
        found = self._archived.read_after(position, count)
        return [Entry(one.seq, one.type, one.event, one.mode) for one in found]
