"""What makes a write acknowledged: all of the shard's replicas have it (CONTRACTS C2); and errors of a server that refuses.

WAIT counts replicas that have the last write *of its own connection*: it stands in one pipeline with the script, and a
message before it is a write too, as a script that finds a repeat writes nothing and WAIT would then answer at once,
for a first write that no replica has. The message goes to replicas alone: no memory, no sync of the append-only file.
A server that is made a replica meanwhile refuses; a connection that breaks takes the whole pipeline with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError

from contracts import names
from contracts.errors import Retryable, SystemMissing
from contracts.settings import ShardAddress

# A script is loaded where it is not known; between the two a replica may be promoted, which does not know it either.
_LOAD_TRIES = 3
# Begins a script that runs at the memory limit too: it writes little, and without it nothing would get out of it again.
ALLOW_OOM = "#!lua flags=allow-oom\n"
# The code that a server's error begins with; a pipeline puts the command before it.
_CODE = re.compile(r"(?:^|caused error: )(OOM|MISCONF|NOREPLICAS) ")
_SEE_STATUS = "send it again unchanged; see ./lakeboard status and docs/runbooks/redis-full.md"


def not_acknowledged(address: ShardAddress, acknowledged: object) -> SystemMissing:
    """What a caller is told of a write that too few replicas have. It is not undone: sent again it is a repeat."""
    return SystemMissing(
        "system_missing",
        f"{acknowledged} of {address.wait_replicas} replicas of {address.primary or 'the shard'} have it",
        next_step="send it again unchanged",
    )


def refusal_of(error: Exception) -> Retryable | None:
    """The error to answer with when a server refuses to write: nothing was written, and it can be sent again.

    None for an error that is no such refusal. Scripts declare their flags (`#!lua`), so they are refused whole.
    """
    said = _CODE.search(str(error)) if isinstance(error, ResponseError) else None
    reason = said[1] if said else ""
    if isinstance(error, OutOfMemoryError) or reason == "OOM":
        return Retryable("memory_full", "a Valkey shard is at its memory limit", next_step=_SEE_STATUS)
    if isinstance(error, ReadOnlyError):
        return SystemMissing(
            "system_missing", "a Valkey shard changes its primary", next_step="send it again unchanged"
        )
    if reason == "MISCONF":
        return Retryable("disk_full", "a Valkey shard cannot write to its disk", next_step=_SEE_STATUS)
    if reason == "NOREPLICAS":
        return SystemMissing(
            "system_missing", "a Valkey shard has too few replicas", next_step="send it again unchanged"
        )
    return None


def wait_commands(address: ShardAddress) -> list[tuple[Any, ...]]:
    """What ends a pipeline (not a transaction, in which WAIT does not wait): the mark and the wait for the replicas."""
    return [("PUBLISH", names.replication_mark(), ""), ("WAIT", address.wait_replicas, address.wait_ms)]


def add_wait(pipe: Any, address: ShardAddress) -> None:
    """The same for a pipeline of redis-py."""
    for command in wait_commands(address):
        pipe.execute_command(*command)


def check_wait(address: ShardAddress, replies: Sequence[Any]) -> None:
    """Raises SystemMissing unless the last reply of a pipeline says that the replicas have it; or an error in it."""
    for reply in replies[:-1]:
        if isinstance(reply, Exception):
            raise reply
    acknowledged = replies[-1]
    if not isinstance(acknowledged, int) or acknowledged < address.wait_replicas:
        raise not_acknowledged(address, acknowledged)


@lru_cache
def digest_of(text: str) -> str:
    """What a server knows a script by."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


class ScriptRunner:
    """Runs scripts on one shard, by digest, each acknowledged before its reply is given to the caller."""

    def __init__(self, client: Redis, address: ShardAddress) -> None:
        self.client = client
        self.address = address

    async def run(self, text: str, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
        """The script's reply. Raises SystemMissing if too few replicas have what it wrote or read."""
        for attempt in range(_LOAD_TRIES):
            try:
                return await self._once(digest_of(text), keys, argv)
            except NoScriptError:  # a restarted or a promoted server
                if attempt == _LOAD_TRIES - 1:
                    raise
                await self.client.script_load(text)
        raise AssertionError("unreachable")

    async def _once(self, digest: str, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
        if not self.address.wait_replicas:
            return await self.client.evalsha(digest, len(keys), *keys, *argv)
        async with self.client.pipeline(transaction=False) as pipe:
            pipe.evalsha(digest, len(keys), *keys, *argv)
            add_wait(pipe, self.address)
            replies = await pipe.execute(raise_on_error=False)
        check_wait(self.address, replies)
        return replies[0]

    async def run_many(self, text: str, calls: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[Any]:
        """Many calls of one script in one round trip; their replies. Raises as `run` does."""
        digest = await self.client.script_load(text)
        async with self.client.pipeline(transaction=False) as pipe:
            for keys, argv in calls:
                pipe.evalsha(digest, len(keys), *keys, *argv)
            if not self.address.wait_replicas:
                return await pipe.execute()
            add_wait(pipe, self.address)
            replies = await pipe.execute(raise_on_error=False)
        check_wait(self.address, replies)
        return replies[: len(calls)]

    async def command(self, *parts: Any) -> Any:
        """One command's reply. Raises SystemMissing if it is not None and too few replicas have what was written or read."""
        if not self.address.wait_replicas:
            return await self.client.execute_command(*parts)
        async with self.client.pipeline(transaction=False) as pipe:
            pipe.execute_command(*parts)
            add_wait(pipe, self.address)
            replies = await pipe.execute(raise_on_error=False)
        if replies[0] is not None:
            check_wait(self.address, replies)
        return replies[0]
