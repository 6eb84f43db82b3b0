"""The pure core of reconcile: what a place is, what differs, what the report says."""

from __future__ import annotations

import pytest

from contracts.ranking import pack
from serving.leaderboards.comparison import Report, compare, places, without_joined

pytestmark = pytest.mark.unit
SECOND = 1_000_000


def test_places_follow_the_contracts_order() -> None:
    packed = {
        "a": pack(10, 3),
        "b": pack(10, 3),
        "B": pack(10, 3),
        "c": pack(10, 2),
        "z": 0,
        "d": pack(11, 9),
    }
    anchor = 100 * SECOND
    assert {
        "d": (1, 11, 109 * SECOND),
        "c": (2, 10, 102 * SECOND),
        "b": (3, 10, 103 * SECOND),
        "a": (4, 10, 103 * SECOND),
        "B": (5, 10, 103 * SECOND),
        "z": (6, 0, None),
    } == places(packed, anchor, SECOND)


def test_equal_boards_do_not_differ() -> None:
    board = places({"a": pack(10, 3), "z": 0}, 0, SECOND)
    assert [] == compare("k", board, dict(board))


@pytest.mark.parametrize(
    ("change", "users"),
    [
        ({"b": pack(9, 4)}, ["b"]),  # another instant
        ({"b": pack(8, 3)}, ["b"]),  # other points, same rank
        ({"b": pack(11, 3)}, ["a", "b"]),  # points that change ranks
        ({"b": None}, ["b", "c"]),  # missing: those below move up
        ({"new": 0}, ["c", "new"]),  # one that the lake does not have
    ],
)
def test_each_kind_of_difference_is_found(change: dict[str, int | None], users: list[str]) -> None:
    lake = {"a": pack(10, 3), "b": pack(9, 3), "c": 0}
    redis = {user: score for user, score in (lake | change).items() if score is not None}
    found = compare("k", places(redis, 0, SECOND), places(lake, 0, SECOND))
    assert users == [one.user_id for one in found]


def test_players_who_only_joined_are_left_out() -> None:
    packed = {"joined": 0, "answered": 0, "best": pack(5, 0)}
    assert {"answered": 0, "best": pack(5, 0)} == without_joined(packed, ["answered", "best"])


def test_the_report_counts_and_tells_by_its_exit_code() -> None:
    report = Report()
    assert 2 == report.exit_code
    report.skip("daily", "2026-01-01", "UTC", "not settled")
    report.skip("daily", "2026-01-01", "UTC", "not settled")
    assert 2 == report.exit_code
    report.add(3, [])
    assert 0 == report.exit_code
    report.add(60, compare("k", {}, places({f"u{n}": 0 for n in range(60)}, 0, SECOND)))
    assert 1 == report.exit_code
    document = report.to_dict()
    assert (2, 63, 60, 20) == (
        document["boards"],
        document["rows"],
        document["differences"],
        len(document["examples"]),
    )
    assert [
        {"period": "daily", "start": "2026-01-01", "zone": "UTC", "why": "not settled", "boards": 2}
    ] == document["skipped"]
