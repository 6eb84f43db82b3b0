"""Sends batches of answers to one shard: `record_answers.lua` over connections of its own, acknowledged as CONTRACTS C2 says.

The script, the mark and WAIT go out together on one connection, which WAIT then holds until the replicas have it: so where
there are replicas each of the batches in flight has a connection to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from contracts.settings import ShardAddress
from serving.boards.acknowledged import check_wait, digest_of, wait_commands
from serving.boards.line import Line

# A script is loaded where it is not known; between the two a replica may be promoted, which does not know it either.
_LOAD_TRIES = 3


class Recorder:
    """One shard's way in. `lines`: batches that may be in flight without waiting for each other's replicas."""

    def __init__(self, address: ShardAddress, script: str, lines: int) -> None:
        self._address = address
        self._script = script
        self._lines = [Line(address) for _ in range(lines)]

    def send(
        self,
        line: int,
        keys: Sequence[Any],
        argv: Sequence[Any],
        done: Callable[[list[Any] | Exception], None],
    ) -> None:
        """Runs the script; `done` gets its reply, one text an answer, once it is acknowledged, or why it is not.

        An exception may be a redis-py error (refused or away) or SystemMissing (too few replicas): what was written is
        not undone, and the same batch again is harmless.
        """
        self._send(self._lines[line], (len(keys), *keys, *argv), done, 0)

    def _send(
        self,
        line: Line,
        arguments: tuple[Any, ...],
        done: Callable[[list[Any] | Exception], None],
        loads: int,
    ) -> None:
        commands: list[Sequence[Any]] = [("EVALSHA", digest_of(self._script), *arguments)]
        if loads:
            commands.insert(0, ("SCRIPT", "LOAD", self._script))
        if self._address.wait_replicas:
            commands += wait_commands(self._address)

        def answered(replies: list[Any] | Exception) -> None:
            if isinstance(replies, Exception):
                done(replies)
                return
            reply = replies[1 if loads else 0]
            if (
                isinstance(reply, NoScriptError) and loads < _LOAD_TRIES
            ):  # a new, restarted or promoted server
                self._send(line, arguments, done, loads + 1)
                return
            try:
                if isinstance(reply, Exception):
                    raise reply
                if self._address.wait_replicas:
                    check_wait(self._address, replies)
            except Exception as error:
                done(error)
            else:
                done(reply)

        line.call(commands, answered)

    def close(self) -> None:
        """Closes the connections; what is under way fails."""
        for line in self._lines:
            line.close()
