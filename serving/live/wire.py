"""The socket's transport side: frames that are encoded once and written as they are, and who is too slow to take them.

uvicorn's own protocol builds each frame anew for each socket; at 40,000 pushes a second that is most of the CPU
(`LiveProtocol` writes the same bytes to every transport). It reads likewise: a plain text frame is cut out of the bytes
here and handed to whoever takes it, in the same call; anything else is the library's. No compression: a zlib window a
socket costs more than 40 kB, and a message is smaller than a packet.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.utils import apply_mask

from serving.live.messages import CLOSE_SLOW
from serving.metrics import DROPPED, SKIPPED

EXTENSION = "lakeboard.live"
Take = Callable[[bytes], None]
_ZERO_MASK = bytes(4)
_TEXT = 0x81
# First bytes of frames that are whole messages: text, binary, ping, pong. Nothing is cut out after a close.
_WHOLE = frozenset((_TEXT, 0x82, 0x89, 0x8A))
# What the kernel and asyncio may hold of a socket's outgoing bytes. More hides a slow reader behind seconds of old
# boards; less makes a short stall of the network look like one.
SEND_BUFFER_BYTES = 32 * 1024
WRITE_HIGH_BYTES = 16 * 1024
# Results and phases a receiver may have waiting: several questions' worth; more means that nobody reads.
QUEUE_MESSAGES = 32
# A receiver that takes nothing for this long is dropped: a phone that comes back resumes with the newest state.
SLOW_S = 10.0
# After a close frame that a slow receiver will not read.
ABORT_AFTER_S = 1.0


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_frame(payload: bytes) -> bytes:
    """A whole, unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class LiveProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which also takes whole frames; the route finds it in the scope's extensions."""

    paused = False
    receiver: Receiver | None = None
    # Who gets each message in the call that brings it; until there is one they wait in uvicorn's queue, as always.
    take: Take | None = None
    # The library reads everything: the handshake, and what it alone understands (a message in fragments, a broken frame).
    _by_library = True
    _opened = False
    _rest = b""

    def data_received(self, data: bytes) -> None:
        """Bytes of the socket. Reading that is paused leaves the frames that came along for later."""
        if not self._by_library:
            self._read_frames(data)
            return
        super().data_received(data)
        if self.handshake_initiated and not self._opened:
            self._opened = True
            # A client sends nothing before the reply; if it does, the library may hold half a frame of it.
            self._by_library = not data.endswith(b"\r\n\r\n")

    def _read_frames(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        # RFC 6455, 5.2: two bytes, the length's other two if it is 126, four of the mask.
        while end - at >= 6 and not self.read_paused and not self.disconnected:
            kind, size, head = buffer[at], buffer[at + 1] & 0x7F, 6
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 8
            if (
                kind not in _WHOLE
                or buffer[at + 1] < 0x80
                or size > self.config.ws_max_size
                or size == 127 == buffer[at + 1] & 0x7F
            ):
                self._by_library, self._rest = True, b""
                super().data_received(buffer[at:])
                return
            if end - at < head + size:
                break
            payload = buffer[at + head : at + head + size]
            mask = buffer[at + head - 4 : at + head]
            if mask != _ZERO_MASK:
                payload = apply_mask(payload, mask)
            if kind == _TEXT and payload.isascii():
                self._message(payload)
            else:
                super().data_received(buffer[at : at + head + size])
            at += head + size
        self._rest = buffer[at:]

    def _message(self, payload: bytes) -> None:
        if self.take is not None:
            if not self.close_sent:
                self.take(payload)
        else:
            self.curr_msg_data_type, self.frames = "text", [payload]
            super().send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """A message that the library has read."""
        message = b"".join(self.frames)
        if self.take is None or (self.curr_msg_data_type == "text" and not _is_text(message)):
            super().send_receive_event_to_app()
            return
        self.frames = []
        if not self.close_sent:
            self.take(message)

    def pause_reading(self) -> None:
        """Leaves what comes with the sender."""
        if not self.read_paused:
            self.read_paused = True
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on, what has come already first."""
        if self.read_paused:
            self.read_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self._read_on()

    def _read_on(self) -> None:
        if self._rest and not self.read_paused:
            self.loop.call_soon(self._read_frames, b"")

    async def receive(self) -> Any:
        """The next message of uvicorn's queue."""
        message = await super().receive()
        self._read_on()
        return message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        found = transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            cast(dict[str, Any], scope["extensions"])[EXTENSION] = self

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.paused = False
        if self.receiver is not None:
            self.receiver.flush()

    def write_frame(self, frame: bytes) -> None:
        """Writes a whole frame; nothing once the socket closes."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(frame)

    def end(self, code: int, reason: str, abort: bool = False) -> None:
        """Sends a close frame and lets the route's `receive` return. `abort`: the other side does not read."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if abort:
            self.loop.call_later(ABORT_AFTER_S, self.transport.abort)
        else:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)


class Receiver:
    """One socket's outbound side: a short queue of what must arrive, and one slot for the newest board only.

    ready: it has been welcomed, and takes pushes. epoch: of the last phase that was put here (-1: none), so that each
    is sent once.
    """

    def __init__(self, protocol: LiveProtocol, user_id: str = "", role: str = "") -> None:
        self.protocol = protocol
        self.user_id = user_id
        self.role = role
        self.ended = False
        self.ready = False
        self.epoch = -1
        self._queue: deque[bytes] = deque()
        self._board: bytes | None = None
        self._stuck_since: float | None = None
        protocol.receiver = self

    def put(self, frame: bytes) -> None:
        """Sends a result or a phase now, or queues it behind what waits; ends a receiver that does not read."""
        if self.ended:
            return
        if not self.protocol.paused and not self._queue:
            self.protocol.write_frame(frame)
            return
        if len(self._queue) >= QUEUE_MESSAGES or self._too_long():
            self.drop()
            return
        self._queue.append(frame)

    def put_board(self, frame: bytes) -> None:
        """Sends a board now, or puts it in the place of the one that still waits."""
        if self.ended:
            return
        if not self.protocol.paused and not self._queue:
            self.protocol.write_frame(frame)
            return
        if self._board is not None:
            SKIPPED.inc()
        self._board = frame
        if self._too_long():
            self.drop()

    def flush(self) -> None:
        """Sends what waits, as far as the transport takes it."""
        self._stuck_since = None
        while self._queue and not self.protocol.paused:
            self.protocol.write_frame(self._queue.popleft())
        if self._board is not None and not self.protocol.paused:
            frame, self._board = self._board, None
            self.protocol.write_frame(frame)

    def drop(self) -> None:
        """Closes a receiver that is too slow."""
        self.end(CLOSE_SLOW, "too slow", abort=True)

    def end(self, code: int, reason: str, abort: bool = False) -> None:
        """Closes the socket with a code of the protocol."""
        if self.ended:
            return
        self.ended = True
        self._queue.clear()
        self._board = None
        DROPPED.labels(str(code)).inc()
        self.protocol.end(code, reason, abort)

    def _too_long(self) -> bool:
        now = self.protocol.loop.time()
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since > SLOW_S
