"""Thousands of play sockets in one event loop: a WebSocket client that reads what it must and counts the rest.

`clients.live_client` is the client to build on; ten thousand of it would take the processors from the server that is measured.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

BOARD = b'{"type":"board"'
_ZERO_MASK = b"\x00\x00\x00\x00"


def text_frame(payload: bytes) -> bytes:
    """A client's text frame. The mask is zero, which leaves the bytes as they are and is a mask all the same."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, 0x80 | size)) + _ZERO_MASK + payload
    return b"\x81\xfe" + size.to_bytes(2, "big") + _ZERO_MASK + payload


class Line(asyncio.Protocol):
    """One socket. on_frame gets each text frame's bytes; `opened` is done when the server has upgraded."""

    def __init__(self, url: str, on_frame: Callable[[bytes], None]) -> None:
        self._url = url
        self._on_frame = on_frame
        self._buffer = b""
        self._upgraded = False
        self.transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)
        parts = urlsplit(self._url)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: live.v1\r\n\r\n"
        )
        transport.write(head.encode())

    def send(self, payload: bytes) -> None:
        """Sends a text frame; nothing once the line is lost."""
        if self.transport is not None and not self.lost:
            self.transport.write(text_frame(payload))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self.opened.set_exception(ConnectionError(buffer[:200].decode(errors="replace")))
                return
            self._upgraded, at = True, end + 4
            self.opened.set_result(None)
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + size:
                break
            if buffer[at] == 0x81:
                self._on_frame(buffer[start : start + size])
            elif (
                buffer[at] == 0x89 and self.transport is not None
            ):  # a ping: unanswered, the server gives the line up
                payload = buffer[start : start + size]
                self.transport.write(bytes((0x8A, 0x80 | size)) + _ZERO_MASK + payload)
            at = start + size
        self._buffer = buffer[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed before it was open"))


async def open_line(url: str, on_frame: Callable[[bytes], None]) -> Line:
    """A line that the server has upgraded. Raises OSError (ConnectionError if it refuses)."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(lambda: Line(url, on_frame), host, port)
    await line.opened
    return line
