"""record_answers.lua against the reference model: boards, repeats, refusals, dense seq."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from contracts import names
from contracts.events import AnswerEvent
from contracts.identity import event_id
from contracts.ranking import POINTS_MAX, TICK_MAX, pack
from contracts.scoring import points
from serving.boards.boards import Boards
from serving.boards.shards import AnswerToRecord, Shards
from serving.play.record import AnswerBatcher, to_record
from tests import model

pytestmark = pytest.mark.service


def event_of(answer: model.Answer) -> AnswerEvent:
    """The event of a model's answer."""
    return AnswerEvent(
        event_id(answer.session_id, answer.question_id, answer.user_id),
        "import",
        answer.occurred_at_us,
        answer.user_id,
        1,
        answer.session_id,
        answer.session_started_at_us,
        1_000,
        answer.quiz_id,
        answer.zone,
        1,
        answer.question_id,
        "imported",
        (),
        None,
        answer.correct,
        answer.elapsed_ms,
        answer.time_limit_ms,
        "speed@1",
        points("speed@1", answer.correct, answer.elapsed_ms, answer.time_limit_ms),
    )


def run(urls: list[str], body: Callable[[Shards], Awaitable[None]]) -> None:
    """Run a test's body with fresh clients."""

    async def main() -> None:
        shards = Shards(urls)
        try:
            await body(shards)
        finally:
            await shards.close()

    asyncio.run(main())


@pytest.fixture
def prefix() -> Iterator[str]:
    """Fresh ids for one test."""
    yield uuid.uuid4().hex[:8] + "-"


async def create(shards: Shards, session_id: str, quiz_id: str, **fields: str | int) -> None:
    """A session in state question, epoch 1, question w0."""
    values = {
        "quiz_id": quiz_id,
        "state": "question",
        "epoch": 1,
        "question_id": "w0",
        "deadline_us": 10**15,
    } | fields
    assert await shards.create_session(shards.shard_of(quiz_id), session_id, values) == "created"


