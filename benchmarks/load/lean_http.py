"""HTTP/1.1 over kept connections at a small cost to the machine that is measured: one request at a time on each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping


class LeanHttp:
    """A pool of connections to one server."""

    def __init__(self, port: int, connections: int, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
        for _ in range(connections):
            self._free.put_nowait(None)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """(status, body). Raises OSError if the server goes."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        held = await self._free.get()
        try:
            if held is not None:
                try:
                    return await _exchange(*held, message)
                except (asyncio.IncompleteReadError, ConnectionResetError) as error:
                    held[1].close()
                    if getattr(error, "partial", b""):
                        raise
                    # A server closes connections that were idle for a while.
            held = await asyncio.open_connection(self._host, self._port)
            return await _exchange(*held, message)
        except BaseException:
            if held is not None:
                held[1].close()
            held = None
            raise
        finally:
            self._free.put_nowait(held)

    def close(self) -> None:
        """Closes the connections that are free."""
        while not self._free.empty():
            held = self._free.get_nowait()
            if held is not None:
                held[1].close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> tuple[int, bytes]:
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    size = int(head[at + 15 : head.index(b"\r", at)]) if at >= 0 else 0
    return int(head[9:12]), await reader.readexactly(size) if size else b""
