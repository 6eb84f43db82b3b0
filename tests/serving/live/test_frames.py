"""What a client sends, however the network cuts it: messages in order, and anything unusual as the library reads it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from serving.live.holding import BOARD_AT_LEAST_EVERY_S, BOARD_EVERY_S, Pace
from serving.live.wire import LiveProtocol
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table

HANDSHAKE = (
    b"GET /v1/live HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Transport:
    """The transport under a protocol: what was written, whether it reads, whether it is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def application(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def opened() -> tuple[LiveProtocol, Transport]:
    config = Config(
        application, ws_max_size=4096, ws_per_message_deflate=False, ws_ping_interval=None, log_config=None
    )
    config.load()
    protocol, transport = LiveProtocol(config, ServerState(), {}), Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    protocol.data_received(HANDSHAKE)
    while not protocol.handshake_complete:
        await asyncio.sleep(0)
    transport.written = b""
    return protocol, transport


def frame(kind: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(kind, data, fin).serialize(mask=True)


def message(text: str) -> bytes:
    return frame(Opcode.TEXT, text.encode())


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.integers(100, 700).map(
    "x".__mul__
)
PIECES = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("ping"), TEXTS.map(lambda text: text[:10])),
    st.tuples(st.just("fragments"), TEXTS),
    st.tuples(st.just("bytes"), TEXTS),
)


def wire_of(kind: str, text: str) -> bytes:
    data = text.encode()
    if kind == "fragments":
        half = len(data) // 2
        return frame(Opcode.TEXT, data[:half], fin=False) + frame(Opcode.CONT, data[half:])
    return frame({"text": Opcode.TEXT, "ping": Opcode.PING, "bytes": Opcode.BINARY}[kind], data)


@pytest.mark.property
@given(pieces=st.lists(PIECES, max_size=8), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_messages_come_whole_and_in_order(pieces: list[tuple[str, str]], cuts: list[int]) -> None:
    async def main() -> None:
        protocol, transport = await opened()
        taken: list[bytes] = []
        protocol.take = taken.append
        data, at, turn = b"".join(wire_of(*piece) for piece in pieces), 0, 0
        while at < len(data):
            size = cuts[turn % len(cuts)]
            protocol.data_received(data[at : at + size])
            at, turn = at + size, turn + 1
        assert [text.encode() for kind, text in pieces if kind != "ping"] == taken
        pings = [text.encode() for kind, text in pieces if kind == "ping"]
        assert b"".join(Frame(Opcode.PONG, one).serialize(mask=False) for one in pings) == transport.written

    asyncio.run(main())


@pytest.mark.unit
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (frame(Opcode.TEXT, b"x" * 4097), 1009),
        (Frame(Opcode.TEXT, b"unmasked").serialize(mask=False), 1002),
        (b"\xf1" + frame(Opcode.TEXT, b"reserved bits")[1:], 1002),
        (frame(Opcode.CLOSE, (1000).to_bytes(2, "big")), 1000),
    ],
)
def test_what_breaks_the_protocol_closes_the_socket_with_its_code(sent: bytes, code: int) -> None:
    async def main() -> None:
        protocol, transport = await opened()
        taken: list[bytes] = []
        protocol.take = taken.append
        protocol.data_received(message("before") + sent + message("after"))
        assert [b"before"] == taken
        assert transport.closed and b"\x88" + bytes((len(transport.written) - 2,)) == transport.written[:2]
        assert code == int.from_bytes(transport.written[2:4], "big")

    asyncio.run(main())


@pytest.mark.unit
def test_a_socket_that_is_not_read_keeps_what_came_for_later() -> None:
    async def main() -> None:
        protocol, transport = await opened()
        taken: list[bytes] = []

        def take(one: bytes) -> None:
            taken.append(one)
            if len(taken) == 2:
                protocol.pause_reading()

        protocol.take = take
        whole = b"".join(message(f"m{n}") for n in range(5))
        protocol.data_received(whole[:-3])
        assert [b"m0", b"m1"] == taken and not transport.reading
        protocol.resume_reading()
        await asyncio.sleep(0.01)
        protocol.data_received(whole[-3:])
        assert [f"m{n}".encode() for n in range(5)] == taken and transport.reading

    asyncio.run(main())


@pytest.mark.unit
def test_before_somebody_takes_them_messages_wait_in_the_servers_queue() -> None:
    async def main() -> None:
        protocol, _ = await opened()
        protocol.data_received(message("one") + message("two"))
        assert {"type": "websocket.receive", "text": "one"} == await protocol.receive()
        await asyncio.sleep(0)
        assert {"type": "websocket.receive", "text": "two"} == await protocol.receive()

    asyncio.run(main())


@pytest.mark.unit
def test_boards_go_out_less_often_the_further_a_process_is_behind() -> None:
    pace = Pace()
    for _ in range(50):
        pace.looked(0.01)
    pace.looked(0.1)  # one stall
    assert BOARD_EVERY_S == pace.board_every_s
    for _ in range(50):
        pace.looked(0.1)
    assert 0.8 < pace.board_every_s < 1.0
    for _ in range(50):
        pace.looked(5.0)
    assert BOARD_AT_LEAST_EVERY_S == pace.board_every_s
    for _ in range(50):
        pace.looked(0.0)
    assert BOARD_EVERY_S == pace.board_every_s


@pytest.mark.service
def test_messages_sent_at_once_are_answered_in_order(api: ApiProcess) -> None:
    table = Table(api, "Ada")
    table.host("next").raise_for_status()
    question = table.current()

    async def main() -> list[str]:
        address = f"{api.url.replace('http', 'ws')}/v1/live?token={table.players[0]['token']}"
        async with websockets.connect(address, subprotocols=["live.v1"]) as socket:  # type: ignore[list-item]
            answer = '{"type":"answer","question_id":"%s","choice":"%s","ref":"r%d"}'
            for number in range(20):
                if number % 3:
                    await socket.send(answer % (question["question_id"], question["choices"][0], number))
                else:
                    await socket.send(f'{{"type":"ping","ref":"r{number}"}}')
            refs: list[str] = []
            while len(refs) < 20:
                text = str(await asyncio.wait_for(socket.recv(), 10))
                if '"ref":"r' in text:
                    refs.append(text.partition('"ref":"')[2].partition('"')[0])
            return refs

    assert [f"r{number}" for number in range(20)] == asyncio.run(main())
