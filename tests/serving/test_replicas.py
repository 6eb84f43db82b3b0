"""A shard with a replica: what is acknowledged survives its primary, and nothing is that a replica lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from contracts import names
from contracts.errors import Retryable
from contracts.settings import Settings, ShardAddress
from serving.boards.boards import Boards
from serving.boards.shards import Shards
from serving.migrations.upgrade import upgrade
from serving.play.importing import Importer
from serving.play.record import AnswerBatcher, to_record
from serving.relay.relay import ShardRelay
from tests import model
from tests.services.daemons import start_valkey
from tests.services.replicated import Replicated, replicated_shard
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, code, right_choice
from tests.serving.relay_stack import body_of, importer_of, start_relay, wait_for_relay
from tests.serving.test_record_answers import event_of
from tests.serving.test_relay import assert_global_boards

pytestmark = pytest.mark.faults
# Requests a second, one after another by the clock: whoever waits holds nobody else up.
_RATE = 60
_LOAD_S = 6.0
# When the primary is cut off from its replica, and how long it lives alone.
_KILL_AFTER_S = 1.5
_ALONE_S = 0.4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Replicated]:
    """A primary, its replica and three sentinels."""
    with replicated_shard(tmp_path / "shard") as found:
        yield found


@pytest.fixture
def settings(pair: Replicated, postgres_url: str) -> Settings:
    """The shard's settings with a migrated database that keeps boards from 1970."""
    upgrade(postgres_url)
    with psycopg.connect(postgres_url) as sql:
        sql.execute("UPDATE deployment SET value = '0' WHERE key = 'boards_since_us'")
    return pair.settings(postgres_url)


def history(settings: Settings) -> list[tuple[int, str]]:
    """(seq, question) of history, in order."""
    with psycopg.connect(settings.postgres_url) as sql:
        return sql.execute("SELECT seq, question_id FROM history ORDER BY seq").fetchall()


async def until_acknowledged(importer: Importer, answer: model.Answer) -> int:
    """Send one answer, unchanged, until it is acknowledged; its seq."""
    while True:
        try:
            reply = await importer.import_body(body_of([answer]))
        except Retryable:
            await asyncio.sleep(0.05)
            continue
        assert 0 == reply["refused"], reply
        return int(reply["lines"][0]["seq"])


async def open_loop(settings: Settings, answers: list[model.Answer]) -> dict[str, int]:
    """Send each answer at its time, whatever became of the others; question → seq of what was acknowledged."""
    async with importer_of(settings.to_env()) as importer:
        began, tasks = time.monotonic(), []
        for number, answer in enumerate(answers):
            await asyncio.sleep(max(0.0, began + number / _RATE - time.monotonic()))
            tasks.append(asyncio.create_task(until_acknowledged(importer, answer)))
        seqs = await asyncio.gather(*tasks)
    return {answer.question_id: seq for answer, seq in zip(answers, seqs, strict=True)}


def different_answers(count: int, name: str = "w", sessions: int = 12) -> list[model.Answer]:
    """Answers of as many questions, over some sessions and users."""
    now = time.time_ns() // 1000
    started = now - 3600 * 10**6
    return [
        model.Answer(
            now - 10**6 * (n % 1000),
            f"u{n % 17}",
            f"s{n % sessions}",
            "q1",
            f"{name}{n}",
            n % 3 > 0,
            n,
            started,
        )
        for n in range(count)
    ]


def cut_replica_off(pair: Replicated) -> tuple[int, int]:
    """The primary goes on writing what its replica never gets: (primary, replica)."""
    primary, replica = pair.ports()
    pair.freeze(replica)
    with pair.client(primary) as client:
        client.config_set("min-replicas-to-write", 0)  # else it would soon stop writing: less to lose
        client.execute_command("CLIENT", "KILL", "TYPE", "REPLICA")
    return primary, replica


def promote_the_other(pair: Replicated) -> int:
    """Kill the primary, wait for the promotion, bring the killed one back; the new primary's port.

    Before it dies it has answers for a moment that its replica never gets: whoever was told of one would have lost it.
    On the main thread: a daemon ends with the thread that started it.
    """
    time.sleep(_KILL_AFTER_S)
    old, new = cut_replica_off(pair)
    time.sleep(_ALONE_S)
    pair.servers[old].kill()
    pair.thaw(new)
    deadline = time.monotonic() + 15
    while pair.ports()[0] != new:
        assert time.monotonic() < deadline, "nobody was promoted"
        time.sleep(0.05)
    pair.servers[old].start()
    return new


