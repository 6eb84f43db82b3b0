"""Boards, settlements, settings and errors: small pure parts of the contract."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import settlements
from contracts.boards import Board, Scope, boards_of, kept_in_redis
from contracts.errors import TITLES, BadInput, problem
from contracts.periods import midnight_us, span
from contracts.replies import Provenance
from contracts.settings import Settings, from_mapping


@pytest.mark.unit
def test_scopes_parse_to_themselves() -> None:
    for text in ("global", "quiz:part-1", "session:k013_2017-09-21_1", "tag:A1", "class:c"):
        assert str(Scope.parse(text)) == text
    for text in ("", "quiz", "quiz:", "quiz:a b", "global:x", "user:u"):
        with pytest.raises(BadInput, match="unknown_scope"):
            Scope.parse(text)


@pytest.mark.unit
def test_an_answer_is_on_four_boards_of_its_scope() -> None:
    keys = [board.key for board in boards_of(Scope("global"), midnight_us(date(2021, 1, 3), "UTC"), "UTC")]
    assert keys == [
        "leaderboard:global:daily:2021-01-03",
        "leaderboard:global:weekly:2020-12-28",
        "leaderboard:global:monthly:2021-01-01",
        "leaderboard:global:all_time:1970-01-01",
    ]


@pytest.mark.unit
def test_redis_keeps_periods_that_end_after_boards_since() -> None:
    board = Board(Scope("global"), "daily", date(2024, 2, 29))
    end = span("daily", date(2024, 2, 29)).end_us
    assert kept_in_redis(board, end - 1) and not kept_in_redis(board, end)
    assert kept_in_redis(Board(Scope("global"), "all_time", date(1970, 1, 1)), end)


@pytest.mark.property
@given(st.lists(st.integers(1, 30)))
def test_gapless_is_the_longest_unbroken_start(seqs: list[int]) -> None:
    reached = settlements.gapless_to(seqs)
    assert all(n in seqs for n in range(1, reached + 1)) and reached + 1 not in seqs


@pytest.mark.unit
def test_a_day_is_complete_when_every_shard_reached_its_barrier() -> None:
    assert settlements.day_complete({0: 3, 1: 5}, {0: 3, 1: 9}, 2)
    assert not settlements.day_complete({0: 3}, {0: 3, 1: 9}, 2)
    assert not settlements.day_complete({0: 3, 1: 5}, {0: 3, 1: 4}, 2)
    assert settlements.is_late(6, 5) and not settlements.is_late(5, 5)


@pytest.mark.unit
def test_the_state_of_a_period() -> None:
    end = span("daily", date(2024, 2, 29)).end_us
    states = [settlements.state_of("daily", date(2024, 2, 29), "UTC", now, False) for now in (end - 1, end)]
    assert states == ["live", "provisional"]
    assert settlements.state_of("daily", date(2024, 2, 29), "UTC", end, True) == "settled"
    assert settlements.state_of("all_time", date(1970, 1, 1), "UTC", end, False) == "live"
    assert not settlements.barrier_due(date(2024, 2, 29), "UTC", end + settlements.GRACE_US - 1)
    assert settlements.barrier_due(date(2024, 2, 29), "UTC", end + settlements.GRACE_US)


@pytest.mark.unit
def test_settings_survive_the_environment() -> None:
    settings = Settings(kafka_bootstrap="127.0.0.1:9192", api_ports=(1, 2, 3))
    assert from_mapping(settings.to_env()) == settings
    assert from_mapping({"LAKEBOARD_PROFILE": "live"}, {"profile": "full", "api_ports": [7]}).api_ports == (
        7,
    )
    with pytest.raises(BadInput):
        from_mapping({"LAKEBOARD_PROFILE": "huge"})
    with pytest.raises(BadInput):
        from_mapping({"LAKEBOARD_API_PORTS": "a"})


@pytest.mark.unit
def test_a_problem_document_has_code_and_next_step() -> None:
    document = problem(
        BadInput("unknown_scope", "'x' is not a scope", next_step="write global"), instance="/v1/x"
    )
    assert document == {
        "type": "urn:lakeboard:problem:unknown_scope", "title": TITLES["unknown_scope"], "status": 422,
        "detail": "'x' is not a scope", "code": "unknown_scope", "next_step": "write global", "instance": "/v1/x",
    }  # fmt: skip


@pytest.mark.unit
def test_provenance_outside_the_contract_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="outside the contract"):
        Provenance("memory", "exact", "2024-01-01T00:00:00.000Z", "live")
