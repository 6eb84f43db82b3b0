"""Ids, event ids, the ring and the partition: fixed for ever, so held by literal values."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import identity
from contracts.errors import BadInput


@pytest.mark.unit
def test_identity_never_changes() -> None:
    assert identity.event_id("a", "b", "c") == "85a97925-c6fa-543d-8c8d-3173bbf7a08b"
    assert identity.answers_partition("u1") == 8
    assert [identity.HashRing(2).shard_of(f"part-{n}") for n in range(1, 8)] == RING_OF_PARTS
    assert identity.import_id("a b") == "x_c8687a08aa5d6ed2044328fa6a697ab8"


RING_OF_PARTS = [1, 1, 0, 1, 1, 1, 0]


@pytest.mark.property
@given(st.text(max_size=80))
def test_an_imported_id_is_valid_and_kept_where_it_was(text: str) -> None:
    kept = identity.import_id(text)
    assert identity.valid_id(kept)
    assert (kept == text) == identity.valid_id(text)


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "a" * 65, "a b", "é", "a\n", "a:b", "a/b"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="invalid_id"):
        identity.checked_id(text, "user_id")


@pytest.mark.unit
def test_ids_that_differ_by_case_are_two() -> None:
    assert identity.event_id("s", "q", "u1") != identity.event_id("s", "q", "U1")


@pytest.mark.unit
def test_the_ring_is_even_and_moves_little() -> None:
    quizzes = [f"quiz-{n}" for n in range(8_000)]
    four, five = identity.HashRing(4), identity.HashRing(5)
    load = Counter(map(four.shard_of, quizzes))
    assert max(load.values()) < 1.25 * min(load.values())
    moved = [quiz for quiz in quizzes if four.shard_of(quiz) != five.shard_of(quiz)]
    assert len(moved) < 0.28 * len(quizzes)
    assert {five.shard_of(quiz) for quiz in moved} == {4}


@pytest.mark.unit
def test_partitions_are_all_used() -> None:
    load = Counter(identity.answers_partition(f"u{n}") for n in range(12_000))
    assert len(load) == identity.ANSWER_PARTITIONS and min(load.values()) > 800
