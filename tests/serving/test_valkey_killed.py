"""`kill -9` of a primary in the middle of an import: every acknowledged answer is there exactly once after restart."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from contracts import names
from contracts.errors import SystemMissing
from serving.boards.boards import Boards
from serving.boards.shards import Shards
from serving.play.importing import Importer
from tests import model
from tests.services.daemons import Daemon
from tests.serving.relay_stack import arrivals, body_of, fresh_stack, importer_of, start_relay, wait_for_relay
from tests.serving.test_relay import assert_global_boards

pytestmark = pytest.mark.faults

# Requests of one lane; kills fall between and inside them.
_REQUEST_LINES = 60


async def _lane(importer: Importer, answers: list[model.Answer]) -> list[tuple[int, int]]:
    """Send as `replay` does: in order, each request again unchanged until it is acknowledged. (shard, seq) counted."""
    acknowledged = []
    for start in range(0, len(answers), _REQUEST_LINES):
        part = answers[start : start + _REQUEST_LINES]
        while True:
            try:
                reply = await importer.import_body(body_of(part))
            except SystemMissing:
                await asyncio.sleep(0.02)
                continue
            break
        assert 0 == reply["refused"]
        for row in reply["lines"]:
            quiz = part[row["line"] - 1].quiz_id
            acknowledged.append((importer.shards.shard_of(quiz), row["seq"]))
    return acknowledged


def _kill_now_and_then(daemons: list[Daemon], importing: threading.Thread, seed: int) -> int:
    """Kill a primary, wait a moment, start it again; until the import is through. How often.

    On the main thread: a daemon ends with the thread that started it.
    """
    chance, kills = random.Random(seed), 0
    while importing.is_alive():
        time.sleep(chance.uniform(0.05, 0.4))
        daemon = chance.choice(daemons)
        daemon.kill()
        kills += 1
        daemon.start()
    return kills


@pytest.mark.parametrize("seed", [1, 2])
def test_acknowledged_answers_survive(tmp_path: Path, new_postgres_url: Callable[[], str], seed: int) -> None:
    answers = arrivals(model.play(seed, days=2, users=60, quizzes=9, sessions=18))
    counted = model.counted(answers)
    acknowledged: list[tuple[int, int]] = []

    async def send_all() -> None:
        async with importer_of(stack) as importer:
            acknowledged.extend(await _lane(importer, answers))

    with fresh_stack(tmp_path, new_postgres_url()) as (stack, daemons):
        relay = start_relay(stack)
        try:
            importing = threading.Thread(target=lambda: asyncio.run(send_all()))
            importing.start()
            assert _kill_now_and_then(daemons, importing, seed) >= 2
            wait_for_relay(stack, len(counted), relay)
        finally:
            relay.kill()
            relay.wait()
        with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            rows = sql.execute("SELECT shard, seq, event_id FROM history ORDER BY 1, 2").fetchall()
        assert len(counted) == len({row[2] for row in rows}) == len(rows)
        assert set(acknowledged) == {(row[0], row[1]) for row in rows}
        for shard in (0, 1):
            seqs = [row[1] for row in rows if row[0] == shard]
            assert list(range(1, len(seqs) + 1)) == seqs
        asyncio.run(_boards_equal_the_model(stack, answers))


async def _boards_equal_the_model(stack: dict[str, str], answers: list[model.Answer]) -> None:
    shards = Shards(stack["LAKEBOARD_VALKEY_URLS"].split(","))
    await assert_global_boards(shards, answers)
    boards = Boards(shards)
    quiz_of = {f"session:{a.session_id}": a.quiz_id for a in answers}
    for (scope, period, start), rows in model.all_boards(answers).items():
        if scope != "global":
            quiz = quiz_of.get(scope) or scope.partition(":")[2]
            found = await boards.totals(names.board(scope, period, start), quiz)
            assert [(r.user_id, r.points) for r in rows] == [(user, packed >> 22) for user, packed in found]
    await shards.close()
