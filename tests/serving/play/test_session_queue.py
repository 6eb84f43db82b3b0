"""The queue in front of a shard: by session, in order, fair, and whole groups only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.boards.shards import AnswerToRecord
from serving.play.record import SessionQueue, _Group


def group(session_id: str, *ids: int) -> _Group:
    nothing: Any = None
    answers = [AnswerToRecord(session_id, "quiz", f"q{ident}", "u", 0, 0, True, b"", ()) for ident in ids]
    return _Group(answers, nothing)


def taken(groups: list[_Group]) -> list[tuple[str, str]]:
    return [(answer.session_id, answer.question_id) for found in groups for answer in found.answers]


@pytest.mark.unit
def test_a_batch_has_as_few_sessions_as_there_are_answers_for() -> None:
    queue = SessionQueue()
    for ident in range(6):
        queue.put(group("ab"[ident % 2], ident))
    assert [("a", "q0"), ("a", "q2"), ("a", "q4"), ("b", "q1")] == taken(queue.take(4))
    assert [("b", "q3"), ("b", "q5")] == taken(queue.take(4)) and queue.answers == 0
    assert [] == queue.take(4)


@pytest.mark.unit
def test_a_busy_session_takes_turns_with_the_others() -> None:
    queue = SessionQueue()
    for ident in range(10):
        queue.put(group("busy", ident))
    queue.put(group("calm", 99))
    assert 4 == len(queue.take(4))
    assert ("calm", "q99") == taken(queue.take(4))[0]


@pytest.mark.unit
def test_a_large_group_is_not_passed_by_for_ever() -> None:
    queue = SessionQueue()
    queue.put(group("live", 0))
    queue.put(group("import", *range(100, 104)))
    queue.put(group("other", 1))
    assert [("live", "q0")] == taken(queue.take(4))
    queue.put(group("live", 2))
    assert {"import"} == {session_id for session_id, _ in taken(queue.take(4))}


@pytest.mark.property
@given(
    puts=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=40),
    most=st.integers(1, 8),
)
def test_nothing_is_lost_or_overtaken(puts: list[tuple[str, int]], most: int) -> None:
    queue, expected, ident = SessionQueue(), dict[str, list[str]](), 0
    for session_id, size in puts:
        ids = range(ident, ident + size)
        ident += size
        queue.put(group(session_id, *ids))
        expected.setdefault(session_id, []).extend(f"q{i}" for i in ids)
    assert ident == queue.answers
    found: dict[str, list[str]] = {}
    while groups := queue.take(most):
        assert len(groups) == 1 or sum(len(one.answers) for one in groups) <= most
        for session_id, question_id in taken(groups):
            found.setdefault(session_id, []).append(question_id)
    assert expected == found and queue.answers == 0
