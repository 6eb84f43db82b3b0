"""Calls of many in one round trip: what is asked in one tick of the event loop goes to its shard together, on one line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from contracts.settings import ShardAddress
from serving.boards.acknowledged import check_wait, digest_of, wait_commands
from serving.boards.line import Line

# Replies of one round trip: more only makes the first one wait for the last.
MOST = 64


class Ticks:
    """One shard's reads, asked by many at once. Not for writes: after a lost connection a call is sent once more."""

    def __init__(self, line: Line, script: str = "", confirmed: ShardAddress | None = None) -> None:
        """script: what `call` runs. confirmed: a shard whose replicas must have what a reply says; None: need not."""
        self._line = line
        self._script = script
        self._wait = confirmed if confirmed is not None and confirmed.wait_replicas else None
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []

    async def call(self, keys: Sequence[str], *arguments: Any) -> Any:
        """The script's reply. Raises RedisError."""
        return await self.command("EVALSHA", digest_of(self._script), len(keys), *keys, *arguments)

    async def command(self, *parts: Any) -> Any:
        """One command's reply. Raises RedisError; SystemMissing if it is not None and too few replicas have it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((parts, done))
        return await done

    def close(self) -> None:
        """Closes the line; what is under way fails."""
        self._line.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), MOST):
            self._send(waiting[at : at + MOST], again=True)

    def _send(
        self, calls: list[tuple[Sequence[Any], asyncio.Future[Any]]], again: bool, load: bool = False
    ) -> None:
        commands: list[Sequence[Any]] = [parts for parts, _ in calls]
        if load:
            commands.insert(0, ("SCRIPT", "LOAD", self._script))
        if self._wait is not None:
            commands += wait_commands(self._wait)

        def answered(replies: list[Any] | Exception) -> None:
            if isinstance(replies, RedisConnectionError) and again:
                self._send(calls, again=False)
                return
            if isinstance(replies, Exception):
                _settle(calls, [replies] * len(calls))
                return
            found = replies[1:] if load else replies
            # A new, restarted or promoted server: a read, so all may be asked again.
            if not load and any(isinstance(reply, NoScriptError) for reply in found):
                self._send(calls, again, load=True)
                return
            _settle(calls, self._confirmed(found))

        self._line.call(commands, answered)

    def _confirmed(self, replies: list[Any]) -> list[Any]:
        """The commands' replies; for each that says something an error, if too few replicas have it."""
        if self._wait is None:
            return replies
        try:
            check_wait(self._wait, replies[-2:])
        except Exception as error:
            return [reply if reply is None else error for reply in replies[:-2]]
        return replies[:-2]


def _settle(calls: list[tuple[Sequence[Any], asyncio.Future[Any]]], replies: list[Any]) -> None:
    for (_, done), reply in zip(calls, replies, strict=True):
        if done.done():  # its caller has gone
            continue
        if isinstance(reply, Exception):
            done.set_exception(reply)
        else:
            done.set_result(reply)