def live(prefix: str, **changes: object) -> AnswerToRecord:
    """A live answer to question w0 of session s."""
    board = names.session_board(f"{prefix}s")
    answer = AnswerToRecord(
        f"{prefix}s",
        f"{prefix}q",
        "w0",
        "u1",
        700,
        5_000_000,
        True,
        b"{}",
        ((board, 5),),
        epoch="1",
        rank_board=board,
    )
    return replace(answer, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_boards_equal_the_model(valkey_urls: list[str], prefix: str, seed: int) -> None:
    answers = model.play(seed, prefix=prefix)

    async def body(shards: Shards) -> None:
        for session_id, quiz_id in {(a.session_id, a.quiz_id) for a in answers}:
            await create(shards, session_id, quiz_id, state="ended")
        batcher = AnswerBatcher(shards)
        batcher.start()
        recorded = [to_record(event_of(a), 0, mode="import") for a in answers]
        outcomes = await batcher.record(recorded)
        assert len(model.counted(answers)) == sum(o.status == "counted" for o in outcomes)
        again = await batcher.record(recorded)
        assert {"repeat"} == {o.status for o in again}
        assert [(o.points, o.seq) for o in outcomes] == [(o.points, o.seq) for o in again]
        await batcher.stop()
        boards = Boards(shards)
        for (scope, period, start), rows in model.all_boards(answers).items():
            if scope != "global":
                quiz = (
                    next(a.quiz_id for a in answers if f"session:{a.session_id}" == scope)
                    if scope.startswith("session:")
                    else scope.partition(":")[2]
                )
                found = await boards.totals(names.board(scope, period, start), quiz)
                assert [(r.user_id, r.points) for r in rows] == [(u, p >> 22) for u, p in found], (
                    seed,
                    scope,
                    period,
                )
        await assert_reads_agree(boards, answers)

    run(valkey_urls, body)


async def assert_reads_agree(boards: Boards, answers: list[model.Answer]) -> None:
    """top, rank and around of one board say what the model's rows say."""
    quiz = answers[0].quiz_id
    rows = model.all_boards(answers)[(f"quiz:{quiz}", "all_time", "1970-01-01")]
    key = names.board(f"quiz:{quiz}", "all_time", "1970-01-01")
    expected = [(r.rank, r.user_id, r.points, r.reached_at_us) for r in rows]

    def seen(places: list) -> list:  # type: ignore[type-arg]
        return [
            (p.rank, p.user_id, p.points, None if p.ticks is None else p.ticks * 3_600_000_000)
            for p in places
        ]

    assert expected[:5] == seen(await boards.top(key, 5, quiz))
    for place, row in enumerate(rows):
        found = await boards.rank(key, row.user_id, quiz)
        assert found is not None and row.rank == found.rank
        assert expected[max(place - 2, 0) : place + 3] == seen(await boards.around(key, row.user_id, 2, quiz))
    assert await boards.around(key, "nobody", 2, quiz) == []
    # One script reads the same at one instant, and many at once get each their own.
    users = [row.user_id for row in rows]
    pages = await asyncio.gather(*(boards.page(key, quiz, 5, user, 2, (user, "nobody")) for user in users))
    for place, page in enumerate(pages):
        assert (len(rows), expected[:5]) == (page.participants, seen(page.top))
        assert expected[max(place - 2, 0) : place + 3] == seen(page.around)
        assert (expected[place], None) == (seen(page.places[:1])[0], page.places[1])
    nobody = await boards.page(key, quiz, 0, "nobody", 2)
    assert (len(rows), [], [], []) == (nobody.participants, nobody.top, nobody.around, nobody.places)


@pytest.mark.parametrize(
    ("fields", "changes", "status"),
    [
        ({}, {}, "counted"),
        ({}, {"session_id": "unknown"}, "stale"),
        ({}, {"epoch": "2"}, "stale"),
        ({"state": "sealed"}, {}, "session_sealed"),
        ({"state": "sealed"}, {"mode": "import"}, "session_sealed"),
        ({"state": "ended"}, {}, "session_ended"),
        ({"state": "ended"}, {"mode": "import"}, "counted"),
        ({"state": "closed"}, {}, "question_closed"),
        ({"deadline_us": 4_999_999}, {}, "question_closed"),
        ({"deadline_us": 5_000_000}, {}, "counted"),
        ({}, {"question_id": "w1"}, "question_closed"),
        ({}, {"quiz_id": "other"}, "session_quiz_mismatch"),
        ({}, {"points": "1.5"}, "invalid_field"),
        ({}, {"points": -1}, "invalid_field"),
        ({}, {"points": POINTS_MAX}, "counted"),
        ({}, {"points": POINTS_MAX + 1}, "invalid_field"),
    ],
)
def test_one_bad_answer_is_refused_alone(
    valkey_urls: list[str], prefix: str, fields: dict[str, str | int], changes: dict[str, object], status: str
) -> None:
    async def body(shards: Shards) -> None:
        shard = shards.shard_of(f"{prefix}q")
        await create(shards, f"{prefix}s", f"{prefix}q", **fields)
        await create(shards, f"{prefix}t", f"{prefix}q")
        good = live(prefix, session_id=f"{prefix}t", boards=(), rank_board="", user_id="u2")
        before = await shards.last_seq(shard)
        outcomes = await shards.record(shard, [live(prefix, **changes), good])
        assert [status, "counted"] == [o.status for o in outcomes]
        assert await shards.last_seq(shard) - before == 1 + (status == "counted")

    run(valkey_urls, body)


def test_a_repeat_gets_the_first_result_even_after_the_question_closed(
    valkey_urls: list[str], prefix: str
) -> None:
    async def body(shards: Shards) -> None:
        shard = shards.shard_of(f"{prefix}q")
        await create(shards, f"{prefix}s", f"{prefix}q")
        first, in_batch = await shards.record(shard, [live(prefix), live(prefix, points=900)])
        assert (first.status, first.points, first.rank) == ("counted", 700, 1)
        assert ("repeat", 700, first.seq, 5_000_000) == (
            in_batch.status,
            in_batch.points,
            in_batch.seq,
            in_batch.occurred_at_us,
        )
        await shards.clients[shard].hset(names.session(f"{prefix}s"), mapping={"state": "ended", "epoch": 9})
        (again,) = await shards.record(shard, [live(prefix, points=900, correct=False)])
        assert ("repeat", 700, first.seq, True) == (again.status, again.points, again.seq, again.correct)

    run(valkey_urls, body)


def test_points_stop_before_the_board_overflows(valkey_urls: list[str], prefix: str) -> None:
    async def body(shards: Shards) -> None:
        shard = shards.shard_of(f"{prefix}q")
        await create(shards, f"{prefix}s", f"{prefix}q")
        outcomes = await shards.record(
            shard,
            [
                live(prefix, points=POINTS_MAX - 1),
                live(prefix, points=2, mode="import", question_id="w1"),
                live(
                    prefix,
                    points=1,
                    mode="import",
                    question_id="w2",
                    boards=((names.session_board(f"{prefix}s"), TICK_MAX),),
                ),
            ],
        )
        assert [o.status for o in outcomes] == ["counted", "points_overflow", "counted"]
        assert pack(POINTS_MAX, TICK_MAX) == outcomes[2].total_packed

    run(valkey_urls, body)


def test_a_wrong_type_stops_the_whole_batch_before_any_write(valkey_urls: list[str], prefix: str) -> None:
    async def body(shards: Shards) -> None:
        shard = shards.shard_of(f"{prefix}q")
        await create(shards, f"{prefix}s", f"{prefix}q")
        await shards.clients[shard].set(f"{prefix}not-a-board", "x")
        before = await shards.last_seq(shard)
        with pytest.raises(Exception, match="WRONGTYPE"):
            await shards.record(
                shard, [live(prefix), live(prefix, user_id="u2", boards=((f"{prefix}not-a-board", 1),))]
            )
        assert before == await shards.last_seq(shard)
        assert await shards.clients[shard].exists(names.session_answers(f"{prefix}s")) == 0

    run(valkey_urls, body)


def test_barriers_are_written_once(valkey_urls: list[str], prefix: str) -> None:
    async def body(shards: Shards) -> None:
        pair = (f"{prefix}UTC|2024-01-01", b"{}")
        ((status, seq),) = await shards.write_barriers(0, [pair])
        assert ("written", await shards.last_seq(0)) == (status, seq)
        assert [("there", seq)] == await shards.write_barriers(0, [pair])

    run(valkey_urls, body)


def test_an_open_challenge_is_not_sealed_however_quiet_it_is(valkey_urls: list[str], prefix: str) -> None:
    async def body(shards: Shards) -> None:
        shard, session_id = shards.shard_of(f"{prefix}q"), f"{prefix}s"
        await create(shards, session_id, f"{prefix}q", state="open", deadline_us=3 * 10**15)
        client = shards.clients[shard]
        assert ("active", 0) == await shards.mark_sealed(shard, session_id, 2 * 10**15 + 10**14)
        assert 3 * 10**15 == await client.zscore(names.idle_sessions(), session_id)
        status, _ = await shards.mark_sealed(shard, session_id, 3 * 10**15)
        assert "sealed" == status
        await shards.forget_session(shard, session_id)
        assert await client.zscore(names.idle_sessions(), session_id) is None

    run(valkey_urls, body)


def test_an_answer_in_a_challenge_needs_no_question_of_the_sessions(
    valkey_urls: list[str], prefix: str
) -> None:
    async def body(shards: Shards) -> None:
        shard = shards.shard_of(f"{prefix}q")
        await create(shards, f"{prefix}s", f"{prefix}q", state="open", question_id="", deadline_us=5_000_000)
        answers = [
            live(prefix),
            live(prefix, question_id="w1"),
            live(prefix, question_id="w2", occurred_at_us=5_000_001),
            live(prefix, question_id="w3", epoch="2"),
        ]
        outcomes = await shards.record(shard, answers)
        assert ["counted", "counted", "question_closed", "stale"] == [o.status for o in outcomes]
        assert b"1" == await shards.clients[shard].hget(names.session(f"{prefix}s"), "version")

    run(valkey_urls, body)
