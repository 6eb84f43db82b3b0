"""Reads of many requests in one round trip: what is asked in one tick of the event loop goes to its shard together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from serving.boards.acknowledged import digest_of

# Replies of one round trip: more only makes the first one wait for the last.
MOST = 64


class Ticks:
    """One shard's script, called by many at once. Not for writes: those have an order and a bound of their own."""

    def __init__(self, client: Redis, script: str) -> None:
        self._client = client
        self._script = script
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, keys: Sequence[str], *arguments: Any) -> Any:
        """The script's reply. Raises RedisError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(((len(keys), *keys, *arguments), done))
        return await done

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), MOST):
            task = asyncio.create_task(self._send(waiting[at : at + MOST]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, calls: list[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._replies([arguments for arguments, _ in calls])
        except Exception as error:
            replies = [error] * len(calls)
        for (_, done), reply in zip(calls, replies, strict=True):
            if done.done():  # its caller has gone
                continue
            if isinstance(reply, Exception):
                done.set_exception(reply)
            else:
                done.set_result(reply)

    async def _replies(self, calls: list[Sequence[Any]]) -> list[Any]:
        replies = await self._once(calls)
        if any(isinstance(reply, NoScriptError) for reply in replies):  # a new, restarted or promoted server
            await self._client.script_load(self._script)
            replies = await self._once(calls)
        return replies

    async def _once(self, calls: list[Sequence[Any]]) -> list[Any]:
        digest = digest_of(self._script)
        async with self._client.pipeline(transaction=False) as pipe:
            for arguments in calls:
                pipe.evalsha(digest, *arguments)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies
