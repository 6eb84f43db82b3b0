"""Client of the play socket, protocol live.v1, and of the routes beside it: for load generators, simulations and tests.

It comes back by itself (jittered back-off), says what it saw last so that only newer states are sent, and sends again
what has no reply yet: a repeat gets the first result, so that is harmless. Twin: `live_client.js`, which the page uses.

    async with LiveClient("ws://127.0.0.1:8080/v1/live", token) as player:
        question = await player.until("question")
        result = await player.answer(question["question_id"], question["choices"][0])
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Self
from urllib.parse import urlencode

import websockets
from websockets.asyncio.client import ClientConnection, connect

PROTOCOL = "live.v1"
# After these the server does not want this client back: another protocol, no valid token, removed, no such session.
FINAL_CODES = (4400, 4401, 4403, 4404)
BACK_OFF_S = (0.3, 5.0)
RETRY_S = 0.5
# An error of the server: the same message may be sent again after a pause.
RETRY_STATUS = 500
TOO_MANY = 429
# Messages a caller may leave unread; the oldest go first, as a caller who does not read wants the newest.
INBOX = 1_000
Message = dict[str, Any]


class Closed(Exception):
    """The server closed the socket for good; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


def _may_repeat(status: int) -> bool:
    """Whether the same message may be taken later."""
    return status >= RETRY_STATUS or status == TOO_MANY


class Refused(Exception):
    """An error message that answers a request: repeating it changes nothing."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"{message['code']}: {message['detail']}")
        self.code: str = message["code"]
        self.message = message


class LiveClient:
    """One player's or host's line. `url` is the socket's address; `urls` may be several handlers, tried in turn."""

    def __init__(self, url: str, token: str, *, others: tuple[str, ...] = ()) -> None:
        self.urls = (url, *others)
        self.token = token
        self.welcome: Message = {}
        self.epoch: int | None = None
        self.seq: int | None = None
        self.connects = 0
        self.inbox: asyncio.Queue[Message] = asyncio.Queue(INBOX)
        self._pending: dict[str, tuple[Message, asyncio.Future[Message]]] = {}
        self._socket: ClientConnection | None = None
        self._refs = 0
        self._run: asyncio.Task[None] | None = None
        self._welcomed = asyncio.Event()
        self._closed: Closed | None = None

    async def __aenter__(self) -> Self:
        """Connected and welcomed. Raises Closed if the server refuses the client."""
        self._run = asyncio.create_task(self._keep())
        await self._or_closed(self._welcomed.wait())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._run is not None
        self._run.cancel()
        await asyncio.gather(self._run, return_exceptions=True)

    async def answer(self, question_id: str, choice: str) -> Message:
        """The result, after as many lines as it takes. Raises Refused, and Closed."""
        return await self.ask({"type": "answer", "question_id": question_id, "choice": choice})

    async def next(self) -> Message:
        """In a challenge: the next `question`, or `finished`. Raises Refused, and Closed."""
        return await self.ask({"type": "next"})

    async def ping(self) -> Message:
        """The `pong`."""
        return await self.ask({"type": "ping"})

    async def ask(self, message: Message) -> Message:
        """Sends a message and returns what answers it. Raises Refused for an error that a repeat does not change."""
        self._refs += 1
        ref = str(self._refs)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[ref] = ({**message, "ref": ref}, reply)
        try:
            await self._send(self._pending[ref][0])
            found = await self._or_closed(reply)
        finally:
            self._pending.pop(ref, None)
        if found["type"] == "error":
            raise Refused(found)
        return found

    async def until(self, *types: str) -> Message:
        """The next message of one of these types; those before it are dropped. Raises Closed."""
        while True:
            message = await self._or_closed(self.inbox.get())
            if message["type"] in types:
                return message

    async def break_line(self) -> None:
        """Loses the connection as a network would; the client comes back by itself."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _or_closed(self, waiting: Any) -> Any:
        task = asyncio.ensure_future(waiting)
        assert self._run is not None
        await asyncio.wait({task, self._run}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        if self._closed is not None:
            raise self._closed
        self._run.result()  # a fault of the client itself
        raise Closed(1000)

    async def _keep(self) -> None:
        """Holds a line until the server closes it for good."""
        tries = 0
        while True:
            seen = {name: value for name in ("epoch", "seq") if (value := getattr(self, name)) is not None}
            url = self.urls[self.connects % len(self.urls)]
            address = url + ("&" if "?" in url else "?") + urlencode({"token": self.token, **seen})
            self.connects += 1
            code = 1006
            try:
                async with connect(
                    address, subprotocols=[websockets.Subprotocol(PROTOCOL)], compression=None
                ) as socket:
                    code = await self._read(socket)
                    if self.welcome:
                        tries = 0
            except (OSError, websockets.WebSocketException):
                pass
            self._socket = None
            if code in FINAL_CODES:
                self._closed = Closed(code)
                return
            pause = min(BACK_OFF_S[1], BACK_OFF_S[0] * 2**tries)
            tries += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _read(self, socket: ClientConnection) -> int:
        """Messages until the line ends; its close code."""
        try:
            async for frame in socket:
                message: Message = json.loads(frame)
                if message["type"] == "welcome":
                    self.welcome, self._socket = message, socket
                    if message["epoch"] < (self.epoch or 0) or message["seq"] < (self.seq or 0):
                        self.epoch = self.seq = None  # the server was set back: what it says now holds
                    self._welcomed.set()
                    for waiting, _ in list(self._pending.values()):
                        await self._send(waiting)
                self._take(message)
        except websockets.ConnectionClosed:
            pass
        return socket.close_code or 1006

    def _take(self, message: Message) -> None:
        waiting = self._pending.get(message.get("ref", ""))
        if waiting is not None:
            if message["type"] == "error" and _may_repeat(message["status"]):
                pause = RETRY_S * random.uniform(1.0, 2.0)
                asyncio.get_running_loop().call_later(pause, self._send_again, message["ref"])
                return
            if not waiting[1].done():
                waiting[1].set_result(message)
        if message["type"] == "board":
            if self.seq is not None and message["seq"] < self.seq:
                return
            self.seq = message["seq"]
        elif message["type"] != "welcome" and "epoch" in message:
            if self.epoch is not None and message["epoch"] < self.epoch:
                return
            self.epoch = message["epoch"]
        if self.inbox.full():
            self.inbox.get_nowait()
        self.inbox.put_nowait(message)

    def _send_again(self, ref: str) -> None:
        if ref in self._pending:
            task = asyncio.ensure_future(self._send(self._pending[ref][0]))
            task.add_done_callback(lambda done: done.exception())

    async def _send(self, message: Message) -> None:
        """Writes a message if there is a line; without one it waits for the next welcome."""
        try:
            if self._socket is not None:
                await self._socket.send(json.dumps(message))
        except websockets.ConnectionClosed:
            pass
