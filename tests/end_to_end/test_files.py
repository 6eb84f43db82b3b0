"""Whole files the whole way: what ships, a real month, all of the real data; every board against independent SQL.

The shipped week is replayed in profile `live`, which then becomes `full` and catches up.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from contracts import names
from contracts.ranking import HOUR_US, PERIOD_TICK_US
from serving.boards.whole_boards import WholeBoards
from serving.leaderboards.comparison import places
from tests.conftest import SHARED
from tests.end_to_end.whole_stack import LEFT_OUT, WholeStack
from tests.independent import independent_boards
from tests.simulated_week import PATH

pytestmark = pytest.mark.end_to_end
EDNET = SHARED / "data" / "ednet_answers.csv.gz"
MONTH = "2019-02"
RANKED = ("daily", "weekly", "monthly")


@dataclass(frozen=True, slots=True)
class File:
    """A file of answers, its days, and the profile that the replay begins in."""

    path: Path
    form: str
    first: date
    last: date
    profile: str = "full"


def shipped_week(_: Path) -> File:
    return File(PATH, "csv", date(2026, 3, 30), date(2026, 4, 5), "live")


def real_month(folder: Path) -> File:
    def month_of(line: str) -> str:
        return datetime.fromtimestamp(int(line.split(",", 1)[0]) / 1000, UTC).strftime("%Y-%m")

    path = folder / "month.csv"
    with gzip.open(EDNET, "rt") as source:
        header, *lines = source
    path.write_text(header + "".join(line for line in lines if month_of(line) == MONTH))
    return File(path, "ednet", date(2019, 2, 1), date(2019, 2, 28))


def all_of_it(_: Path) -> File:
    return File(EDNET, "ednet", date(2017, 9, 1), date(2019, 11, 30))


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[WholeStack]:
    """A stack of this test's own, not up yet: all-time boards would mix two files."""
    whole = WholeStack(tmp_path / "home")
    try:
        yield whole
    finally:
        whole.run("down")


Boards = dict[str, list[tuple[Any, ...]]]
"""Key of a board → (rank, user_id, points, reached_at_us), in order of rank."""


def expected_boards(file: File) -> tuple[Boards, dict[str, int]]:
    """Every board by the independent SQL, and each session's anchor."""
    connection = independent_boards(file.path, file.form)
    found: Boards = {}
    for scope, period, start, *row in connection.execute(
        "SELECT * FROM boards ORDER BY scope, period, start, rank"
    ).fetchall():
        found.setdefault(names.board(scope, period, start), []).append(tuple(row))
    anchors = dict(connection.execute("SELECT DISTINCT session_id, session_at_us FROM counted").fetchall())
    return found, anchors


def boards_in_redis(stack: WholeStack, expected: Boards, anchors: dict[str, int]) -> Boards:
    """The boards of the same keys as Redis has them."""
    live = WholeBoards(stack.layout.settings("full").valkey_urls)
    try:
        kept = live.keys()
        assert expected.keys() == kept, "Redis has other boards"
        keys = sorted(kept)
        found: Boards = {}
        for key, packed in zip(keys, live.read(keys), strict=True):
            scope, period, start = names.parse_board(key)
            if scope.startswith("session:"):
                frame = (anchors[scope.partition(":")[2]], PERIOD_TICK_US["daily"])
            elif period == "all_time":
                frame = (0, HOUR_US)
            else:
                day = datetime.fromisoformat(start).replace(tzinfo=UTC)
                frame = (int(day.timestamp()) * 1_000_000, PERIOD_TICK_US[period])
            rows = places(packed, *frame).items()
            found[key] = sorted((rank, user, points, reached) for user, (rank, points, reached) in rows)
    finally:
        live.close()
    return found


def rankings_in_the_lake(stack: WholeStack) -> Boards:
    """Every board of `rankings`."""
    found: Boards = {}
    query = "select period, start, scope, rank, user_id, points, reached_at_us from rankings order by all"
    for row in stack.rows(query):
        key = names.board(row["scope"], row["period"], row["start"])
        found.setdefault(key, []).append((row["rank"], row["user_id"], row["points"], row["reached_at_us"]))
    return found


def differing(expected: Boards, found: Boards) -> list[str]:
    """Keys of boards that are not equal, row for row."""
    return [key for key in sorted(expected.keys() | found.keys()) if expected.get(key) != found.get(key)]


@pytest.mark.parametrize(
    "file_of",
    [
        pytest.param(shipped_week, id="the shipped week, from live to full"),
        *(
            pytest.param(file, id=name, marks=[pytest.mark.needs_shared, pytest.mark.long])
            for file, name in ((real_month, "a real month"), (all_of_it, "all of the real data"))
        ),
    ],
)
def test_a_file_gives_the_boards_that_independent_sql_gives(
    own_stack: WholeStack, tmp_path: Path, file_of: Any
) -> None:
    file: File = file_of(tmp_path)
    own_stack.run(
        "up", "--profile", file.profile, *(["--without", LEFT_OUT] if file.profile == "full" else [])
    )
    report = own_stack.document("replay", str(file.path), "--format", file.form, "--keep-boards", "--json")
    assert (0, 0) == (report["refused"], report["unreadable"])
    assert report["answers"] == report["counted"] + report["repeated"]

    expected, anchors = expected_boards(file)
    own_stack.until_relayed()
    assert [] == differing(expected, boards_in_redis(own_stack, expected, anchors))
    if file.profile == "live":
        own_stack.run("up", "--without", LEFT_OUT)

    span = ("--from", str(file.first), "--to", str(file.last))
    settled = own_stack.document("settle", *span)
    assert [] == settled["skipped"]
    lake = rankings_in_the_lake(own_stack)
    in_periods = {key: rows for key, rows in expected.items() if names.parse_board(key)[1] in RANKED}
    assert [] == differing(in_periods, lake)
    compared = own_stack.document("reconcile", *span, "--json")
    assert (0, len(expected)) == (compared["differences"], compared["boards"])
    print(
        f"replay {report['answers_per_s']}/s, settle {settled['seconds']['all']} s, "
        f"{compared['boards']} boards, {compared['rows']} rows, {compared['differences']} differences"
    )
