"""The pure parts of live delivery: frames, holding, placement, and what a receiver keeps for a socket that is slow."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from serving.boards.session_boards import shown_places
from serving.live.holding import HOLD_AT_PER_S, HOLD_MAX_S, WINDOW_S, ConnectGate
from serving.live.registry import LOST_US, SPREAD_SOCKETS, Handler, alive, place
from serving.live.rooms import OLDER, SET_BACK, order
from serving.live.wire import QUEUE_MESSAGES, SLOW_S, Receiver, text_frame

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_a_frame_is_what_the_library_reads(size: int) -> None:
    reader = StreamReader()
    payload = b"x" * size
    reader.feed_data(text_frame(payload))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    frame: Frame = done.value.value
    assert (Opcode.TEXT, True, payload) == (frame.opcode, frame.fin, bytes(frame.data))


class Transport:
    """The transport under a receiver: paused or not, what was written, how it was closed."""

    def __init__(self) -> None:
        self.paused = False
        self.written: list[bytes] = []
        self.closed: tuple[int, bool] | None = None
        self.receiver: Receiver | None = None
        self.at = 0.0
        self.loop = self

    def time(self) -> float:
        return self.at

    def write_frame(self, frame: bytes) -> None:
        self.written.append(frame)

    def end(self, code: int, reason: str, abort: bool = False) -> None:
        self.closed = (code, abort)


def receiver() -> tuple[Receiver, Transport]:
    transport: Any = Transport()
    return Receiver(transport), transport


def test_a_slow_receiver_gets_what_must_arrive_in_order_and_the_newest_board_only() -> None:
    slow, transport = receiver()
    slow.put(b"1")
    transport.paused = True
    for frame in (b"2", b"3"):
        slow.put(frame)
        slow.put_board(b"board " + frame)
    assert [b"1"] == transport.written
    transport.paused = False
    slow.put(b"4")  # never before what waits
    slow.flush()
    assert [b"1", b"2", b"3", b"4", b"board 3"] == transport.written


def test_a_receiver_that_never_reads_is_dropped_by_length_or_by_time() -> None:
    slow, transport = receiver()
    transport.paused = True
    for _ in range(QUEUE_MESSAGES):
        slow.put(b"x")
    assert transport.closed is None
    slow.put(b"x")
    assert (4408, True) == transport.closed
    late, transport = receiver()
    transport.paused = True
    late.put_board(b"x")
    transport.at = SLOW_S
    late.put_board(b"x")
    assert transport.closed is None
    transport.at = SLOW_S + 0.1
    late.put_board(b"x")
    assert (4408, True) == transport.closed


def test_boards_wait_while_thousands_connect_and_never_for_long() -> None:
    gate, held = ConnectGate(), []
    step_s = 1 / (4 * HOLD_AT_PER_S)
    for number in range(int(3 * HOLD_MAX_S / step_s)):
        gate.connected(number * step_s)
        held.append(gate.held(number * step_s))
    longest, run = 0, 0
    for value in held:
        run = run + 1 if value else 0
        longest = max(longest, run)
    assert sum(held) > 0.8 * len(held)
    assert longest * step_s <= HOLD_MAX_S + step_s
    assert not gate.held(3 * HOLD_MAX_S + 2 * WINDOW_S)


def test_a_class_that_joins_is_not_held() -> None:
    gate = ConnectGate()
    for number in range(30):
        gate.connected(number / 30)
        assert not gate.held(number / 30)


def handler(name: str, sockets: int, draining: bool = False, beat_us: int = 0) -> Handler:
    return Handler(f"{name}-1", name, sockets, draining, beat_us)


def test_placement_keeps_a_session_together_unless_that_is_lopsided() -> None:
    a, b, leaving = handler("a", 10), handler("b", 5), handler("c", 0, draining=True)
    every = [a, b, leaving]
    assert b == place(every, [])
    assert a == place(every, ["a-1"])
    assert b == place(every, ["c-1", "gone"])
    full = handler("a", 6 + SPREAD_SOCKETS)
    assert b == place([full, b], ["a-1"])
    assert place([leaving], ["c-1"]) is None


def test_a_handler_without_a_beat_is_not_there() -> None:
    text = '{"id": "a-1", "name": "a", "sockets": 3, "draining": false, "beat_us": 1000}'
    assert {"a-1": handler("a", 3, beat_us=1000)} == alive({"a-1": text}, 1000 + LOST_US)
    assert {} == alive({"a-1": text}, 1001 + LOST_US)


def test_reads_that_overlap_are_older_and_later_ones_set_back() -> None:
    held = {"held": 7, "held_until": 10.0}
    assert "" == order(8, 9.0, **held) == order(7, 9.0, **held) == order(8, 11.0, **held)
    assert OLDER == order(6, 9.9, **held)
    assert SET_BACK == order(6, 10.0, **held)


def test_shown_ranks_close_the_gap_of_removed_players() -> None:
    rows = [("ada", "30"), ("bea", "20"), ("cyd", "10"), ("dan", "5")]
    shown = shown_places(rows, frozenset({"ada", "cyd"}), 2)
    assert [(1, "bea"), (2, "dan")] == [(place_.rank, place_.user_id) for place_ in shown]
