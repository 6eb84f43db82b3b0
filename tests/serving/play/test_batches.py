"""Answers of many sessions in one script: gathered, each judged alone, other handlers told only where there are any."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from contracts import names
from contracts.errors import Retryable
from serving.boards.shards import IN_FLIGHT, AnswerToRecord, Outcome, Shards
from serving.play import record
from serving.play.record import AnswerBatcher
from tests.serving.test_record_answers import create, run

pytestmark = pytest.mark.service
QUIZ = "q-" + uuid.uuid4().hex[:8]


def answer(session_id: str, **changes: object) -> AnswerToRecord:
    board = names.session_board(session_id)
    made = AnswerToRecord(
        session_id,
        QUIZ,
        "w0",
        "u1",
        700,
        5_000_000,
        True,
        b"{}",
        ((board, 5),),
        epoch="1",
        rank_board=board,
        handler="here",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def with_batcher(
    urls: list[str], body: Callable[[Shards, AnswerBatcher, list[str]], Awaitable[None]], sessions: int = 40
) -> None:
    async def main(shards: Shards) -> None:
        ids = [f"s-{uuid.uuid4().hex[:12]}" for _ in range(sessions)]
        for session_id in ids:
            await create(shards, session_id, QUIZ)
        batcher = AnswerBatcher(shards)
        batcher.start()
        await body(shards, batcher, ids)
        await batcher.stop()

    run(urls, main)


async def scripts_run(shards: Shards) -> int:
    client: Any = shards.clients[shards.shard_of(QUIZ)]
    return int((await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


async def gather(batcher: AnswerBatcher, answers: list[AnswerToRecord]) -> list[Any]:
    return list(await asyncio.gather(*(batcher.record([one]) for one in answers), return_exceptions=True))


def test_what_comes_together_goes_together(valkey_urls: list[str]) -> None:
    async def body(shards: Shards, batcher: AnswerBatcher, ids: list[str]) -> None:
        await gather(batcher, [answer(ids[0], user_id="first")])  # the script is loaded
        before = await scripts_run(shards)
        found = await gather(
            batcher, [answer(session_id, user_id=f"u{n}") for session_id in ids for n in range(3)]
        )
        assert {"counted"} == {outcome.status for (outcome,) in found}
        assert await scripts_run(shards) - before <= 1 + len(found) // record.BATCH_ANSWERS
        seqs = sorted(outcome.seq for (outcome,) in found)
        assert list(range(seqs[0], seqs[0] + len(found))) == seqs

    with_batcher(valkey_urls, body)


def test_each_of_many_sessions_is_judged_alone(valkey_urls: list[str]) -> None:
    async def body(shards: Shards, batcher: AnswerBatcher, ids: list[str]) -> None:
        client: Any = shards.clients[shards.shard_of(QUIZ)]
        await client.hset(names.session(ids[1]), mapping={"state": "ended"})
        await client.hset(names.session(ids[2]), mapping={"epoch": 2, "question_id": "w1"})
        answers = [answer(session_id) for session_id in ids]
        answers[3] = answer("never-made-" + ids[3])
        answers[4] = answer(ids[4], points=2**31)
        answers[5] = answer(ids[5], occurred_at_us=10**15 + 1)
        found = [outcome.status for (outcome,) in await gather(batcher, answers)]
        expected = ["session_ended", "stale", "stale", "invalid_field", "question_closed"]
        assert [*expected] == found[1:6]
        assert {"counted"} == {found[0], *found[6:]}
        for place, session_id in enumerate(ids):
            told = await client.hmget(names.session(session_id), "version", "answered")
            assert ([b"1", b"1"] if found[place] == "counted" else [None, None]) == told, place

    with_batcher(valkey_urls, body)


def test_a_session_that_moves_while_answers_wait_refuses_those_alone(valkey_urls: list[str]) -> None:
    async def body(shards: Shards, batcher: AnswerBatcher, ids: list[str]) -> None:
        client: Any = shards.clients[shards.shard_of(QUIZ)]
        moved = asyncio.ensure_future(client.hset(names.session(ids[0]), mapping={"epoch": 2}))
        await moved
        later = await gather(batcher, [answer(session_id) for session_id in ids])
        assert ["stale", *["counted"] * (len(ids) - 1)] == [outcome.status for (outcome,) in later]
        again = await gather(batcher, [answer(session_id, epoch="2") for session_id in ids])
        assert ["counted", *["repeat"] * (len(ids) - 1)] == [outcome.status for (outcome,) in again]

    with_batcher(valkey_urls, body)


@pytest.mark.parametrize(
    ("handlers", "told"), [([], 0), (["here"], 0), (["there"], 1), (["here", "there"], 1)]
)
def test_other_handlers_are_told_once_a_batch_if_there_are_any(
    valkey_urls: list[str], handlers: list[str], told: int
) -> None:
    async def body(shards: Shards, batcher: AnswerBatcher, ids: list[str]) -> None:
        client: Any = shards.clients[shards.shard_of(QUIZ)]
        if handlers:
            await client.sadd(names.session_handlers(ids[0]), *handlers)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(names.channel(ids[0]))
        await pubsub.get_message(timeout=1)
        await gather(batcher, [answer(ids[0], user_id=f"u{n}") for n in range(20)])
        await gather(batcher, [answer(ids[0], user_id=f"u{n}") for n in range(20)])  # repeats tell nothing
        await client.publish(names.channel(ids[0]), "end")
        heard: list[bytes] = []
        while b"end" not in heard:
            message = await pubsub.get_message(timeout=1)
            heard += [message["data"]] if message else []
        await pubsub.aclose()
        assert [b"answers"] * told + [b"end"] == heard

    with_batcher(valkey_urls, body, sessions=1)


def test_a_shard_that_does_not_follow_takes_no_more(
    valkey_urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind scripts that take too long is bounded in time, not only in number; what was taken is kept."""
    monkeypatch.setattr(record, "MOST_WAIT_S", 0.1)

    async def body(shards: Shards, batcher: AnswerBatcher, ids: list[str]) -> None:
        client: Any = shards.clients[shards.shard_of(QUIZ)]
        await client.execute_command("CLIENT", "PAUSE", 4_000, "WRITE")
        most = (IN_FLIGHT + 1) * record.BATCH_ANSWERS
        taken = [
            asyncio.ensure_future(batcher.record([answer(ids[0], user_id=f"u{n}")])) for n in range(most)
        ]
        await asyncio.sleep(0.3)
        with pytest.raises(Retryable, match="overloaded"):
            await batcher.record([answer(ids[0], user_id="late")])
        await client.execute_command("CLIENT", "UNPAUSE")
        outcomes: list[list[Outcome]] = await asyncio.gather(*taken)
        assert {"counted"} == {outcome.status for (outcome,) in outcomes}
        assert "counted" == (await batcher.record([answer(ids[0], user_id="late")]))[0].status

    with_batcher(valkey_urls, body, sessions=1)
