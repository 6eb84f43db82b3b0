"""What a container's platform asks a part: is it there (exit 0 or 1), and, before it is stopped, does it let its players go.

    python3 -IS docker/probe.py http PORT PATH        a 2xx reply from this container's own port
    python3 -IS docker/probe.py valkey                +PONG: it serves, and does not only load its files
    python3 -IS docker/probe.py postgres              it asks who is there: recovery is over
    python3 -IS docker/probe.py beat FILE SECONDS     the file was touched within so many seconds
    python3 -IS docker/probe.py drain PORT SECONDS    returns when the api process has no sockets, or after so many seconds

Sockets of the standard library alone: it is started every few seconds beside each part, and takes 20 ms of processor time.
"""

import os
import socket
import struct
import sys
import time

TIMEOUT_S = 2.0
# The gateway asks /readyz every second, and a platform takes a moment to tell everybody that an address is gone.
UNROUTED_S = 3.0


def say(port: int, request: bytes, enough: int = 65536) -> bytes:
    """The first bytes of the reply. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        reply = b""
        while len(reply) < enough and (more := connection.recv(enough)):
            reply += more
        return reply


def http(port: int, path: str, method: str = "GET", header: str = "") -> bytes:
    """Status line and all that follows."""
    request = f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n{header}\r\n"
    return say(port, request.encode())


def succeeded(reply: bytes) -> bool:
    """Whether the status is one of 2xx."""
    return reply[:9] in (b"HTTP/1.1 ", b"HTTP/1.0 ") and reply[9:10] == b"2"


def secret(name: str) -> str:
    """A secret's text."""
    with open(os.path.join(os.environ.get("LAKEBOARD_SECRETS_DIR", "/run/secrets"), name)) as file:
        return file.read().strip()


def valkey() -> bool:
    """Whether the shard serves."""
    return b"+PONG" in say(6379, f"AUTH {secret('valkey_password')}\r\nPING\r\nQUIT\r\n".encode())


def postgres() -> bool:
    """Whether the server would let somebody log in: it answers the first message with a request for a password (R)."""
    body = struct.pack("!i", 3 << 16) + b"user\0lakeboard\0database\0lakeboard\0\0"
    return say(5432, struct.pack("!i", len(body) + 4) + body, 1) == b"R"


def drain(port: int, seconds: float) -> bool:
    """Asks until nobody is left: the process is not ready from the first time on, and tells its sockets to come back."""
    began = time.monotonic()
    header = f"X-API-Key: {secret('importer_key')}\r\n"
    while time.monotonic() - began < seconds:
        reply = http(port, "/internal/drain", "POST", header)
        if not succeeded(reply):
            return False
        if b'"sockets":0' in reply.replace(b" ", b"") and time.monotonic() - began > UNROUTED_S:
            return True
        time.sleep(0.25)
    return False


def main(what: str, *words: str) -> bool:
    """One question."""
    if what == "http":
        return succeeded(http(int(words[0]), words[1]))
    if what == "beat":
        return time.time() - os.stat(words[0]).st_mtime < float(words[1])
    if what == "drain":
        return drain(int(words[0]), float(words[1]))
    return {"valkey": valkey, "postgres": postgres}[what]()


if __name__ == "__main__":
    try:
        sys.exit(not main(*sys.argv[1:]))
    except OSError as error:
        sys.exit(f"{' '.join(sys.argv[1:])}: {error}")
