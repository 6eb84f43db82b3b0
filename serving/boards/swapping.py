"""Boards made anew beside the live ones, on one shard, and put in their place by one script. Synchronous."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts import names
from contracts.settings import ShardAddress
from serving.boards.acknowledged import add_wait, check_wait
from serving.boards.clients import address_of, blocking_client_of, close_blocking_client
from serving.boards.shards import script_text

# Members a ZADD: a larger one blocks the shard for longer than 1 ms.
_MEMBERS = 1_000
_PIPELINE_BOARDS = 200


class BoardSwap:
    """One shard, seen from a rebuild."""

    def __init__(self, shard: str | ShardAddress) -> None:
        self._address = address_of(shard)
        self._client: Any = blocking_client_of(self._address)
        self._swap = self._client.register_script(script_text("swap_boards"))

    def close(self) -> None:
        close_blocking_client(self._client)

    def live_keys(self) -> set[str]:
        """The key of every board on this shard."""
        return {key.decode() for key in self._client.scan_iter(match=names.boards_pattern(), count=1_000)}

    def last_seq(self) -> int:
        """The last sequence number that the shard gave out."""
        return int(self._client.get(names.outbox_seq()) or 0)

    def forget_made(self) -> None:
        """Delete what an earlier rebuild has left."""
        for key in self._client.scan_iter(match=names.rebuilt_pattern(), count=1_000):
            self._client.delete(key)

    def write_made(self, boards: Iterable[tuple[str, Mapping[str, int]]]) -> None:
        """Set packed scores on boards being made anew; users that are not named stay as they are."""
        pipe, waiting = self._client.pipeline(transaction=False), 0
        for key, members in boards:
            pairs = list(members.items())
            for start in range(0, len(pairs), _MEMBERS):
                pipe.zadd(names.rebuilt_board(key), dict(pairs[start : start + _MEMBERS]))
                waiting += 1
            if waiting >= _PIPELINE_BOARDS:
                pipe.execute()
                waiting = 0
        pipe.execute()

    def swap_own(self, keys: Sequence[str], seq: int) -> bool:
        """Put quiz and session boards in place if the shard's seq is still `seq`; False: it has moved.

        Raises SystemMissing if too few replicas have them: run the rebuild again.
        """
        return self._run([names.outbox_seq()], "equal", [seq], keys)

    def swap_global(self, keys: Sequence[str], positions: Sequence[int]) -> bool:
        """Put global boards in place and set each source's position; False if one is already further."""
        return self._run(
            [names.global_position(source) for source in range(len(positions))], "at_most", positions, keys
        )

    def _run(self, counters: Sequence[str], rule: str, expected: Sequence[int], keys: Sequence[str]) -> bool:
        triples: list[str] = []
        for key in keys:
            kind, _, ident = names.parse_board(key)[0].partition(":")
            players = names.session_players(ident) if kind == "session" else key
            triples += (names.rebuilt_board(key), key, players)
        with self._client.pipeline(transaction=False) as pipe:
            self._swap(keys=[*counters, *triples], args=[len(counters), rule, *expected], client=pipe)
            if self._address.wait_replicas:
                add_wait(pipe, self._address)
            replies = pipe.execute()
        if self._address.wait_replicas:
            check_wait(self._address, replies)
        return bool(replies[0][0] == b"swapped")
