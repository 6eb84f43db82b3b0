"""The shared board vectors through record_answers.lua, read back by ZREVRANGE: the fifth engine of test_vectors."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from contracts import names
from contracts.boards import Board, Scope
from contracts.ranking import reached_at_us, ticks_of
from serving.boards.boards import Boards
from serving.boards.shards import AnswerToRecord, Shards

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors/boards.json").read_text())


def answers_of(case: dict[str, Any], prefix: str, key: str, board: Board) -> list[AnswerToRecord]:
    """The case's answers in order of arrival; a repeat has the question of that user's first answer."""
    made = []
    for number, answer in enumerate(case["answers"]):
        question = "w0" if answer["repeat"] or number == 0 else f"w{number}"
        # The script keeps occurred_at for the reply alone (0 … 2^53); the order travels as ticks.
        occurred = min(max(answer["occurred_at_us"], 0), 2**53)
        ticks = ticks_of(answer["occurred_at_us"], board.anchor_us, board.tick_us)
        made.append(
            AnswerToRecord(
                f"{prefix}s",
                f"{prefix}q",
                question,
                answer["user_id"],
                answer["points"],
                occurred,
                True,
                b"{}",
                ((key, ticks),),
                "import",
            )
        )
    return made


async def through_lua(urls: list[str], case: dict[str, Any]) -> list[tuple[int, str, int, int | None]]:
    prefix = uuid.uuid4().hex[:8] + "-"
    board = Board(
        Scope("quiz", f"{prefix}q"), case["period"], date.fromisoformat(case["start"]), case["zone"]
    )
    shards = Shards(urls)
    try:
        shard = shards.shard_of(f"{prefix}q")
        await shards.create_session(shard, f"{prefix}s", {"quiz_id": f"{prefix}q", "state": "ended"})
        key = names.board(str(board.scope), board.period, board.start)
        outcomes = await shards.record(shard, answers_of(case, prefix, key, board))
        assert [a["repeat"] for a in case["answers"]] == [outcome.status == "repeat" for outcome in outcomes]
        places = await Boards(shards).top(key, 100, f"{prefix}q")
    finally:
        await shards.close()
    return [
        (
            p.rank,
            p.user_id,
            p.points,
            None if p.ticks is None else reached_at_us(board.anchor_us, p.ticks, board.tick_us),
        )
        for p in places
    ]


@pytest.mark.service
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_script_orders_a_board_as_the_other_engines_do(
    valkey_urls: list[str], case: dict[str, Any]
) -> None:
    expected = [
        tuple(row[key] for key in ("rank", "user_id", "points", "reached_at_us")) for row in case["expected"]
    ]
    assert expected == asyncio.run(through_lua(valkey_urls, case))
