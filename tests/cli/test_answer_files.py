"""Files of answers: what a line becomes, in which order, and what happens to a line that is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cli.answer_files import boards_since_us, instant_us, read, requests_of
from contracts.errors import BadInput

pytestmark = pytest.mark.unit
EDNET = "timestamp_ms,user_id,question_id,part,tags,answer,correct,elapsed_ms\n"
CSV = "occurred_at,user_id,session_id,quiz_id,question_id,correct,elapsed_ms\n"


def test_an_ednet_line_becomes_an_import_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress((EDNET + "1506015043018,k013,q8098,1,5;2;182,b,1,18000\n").encode()))
    lines, bad = read(path, "ednet", "speed@1")
    assert bad == []
    assert lines == [
        {
            "occurred_at_us": 1506015043018000,
            "user_id": "k013",
            "session_id": "k013_2017-09-21_1",
            "quiz_id": "part-1",
            "question_id": "q8098",
            "correct": True,
            "elapsed_ms": 18000,
            "skill_tags": ["5", "2", "182"],
            "choice": "b",
            "time_limit_ms": 60000,
            "rule": "speed@1",
            "session_started_at_us": 1506015043018000,
        }
    ]
    # 2017-09-01 is a Friday: the month begins before the week of the 21st.
    assert boards_since_us(lines) == instant_us("2017-09-01")


def test_lines_are_sorted_and_carry_their_sessions_earliest_instant(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV + "2026-01-01T00:00:05Z,u,s,q,w2,true,1\n1767225602000,u,s,q,w1,0,1\n")
    lines, _ = read(path, "csv", "speed@1")
    assert [(line["question_id"], line["correct"]) for line in lines] == [("w1", False), ("w2", True)]
    assert {line["session_started_at_us"] for line in lines} == {1767225602000000}


def test_a_line_that_is_none_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV + "soon,u,s,q,w,1,1\n0,u,s,q,w,maybe,1\n0,u\n0,u,s,q,w,1,1\n")
    lines, bad = read(path, "csv", "speed@1")
    assert (len(lines), [item.line for item in bad]) == (1, [2, 3, 4])


def test_bytes_quotes_and_empty_ids_cost_their_own_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    good = b"0,u%d,s,q,w,1,1\n"
    wrong = [
        b"0,caf\xe9,s,q,w,1,1\n",
        b'0,"u,s,q,w,1,1\n',
        b"0,,s,q,w,1,1\n",
        b"0," + b"u" * 200_000 + b",s,q,w,1,1\n",
    ]
    path.write_bytes(
        b"\xef\xbb\xbf" + CSV.encode() + b"\n".join(good % n + line for n, line in enumerate(wrong))
    )
    lines, bad = read(path, "csv", "speed@1")
    assert ["u0", "u1", "u2", "u3"] == [line["user_id"] for line in lines]
    assert [3, 6, 9, 12] == [item.line for item in bad]


def test_a_header_without_a_column_is_wrong_use(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id\nu\n")
    with pytest.raises(BadInput, match="occurred_at"):
        read(path, "csv", "speed@1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01", 1_000_000),
        ("1970-01-01T01:00:00.000001+01:00", 1),
        ("5", 5_000),
        ("1970-01-02", 86_400_000_000),
    ],
)
def test_an_instant_is_iso_or_epoch_ms(text: str, expected: int) -> None:
    assert instant_us(text) == expected


def test_a_session_stays_in_one_lane_in_order() -> None:
    lines = [{"session_id": f"s{number % 5}", "n": number} for number in range(100)]
    lanes = requests_of(lines, 3, 7)
    homes: dict[str, set[int]] = {}
    for lane, bodies in enumerate(lanes):
        assert all(body.count(b"\n") < 7 for body in bodies)
        for body in bodies:
            for name in {f"s{n}" for n in range(5) if f'"s{n}"'.encode() in body}:
                homes.setdefault(name, set()).add(lane)
    assert all(len(home) == 1 for home in homes.values())
    assert sum(body.count(b"\n") + 1 for bodies in lanes for body in bodies) == 100