async def boards_equal_the_model(settings: Settings, answers: list[model.Answer]) -> None:
    shards = Shards(settings.shards)
    await assert_global_boards(shards, answers)
    boards = Boards(shards)
    for (scope, period, start), rows in model.all_boards(answers).items():
        if scope != "global":
            found = await boards.totals(names.board(scope, period, start), "q1")
            assert [(r.user_id, r.points) for r in rows] == [(user, packed >> 22) for user, packed in found]
    await shards.close()


def test_no_acknowledged_answer_is_lost_with_its_primary(pair: Replicated, settings: Settings) -> None:
    answers = different_answers(int(_RATE * _LOAD_S))
    relay = start_relay(settings.to_env())
    try:
        with ThreadPoolExecutor(1) as sending:
            load = sending.submit(lambda: asyncio.run(open_loop(settings, answers)))
            new = promote_the_other(pair)
            acknowledged = load.result(60)
        wait_for_relay(settings.to_env(), len(answers), relay)
    finally:
        relay.kill()
        relay.wait()
    pair.wait_whole()
    assert new == pair.ports()[0]
    rows = history(settings)
    assert list(range(1, len(answers) + 1)) == [seq for seq, _ in rows]
    assert acknowledged == {question: seq for seq, question in rows}
    with pair.client(new) as primary:
        kept = {
            field.partition(":")[0]: int(value.split("|")[2])
            for session in {a.session_id for a in answers}
            for field, value in primary.hgetall(names.session_answers(session)).items()
        }
    assert acknowledged == kept
    asyncio.run(boards_equal_the_model(settings, answers))


async def record(settings: Settings, answers: list[model.Answer]) -> list[str]:
    """Record answers of known sessions; their statuses. Raises Retryable where they are not acknowledged."""
    shards = Shards(settings.shards)
    batcher = AnswerBatcher(shards)
    batcher.start()
    try:
        return [
            outcome.status
            for outcome in await batcher.record([to_record(event_of(a), 0, mode="import") for a in answers])
        ]
    finally:
        await batcher.stop()
        await shards.close()


async def refused_and_then_repeated(pair: Replicated, settings: Settings, answer: model.Answer) -> None:
    """While the replica is frozen neither an answer nor its repeat is acknowledged, over whatever connection it comes."""
    _, replica = pair.ports()
    pair.freeze(replica)
    for _ in range(2):  # the second writes nothing, and its connection is a new one
        with pytest.raises(Retryable, match="system_missing: 0 of 1 replicas"):
            await record(settings, [answer])
    pair.thaw(replica)
    assert ["repeat"] == await record(settings, [answer])


