"""Boards read whole, over all shards: for reconcile and rebuilds, which a person waits for. Synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts import names
from contracts.settings import ShardAddress
from serving.boards.clients import address_of, blocking_client_of, close_blocking_client

# Keys a SCAN call and boards a pipeline: each keeps a shard busy for well under 10 ms.
_SCAN_KEYS = 1_000
_READ_BOARDS = 200


class WholeBoards:
    """All shards, for reading; opens nothing until the first call."""

    def __init__(self, shards: Sequence[str | ShardAddress]) -> None:
        self._clients: list[Any] = [blocking_client_of(address_of(shard)) for shard in shards]

    def close(self) -> None:
        for client in self._clients:
            close_blocking_client(client)

    def keys(self) -> set[str]:
        """The key of every board that any shard has."""
        found: set[str] = set()
        for client in self._clients:
            found.update(
                key.decode() for key in client.scan_iter(match=names.boards_pattern(), count=_SCAN_KEYS)
            )
        return found

    def read(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """user_id → packed score of each board, in the order of `keys`; empty where there is none.

        A user on two shards (which is a fault) comes out with the sum, so that it shows.
        """
        found: list[dict[str, int]] = [{} for _ in keys]
        for start in range(0, len(keys), _READ_BOARDS):
            part = keys[start : start + _READ_BOARDS]
            for client in self._clients:
                pipe = client.pipeline(transaction=False)
                for key in part:
                    pipe.zrange(key, 0, -1, withscores=True)
                for members, rows in zip(found[start:], pipe.execute(), strict=False):
                    for user, score in rows:
                        members[user.decode()] = members.get(user.decode(), 0) + int(score)
        return found

    def last_seqs(self) -> list[int]:
        """The last sequence number that each shard gave out."""
        return [int(client.get(names.outbox_seq()) or 0) for client in self._clients]

    def global_positions(self) -> list[int]:
        """By source: how far the slowest target's global boards have taken its outbox."""
        sources = range(len(self._clients))
        return [
            min(int(target.get(names.global_position(source)) or 0) for target in self._clients)
            for source in sources
        ]
