"""One connection to a shard for calls that come all the time: packed in C, sent at once, answered by a callback.

A call of redis-py's asyncio client costs about 150 µs of processor time (pool, locks, time-outs, tasks); answers and board
reads are made of nothing else. Here a call is one write and one callback. Everything rare stays with redis-py.

Calls share the connection in order; a call of several commands has its replies together. A connection that breaks, or does
not answer in time, fails all that are under way with redis-py's errors; the next call connects again, and asks the
sentinels who is primary now. Nothing is sent twice by itself.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
import redis.asyncio.sentinel
import redis.connection
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts.settings import ShardAddress
from serving.boards.clients import COMMAND_WAIT_S, sentinel_of

# How often a line with calls under way looks whether the oldest has waited too long.
LOOK_EVERY_S = 1.0
CONNECT_WAIT_S = 2.0
# How long a call that could not be sent yet waits for a connection: longer than a server takes to start again.
UNSENT_WAIT_S = 3.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5

Done = Callable[[list[Any] | Exception], None]
"""Called once with a call's replies (an error reply is among them as an exception), or with why there are none."""


def error_of(text: str) -> Exception:
    """redis-py's exception for a server's error reply."""
    return cast(Exception, DefaultParser.parse_error(text))


def _cannot_connect(address: ShardAddress, error: Exception) -> RedisConnectionError:
    return RedisConnectionError(f"cannot connect to {address.primary or 'the shard'}: {error!r}")


class _Call:
    """A call under way: its commands' bytes until they are sent, and the replies that have come."""

    __slots__ = ("done", "packed", "replies", "since", "wanted")

    def __init__(self, packed: bytes, wanted: int, done: Done, since: float) -> None:
        self.packed = packed
        self.wanted = wanted
        self.done = done
        self.since = since
        self.replies: list[Any] = []


class Line(asyncio.Protocol):
    """A connection. Connects with the first call; used in one event loop."""

    def __init__(self, address: ShardAddress, *, text: bool = False, replica: bool = False) -> None:
        """text: replies are str instead of bytes. replica: to one of them, to read from; the primary where none is there."""
        self._address = address
        self._replica = replica
        self._options: dict[str, Any] = {"encoding": "utf-8"} if text else {}
        self._calls: deque[_Call] = deque()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._reader = hiredis.Reader()
        self._closed = False

    def call(self, commands: Sequence[Sequence[Any]], done: Done) -> None:
        """Sends commands together. Arguments are bytes, str, int or float."""
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])
        loop = asyncio.get_running_loop()
        call = _Call(packed, len(commands), done, loop.time())
        self._calls.append(call)
        if self._look is None:
            self._look = loop.call_later(LOOK_EVERY_S, self._look_at_oldest)
        if self._transport is not None:
            self._transport.write(packed)
            call.packed = b""
        elif self._connecting is None:
            self._connecting = loop.create_task(self._connect())

    async def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The replies of some commands. Raises RedisError if there are none; an error reply is among them."""
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def tell(replies: list[Any] | Exception) -> None:
            if done.done():
                return
            if isinstance(replies, Exception):
                done.set_exception(replies)
            else:
                done.set_result(replies)

        self.call(commands, tell)
        return await done

    def close(self) -> None:
        """Closes it; what is under way fails. It may be used again."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._break(RedisConnectionError("closed by this side"))

    async def _connect(self) -> None:
        """Connects for what waits. What was not sent yet may wait: a server that restarts is back within moments."""
        pause_s = _FIRST_PAUSE_S
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_WAIT_S):
                        await self._open()
                    break
                except (RedisError, OSError, TimeoutError) as error:
                    now = asyncio.get_running_loop().time()
                    if not self._calls or now - self._calls[0].since > UNSENT_WAIT_S:
                        self._connecting = None
                        self._break(_cannot_connect(self._address, error))
                        return
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except BaseException:
            self._connecting = None
            raise

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        login = redis.connection.parse_url(self._address.url)
        if self._address.sentinels:
            sentinel = sentinel_of(self._address)
            try:
                places = await sentinel.discover_slaves(self._address.primary) if self._replica else []
                host, port = random.choice(places or [await sentinel.discover_master(self._address.primary)])
            finally:
                for one in sentinel.sentinels:
                    await one.aclose()
        else:
            host, port = login.get("host", "localhost"), login.get("port", 6379)
        secure = ssl.create_default_context() if self._address.url.startswith("rediss:") else None
        self._reader = hiredis.Reader(replyError=error_of, **self._options)
        if "path" in login:
            await loop.create_unix_connection(lambda: self, login["path"])
        else:
            await loop.create_connection(lambda: self, host, port, ssl=secure)
        if self._transport is None:
            raise RedisConnectionError("the connection was lost at once")
        # From here on calls go out in order, the login before them.
        first = []
        if login.get("password"):
            user = [login["username"]] if login.get("username") else []
            first.append(("AUTH", *user, login["password"]))
        if login.get("db"):
            first.append(("SELECT", login["db"]))
        waiting = [call for call in self._calls if call.packed]
        for command in reversed(first):
            hello = _Call(hiredis.pack_command(command), 1, self._logged_in, loop.time())
            self._calls.appendleft(hello)
            waiting.insert(0, hello)
        self._connecting = None
        self._transport.write(b"".join([call.packed for call in waiting]))
        for call in waiting:
            call.packed = b""

    def _logged_in(self, replies: list[Any] | Exception) -> None:
        if isinstance(replies, list) and isinstance(replies[0], Exception):
            self._break(RedisConnectionError(f"the login failed: {replies[0]}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        try:
            while self._calls:
                reply = reader.gets()
                if reply is False:
                    return
                call = self._calls[0]
                call.replies.append(reply)
                if isinstance(reply, ReadOnlyError):
                    # Another server is primary now: what comes next asks who.
                    self._calls.popleft()
                    call.done(reply)
                    self._break(RedisConnectionError("the server is no primary any more"))
                    return
                if len(call.replies) == call.wanted:
                    self._calls.popleft()
                    call.done(call.replies)
        except hiredis.ProtocolError as error:
            self._break(RedisConnectionError(f"the server does not speak RESP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._break(RedisConnectionError(f"the connection was lost: {error or 'closed by the server'}"))

    def _break(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
        failed, self._calls = self._calls, deque()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for call in failed:
            call.done(error)

    def _look_at_oldest(self) -> None:
        self._look = None
        if not self._calls:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._calls[0].since > COMMAND_WAIT_S:
            self._break(RedisTimeoutError(f"no reply within {COMMAND_WAIT_S:g} s"))
        else:
            self._look = loop.call_later(LOOK_EVERY_S, self._look_at_oldest)
