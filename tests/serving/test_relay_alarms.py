"""What stops a relay instead of going on: a lost end, a successor, an answer that history already has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from contracts.errors import BrokenContract
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.recorded import Recorded, recorded

pytestmark = pytest.mark.service


@pytest.fixture
def record(tmp_path: Path, postgres_url: str) -> Iterator[Recorded]:
    """One empty shard and an empty database."""
    daemon = start_valkey(tmp_path / "valkey")
    yield recorded([daemon.url], postgres_url)
    daemon.stop()


def rows(record: Recorded) -> tuple[int, int]:
    with psycopg.connect(record.postgres_url) as sql:
        found = sql.execute("SELECT count(*), count(DISTINCT event_id) FROM history").fetchone()
        assert found is not None
        return found


def test_an_outbox_that_ends_before_the_position_stops_everything(record: Recorded) -> None:
    record.play(model.play(71, sessions=2))
    record.relay()
    before = rows(record)
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute("UPDATE relay_position SET position = position + 1 WHERE sink = 'history'")
    with record.relays() as (relay,), pytest.raises(BrokenContract, match="position_lost"):
        relay.step()
    assert before == rows(record)


def test_a_relay_whose_position_was_moved_writes_nothing_and_reads_it_again(record: Recorded) -> None:
    first, second = model.play(72, sessions=2), model.play(73, sessions=2)
    second = [a for a in second if a.session_id not in {b.session_id for b in first}] or second
    record.play(first)
    with record.relays() as (slow,):
        while slow.step():
            pass
        counted = record.play(second)
        # Its successor's work, while it still believes that it leads: the lease is its own, the position is not.
        slow._outbox.release_lease(slow.lease_name, slow._token)
        with record.relays() as (fast,):
            while fast.step():
                pass
            after = rows(record)
            assert counted > 0
            fast._outbox.release_lease(fast.lease_name, fast._token)
        stale = slow._history_position
        slow._outbox.take_lease(slow.lease_name, slow._token, 10_000)
        assert stale is not None and stale < slow._outbox.last_seq()
        entries = slow._outbox.read_after(stale, 1_000) or slow._history.read_after(stale, 1_000)
        with pytest.raises(BrokenContract, match="fenced"):
            slow._history.write(stale, entries, 10**6)
        assert after == rows(record)
        while slow.step():
            pass
    assert after == rows(record)


def test_an_answer_that_history_has_under_another_seq_alarms(record: Recorded) -> None:
    answers = model.play(74, sessions=1)
    record.play(answers)
    record.relay()
    with psycopg.connect(record.postgres_url) as sql:
        moved = sql.execute("UPDATE history SET seq = seq + 1000000").rowcount
        sql.execute("UPDATE relay_position SET position = 0 WHERE sink = 'history'")
    with record.relays() as (relay,):
        entries = [one for one in relay._history.read_after(1_000_000, 1) if one]
        first = [type(one)(1, one.type, one.event, one.mode) for one in entries]
        with pytest.raises(BrokenContract, match="check_failed"):
            relay._history.write(0, first, 10**6)
    assert (moved, moved) == rows(record)
