"""Import → relay → history and global boards: exactly once, through kills between steps, equal to the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from contracts import names
from contracts.errors import SystemMissing
from serving.boards.boards import Boards
from serving.boards.outbox import Outbox
from serving.boards.shards import Shards
from serving.play.importing import clock_us
from serving.play.record import AnswerBatcher, to_record
from serving.play.sealing import QUIET_US, Sealer
from tests import model
from tests.services.daemons import start_postgres
from tests.serving.relay_stack import (
    arrivals,
    body_of,
    forget_leases,
    fresh_stack,
    global_boards_behind,
    import_answers,
    importer_of,
    start_relay,
    wait_for_relay,
    wait_until,
)
from tests.serving.test_record_answers import event_of

pytestmark = pytest.mark.service


async def assert_global_boards(shards: Shards, answers: list[model.Answer]) -> None:
    """Every global board equals the model, row by row."""
    boards = Boards(shards)
    compared = 0
    for (scope, period, start), rows in model.all_boards(arrivals(answers)).items():
        if scope == "global":
            found = await boards.top(names.board(scope, period, start), len(rows) + 1, None)
            assert [(r.rank, r.user_id, r.points) for r in rows] == [
                (p.rank, p.user_id, p.points) for p in found
            ]
            for row in rows[::5]:
                place = await boards.rank(names.board(scope, period, start), row.user_id, None)
                assert place is not None and row.rank == place.rank
                around = await boards.around(names.board(scope, period, start), row.user_id, 3, None)
                assert [r.user_id for r in rows[max(row.rank - 4, 0) : row.rank + 3]] == [
                    p.user_id for p in around
                ]
            compared += 1
    assert compared


@pytest.fixture
def stack(tmp_path: Path, new_postgres_url: Callable[[], str]) -> Iterator[dict[str, str]]:
    """A fresh deployment."""
    with fresh_stack(tmp_path, new_postgres_url()) as (settings, _):
        yield settings


@pytest.mark.parametrize("step", ["lease", "history", "global_boards", "trim"])
def test_killed_after_any_step_nothing_is_lost_or_twice(stack: dict[str, str], step: str) -> None:
    answers = model.play(7, days=2, users=40, quizzes=9, sessions=12)
    counted = model.counted(arrivals(answers))

    assert {"counted": len(counted), "repeated": len(answers) - len(counted), "refused": 0} == import_answers(
        stack, answers
    )
    for count in (0, 2):
        relay = start_relay(stack, step, count)
        relay.wait(timeout=30)
        forget_leases(stack)
    relay = start_relay(stack)
    wait_for_relay(stack, len(counted), relay)
    relay.kill()
    with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"]) as sql:
        rows = sql.execute("SELECT shard, seq, event_id::text FROM history ORDER BY shard, seq").fetchall()
    assert len(counted) == len(rows) == len({row[2] for row in rows})
    for shard in (0, 1):
        seqs = [row[1] for row in rows if row[0] == shard]
        assert list(range(1, len(seqs) + 1)) == seqs

    asyncio.run(_check_global_boards(stack, answers))


def _more(answers: list[model.Answer], number: int) -> list[model.Answer]:
    """Other questions of the same sessions: 200 in round 1, 100 in round 2."""
    return [replace(a, question_id=f"more{number}-{a.question_id}") for a in answers[: 300 - 100 * number]]


async def _record_directly(stack: dict[str, str], answers: list[model.Answer]) -> None:
    """What play does while Postgres is away: known sessions, no look into Postgres."""
    shards = Shards(stack["LAKEBOARD_VALKEY_URLS"].split(","))
    batcher = AnswerBatcher(shards)
    batcher.start()
    outcomes = await batcher.record([to_record(event_of(a), 0, mode="import") for a in answers])
    assert {"counted"} == {outcome.status for outcome in outcomes}
    await batcher.stop()
    await shards.close()


async def _check_global_boards(stack: dict[str, str], answers: list[model.Answer]) -> None:
    shards = Shards(stack["LAKEBOARD_VALKEY_URLS"].split(","))
    await assert_global_boards(shards, answers)
    await shards.close()


def test_global_boards_go_on_without_postgres(tmp_path: Path) -> None:
    """Also through a restart of the relay; history and trimming catch up afterwards."""
    now = clock_us()
    answers = [
        model.Answer(
            now - n * 1_000_000, f"u{n % 7}", f"s{n % 9}", f"q{n % 9}", f"w{n}", True, n, now - 10**9
        )
        for n in range(300)
    ]
    postgres = start_postgres(tmp_path / "postgres")
    with fresh_stack(tmp_path, postgres.new_database()) as (stack, _):
        relay = start_relay(stack)
        outboxes = [Outbox(url) for url in stack["LAKEBOARD_VALKEY_URLS"].split(",")]

        try:
            import_answers(stack, answers)
            wait_for_relay(stack, 300, relay)
            wait_until(lambda: not any(o.read_after(0, 1) for o in outboxes))
            postgres.kill()
            asyncio.run(_record_directly(stack, _more(answers, 1)))
            wait_until(lambda: global_boards_behind(stack) == 0)
            assert sum(len(outbox.read_after(0, 1_000)) for outbox in outboxes) == 200
            relay.kill()
            relay.wait()
            forget_leases(stack)
            asyncio.run(_record_directly(stack, _more(answers, 2)))
            relay = start_relay(stack)
            wait_until(lambda: global_boards_behind(stack) == 0)
            assert sum(len(outbox.read_after(0, 1_000)) for outbox in outboxes) == 300
            postgres.start()
            wait_for_relay(stack, 600, relay)
            wait_until(lambda: not any(o.read_after(0, 1) for o in outboxes))
            asyncio.run(_check_global_boards(stack, [*answers, *_more(answers, 1), *_more(answers, 2)]))
        finally:
            relay.kill()
            postgres.stop()


def test_sealed_sessions_take_the_slow_path(stack: dict[str, str]) -> None:
    answers = [a for a in model.play(3, sessions=2) if a.session_id == "s0"]
    first, rest = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    relay = start_relay(stack)

    async def play() -> None:
        async with importer_of(stack) as importer:
            early = await importer.import_body(body_of(first))
            shards = importer.shards
            shard = shards.shard_of("q0")

            async def position(_: int) -> int:
                async with importer.sql() as sql:
                    row = await (
                        await sql.execute(
                            "SELECT position FROM relay_position WHERE sink = 'history' AND shard = %s",
                            (shard,),
                        )
                    ).fetchone()
                return row[0] if row else 0

            url = stack["LAKEBOARD_POSTGRES_URL"]
            assert await Sealer(shards, url, clock_us, position).seal_quiet(shard) == 0
            assert (
                await Sealer(shards, url, lambda: clock_us() + QUIET_US + 1, position).seal_quiet(shard) == 1
            )
            assert await shards.clients[shard].exists(names.session("s0"), names.session_answers("s0")) == 0
            board = await Boards(shards).totals(names.session_board("s0"), "q0")
            again = await importer.import_body(body_of(first))
            assert (0, len(first)) == (again["counted"], again["repeated"])
            late = await importer.import_body(body_of(rest))
            assert early["counted"] + late["counted"] == len(model.counted(answers))
            assert board == await Boards(shards).totals(names.session_board("s0"), "q0")
            assert (0, len(rest)) == ((await importer.import_body(body_of(rest)))["counted"], len(rest))

    try:
        asyncio.run(play())
    finally:
        relay.kill()


class _Crash(Exception):
    """Stands for the end of the relay between two steps."""


@pytest.mark.parametrize("step", ["marked", "history", "row"])
def test_sealing_crashes_between_its_steps(stack: dict[str, str], step: str) -> None:
    """The answers sent meanwhile and afterwards count once; the next round finishes the work."""
    answers = [a for a in model.play(5, sessions=2) if a.session_id == "s0"]
    first, rest = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    relay = start_relay(stack)

    def crash(name: str) -> None:
        if name == step:
            raise _Crash

    async def position(shard: int) -> int:
        with psycopg.connect(stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            row = sql.execute("SELECT position FROM relay_position WHERE shard = %s", (shard,)).fetchone()
        return row[0] if row else 0

    async def play() -> None:
        async with importer_of(stack) as importer:
            shards, url = importer.shards, stack["LAKEBOARD_POSTGRES_URL"]
            shard = shards.shard_of("q0")
            early = await importer.import_body(body_of(first))
            wait_for_relay(stack, early["counted"], relay)  # a busy machine starts it slowly

            def later() -> int:
                return clock_us() + QUIET_US + 1

            with pytest.raises(_Crash):
                await Sealer(shards, url, later, position, after=crash).seal_quiet(shard)
            between = await importer.import_body(body_of(answers))
            assert (0, len(model.counted(answers))) == (
                between["refused"],
                early["counted"] + between["counted"],
            )
            assert 1 == await Sealer(shards, url, later, position).seal_quiet(shard)
            assert 0 == await shards.clients[shard].exists(names.session("s0"), names.session_answers("s0"))
            assert 0 == (await importer.import_body(body_of([*first, *rest])))["counted"]
            assert 0 == await Sealer(shards, url, later, position).seal_quiet(shard)

    try:
        asyncio.run(play())
        wait_for_relay(stack, len(model.counted(answers)), relay)
    finally:
        relay.kill()


def test_sealing_does_not_wait_for_ever(stack: dict[str, str]) -> None:
    """No relay runs: the session stays marked, and nothing is deleted."""

    async def behind(_: int) -> int:
        return 0

    async def play() -> None:
        async with importer_of(stack) as importer:
            await importer.import_body(body_of(model.play(5, sessions=1)))
            shards = importer.shards
            shard = shards.shard_of("q0")
            url = stack["LAKEBOARD_POSTGRES_URL"]
            with pytest.raises(SystemMissing):
                await Sealer(shards, url, lambda: clock_us() + QUIET_US + 1, behind, wait_s=0.2).seal_quiet(
                    shard
                )
            assert 2 == await shards.clients[shard].exists(names.session("s0"), names.session_answers("s0"))

    asyncio.run(play())


def test_each_bad_line_is_refused_alone(stack: dict[str, str]) -> None:
    good = {
        "occurred_at_us": 1_700_000_000_000_000,
        "user_id": "u",
        "session_id": "s",
        "quiz_id": "q",
        "question_id": "w",
        "correct": True,
        "elapsed_ms": 1_000,
    }
    cases = [
        (good, "counted"),
        ({**good}, "repeat"),
        ("not json", "malformed_line"),
        ("[1]", "malformed_line"),
        ({**good, "extra": 1}, "unknown_field"),
        ({"user_id": "u"}, "missing_field"),
        ({**good, "correct": "yes"}, "invalid_field"),
        ({**good, "occurred_at_us": clock_us() + 10**9}, "future_time"),
        ({**good, "elapsed_ms": -1}, "negative_elapsed"),
        ({**good, "rule": "none@1"}, "unknown_rule"),
        ({**good, "quiz_zone": "Mars/One"}, "unknown_zone"),
        ({**good, "choice": "a\0b"}, "invalid_field"),
        ({**good, "quiz_id": "q2", "question_id": "w2"}, "session_quiz_mismatch"),
        ({**good, "user_id": ""}, "invalid_id"),
        ({**good, "user_id": "é x", "question_id": "w3"}, "counted"),
    ]

    async def play() -> None:
        async with importer_of(stack) as importer:
            body = "\n".join(
                case if isinstance(case, str) else json.dumps(case) for case, _ in cases
            ).encode()
            reply = await importer.import_body(body + b"\n" + b'"\xff"' + b"\n")
            found = [line.get("code") or line["status"] for line in reply["lines"]]
            assert [*(wanted for _, wanted in cases), "malformed_line"] == found

    asyncio.run(play())