def wait_for(holds: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in its time"
        time.sleep(0.05)


def test_the_relay_takes_nothing_that_a_replica_lacks(pair: Replicated, settings: Settings) -> None:
    """What only a dead primary had is given out again: had the relay taken it, history would hold what never was."""
    first, lost, later = (different_answers(n, name, 1) for n, name in ((20, "w"), (5, "lost"), (7, "later")))
    held = different_answers(1, "held", 1)[0]
    assert ["counted"] * 20 == asyncio.run(_import(settings, first))
    relay = ShardRelay(0, settings.shards, settings.postgres_url)
    try:
        wait_for(lambda: not relay.step() and len(history(settings)) == 20)
        asyncio.run(refused_and_then_repeated(pair, settings, held))
        wait_for(lambda: not relay.step() and len(history(settings)) == 21)
        old, new = cut_replica_off(pair)
        with pytest.raises(Retryable, match="system_missing: 0 of 1 replicas"):
            asyncio.run(record(settings, lost))
        assert not relay.step() and relay.progress.replicas_away
        assert 21 == relay.progress.last_seq == len(history(settings))
        with pair.client(old) as client:
            assert "26" == client.get(names.outbox_seq())
        pair.servers[old].kill()
        pair.thaw(new)
        wait_for(lambda: pair.role(new) == "master")
        pair.servers[old].start()
        pair.wait_whole()
        assert ["counted"] * 7 == asyncio.run(record(settings, later))
        wait_for(lambda: step_through_loss(relay) and len(history(settings)) == 28)
    finally:
        relay.close()
    rows = history(settings)
    assert list(range(1, 29)) == [seq for seq, _ in rows]
    assert [f"later{n}" for n in range(7)] == [question for _, question in rows[21:]]


async def play_on_first_shard(shards: Shards, count: int) -> None:
    """Answers of one session that lies on shard 0."""
    quiz = next(quiz for quiz in map(str, range(100)) if shards.shard_of(quiz) == 0)
    await shards.create_session(0, "s0", {"state": "open", "quiz_id": quiz})
    events = [event_of(replace(a, quiz_id=quiz, session_id="s0")) for a in different_answers(count)]
    outcomes = await shards.record(0, [to_record(event, 0, mode="import") for event in events])
    assert {"counted"} == {outcome.status for outcome in outcomes}


def test_the_outbox_is_kept_until_the_boards_replicas_have_it(
    pair: Replicated, settings: Settings, tmp_path: Path
) -> None:
    """A promoted replica whose global boards stand further back asks for the entries from there.

    And the relay of that shard, which does not know its outbox's end, does not lead: Kafka goes by that end while it does.
    """
    plain = start_valkey(tmp_path / "plain")
    addresses = [ShardAddress(plain.url), *settings.shards]
    shards = Shards(addresses)
    relay, other = (ShardRelay(shard, addresses, settings.postgres_url) for shard in (0, 1))
    _, replica = pair.ports()
    try:
        asyncio.run(play_on_first_shard(shards, 30))
        pair.freeze(replica)
        wait_for(lambda: not relay.step())
        assert (30, 30) == (relay.progress.history, relay.progress.global_boards)
        with Redis.from_url(plain.url) as source:
            assert 30 == source.xlen(names.outbox())
            assert not other.step() and other.progress.replicas_away and not other.progress.leading
            pair.thaw(replica)
            wait_for(lambda: not relay.step() and source.xlen(names.outbox()) == 0)
            wait_for(lambda: not other.step() and other.progress.leading)
    finally:
        relay.close()
        other.close()
        plain.stop()


def step_through_loss(relay: ShardRelay) -> bool:
    """A step, as the relay's loop does it: a connection that broke is made again by the next one."""
    try:
        relay.step()
    except (ConnectionError, OSError) as error:
        print(error)
    return True


async def _import(settings: Settings, answers: list[model.Answer]) -> list[str]:
    async with importer_of(settings.to_env()) as importer:
        reply = await importer.import_body(body_of(answers))
        return [line["status"] for line in reply["lines"]]


def test_a_frozen_replica_holds_answers_back_until_it_is_there_again(
    pair: Replicated, postgres_url: str, tmp_path: Path
) -> None:
    own = pair.settings(postgres_url, wait_ms=200)
    changes = {name: getattr(own, name) for name in (
        "valkey_sentinels", "valkey_primaries", "valkey_wait_replicas", "valkey_wait_ms"
    )}  # fmt: skip
    api = ApiProcess(tmp_path / "api", own.valkey_urls, postgres_url, **changes)
    try:
        table = Table(api, "Ada", "Grace")
        table.client.timeout = 30
        table.host("next").raise_for_status()
        question = table.current()
        assert table.answer(1, question, right_choice(question)).json()["points"] > 0
        board = f"/v1/leaderboards/session:{table.id}/all_time/current"
        fresh, stale = (
            table.client.get(board, params={"stale": allowed}).json() for allowed in (False, True)
        )
        assert (False, True) == (fresh["provenance"]["replica"], stale["provenance"]["replica"])
        assert fresh["entries"] == stale["entries"] and stale["entries"][0]["points"] > 0
        assert stale["provenance"]["as_of"] < fresh["provenance"]["as_of"]
        primary, replica = pair.ports()
        pair.freeze(replica)
        refused = table.answer(0, question, right_choice(question))
        assert (503, "system_missing") == code(refused)
        assert "send it again" in refused.json()["next_step"]
        with pair.client(primary) as client:
            assert 2 == client.hlen(names.session_answers(table.id))  # there, and nobody is told
        pair.thaw(replica)
        wait_for(lambda: pair.role(replica) == "slave")
        again = table.answer(0, question, right_choice(question)).json()
        assert again["repeat"] and again["correct"] and again["points"] > 0
        with pair.client(replica) as client:
            assert 2 == client.hlen(names.session_answers(table.id))
        pair.servers[replica].kill()  # without it the primary is read, and the reply says so
        alone = table.client.get(board, params={"stale": True}).json()
        assert not alone["provenance"]["replica"] and 2 == len(alone["entries"])
    finally:
        api.stop()
