"""Pieces of the relay's tests: a fresh deployment, a relay process that kills itself, an importer outside the api."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg

from contracts import names
from contracts.settings import from_mapping
from serving.boards.outbox import Outbox
from serving.boards.shards import Shards
from serving.migrations.upgrade import upgrade
from serving.play.importing import Importer
from serving.play.record import AnswerBatcher
from tests import model
from tests.services.daemons import Daemon, start_valkey

Stack = dict[str, str]

# Ends itself with SIGKILL after the n-th finished step of a kind, and when the test run is gone.
_RELAY = """
import os, signal, sys, threading, time
from contracts.settings import from_mapping
from serving.relay import run
wanted, left = sys.argv[1], [int(sys.argv[2])]
def after(step):
    if step == wanted:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
parent = os.getppid()
def watch():
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
run.run(from_mapping(os.environ), threading.Event(), after)
"""


@contextmanager
def fresh_stack(folder: Path, postgres_url: str) -> Iterator[tuple[Stack, list[Daemon]]]:
    """Settings of two fresh shards and a fresh database, boards kept from 1970; and the shards' daemons."""
    daemons = [start_valkey(folder / str(number)) for number in (1, 2)]
    upgrade(postgres_url)
    with psycopg.connect(postgres_url) as sql:
        sql.execute("UPDATE deployment SET value = '0' WHERE key = 'boards_since_us'")
    urls = ",".join(daemon.url for daemon in daemons)
    try:
        yield {"LAKEBOARD_VALKEY_URLS": urls, "LAKEBOARD_POSTGRES_URL": postgres_url}, daemons
    finally:
        for daemon in daemons:
            daemon.stop()


def start_relay(stack: Stack, step: str = "never", count: int = 0) -> subprocess.Popen[bytes]:
    """A relay process that kills itself after a step."""
    return subprocess.Popen(
        [sys.executable, "-c", _RELAY, step, str(count)],
        env=os.environ | stack,
        cwd=Path(__file__).parents[2],
    )


@asynccontextmanager
async def importer_of(stack: Stack) -> AsyncIterator[Importer]:
    """An importer outside any api process."""
    shards = Shards(from_mapping(stack).shards)
    batcher = AnswerBatcher(shards)
    batcher.start()

    @asynccontextmanager
    async def sql() -> AsyncIterator[psycopg.AsyncConnection]:
        async with await psycopg.AsyncConnection.connect(
            stack["LAKEBOARD_POSTGRES_URL"], autocommit=True
        ) as one:
            yield one

    yield Importer(shards, batcher, sql)
    await batcher.stop()
    await shards.close()


def body_of(answers: list[model.Answer]) -> bytes:
    """The import request of some answers."""
    return "\n".join(
        json.dumps(
            {
                "occurred_at_us": a.occurred_at_us,
                "user_id": a.user_id,
                "session_id": a.session_id,
                "quiz_id": a.quiz_id,
                "question_id": a.question_id,
                "correct": a.correct,
                "elapsed_ms": a.elapsed_ms,
                "quiz_zone": a.zone,
                "session_started_at_us": a.session_started_at_us,
            }
        )
        for a in answers
    ).encode()


def arrivals(answers: list[model.Answer]) -> list[model.Answer]:
    """The order in which one import request records its lines."""
    return sorted(
        answers,
        key=lambda a: (a.occurred_at_us, a.session_id, a.question_id, a.user_id, a.elapsed_ms, a.correct),
    )


async def _forget(stack: Stack) -> None:
    shards = Shards(from_mapping(stack).shards)
    for client in shards.clients:
        await client.delete(names.lease("relay-0"), names.lease("relay-1"))
    await shards.close()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Until something holds. Raises AssertionError when its time is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in its time"
        time.sleep(0.05)


def global_boards_behind(stack: Stack) -> int:
    """Entries that the global boards do not have yet, over all sources and targets."""
    outboxes = [Outbox(address) for address in from_mapping(stack).shards]
    behind = sum(
        source.last_seq() - target.global_position(number)
        for number, source in enumerate(outboxes)
        for target in outboxes
    )
    for outbox in outboxes:
        outbox.close()
    return behind


def wait_for_relay(stack: Stack, count: int, relay: subprocess.Popen[bytes]) -> None:
    """Until history has `count` rows and the global boards all of the outboxes. Raises AssertionError if it dies."""
    with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"], autocommit=True) as sql:

        def there() -> bool:
            assert relay.poll() is None, "the relay died"
            found = sql.execute("SELECT count(*) FROM history").fetchone()
            return found == (count,) and global_boards_behind(stack) == 0

        wait_until(there)


def forget_leases(stack: Stack) -> None:
    """A dead relay's lease runs out by itself; a test need not wait for it."""
    asyncio.run(_forget(stack))


def import_answers(stack: Stack, answers: list[model.Answer]) -> dict[str, int]:
    """Import some answers in one request; its counts."""

    async def fill() -> dict[str, int]:
        async with importer_of(stack) as importer:
            reply = await importer.import_body(body_of(answers))
            return {key: reply[key] for key in ("counted", "repeated", "refused")}

    return asyncio.run(fill())
