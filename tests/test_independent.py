"""The independent SQL against the reference model: the file that ships, and a month of EdNet."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from cli.answer_files import read
from tests import model
from tests.conftest import SHARED
from tests.independent import independent_boards
from tests.simulated_week import PATH

EDNET = SHARED / "data" / "ednet_answers.csv.gz"


def model_of(path: Path, form: str) -> dict[tuple[str, str, str], list[model.Row]]:
    """The model over a file as `replay` sends it."""
    lines, bad = read(path, form, "speed@1")
    assert bad == []
    return model.all_boards(
        [
            model.Answer(
                line["occurred_at_us"],
                line["user_id"],
                line["session_id"],
                line["quiz_id"],
                line["question_id"],
                line["correct"],
                line["elapsed_ms"],
                line["session_started_at_us"],
            )
            for line in lines
        ]
    )


def assert_equal(path: Path, form: str) -> int:
    """Every board equal, row for row; how many rows."""
    found: dict[tuple[str, str, str], list[model.Row]] = {}
    rows = (
        independent_boards(path, form)
        .execute("SELECT * FROM boards ORDER BY scope, period, start, rank")
        .fetchall()
    )
    for scope, period, start, *row in rows:
        found.setdefault((scope, period, start), []).append(model.Row(*row))
    expected = model_of(path, form)
    assert expected.keys() == found.keys()
    assert [] == [name for name in expected if expected[name] != found[name]]
    return len(rows)


@pytest.mark.unit
def test_the_simulated_week_gives_the_models_boards() -> None:
    assert assert_equal(PATH, "csv") > 1_500


@pytest.mark.unit
def test_it_can_fail(tmp_path: Path) -> None:
    """One point less in one line is seen."""
    text = gzip.decompress(PATH.read_bytes()).decode().splitlines()
    changed = tmp_path / "changed.csv"
    spot = next(i for i, line in enumerate(text) if ",1," in line and not line.endswith(("60000", ",0")))
    text[spot] = text[spot].replace(",1,", ",0,")
    changed.write_text("\n".join(text) + "\n")
    rows = independent_boards(changed, "csv").execute("SELECT * FROM boards").fetchall()
    assert sorted(map(str, rows)) != sorted(
        map(str, independent_boards(PATH, "csv").execute("SELECT * FROM boards").fetchall())
    )


@pytest.mark.unit
@pytest.mark.needs_shared
def test_a_month_of_ednet_gives_the_models_boards(tmp_path: Path) -> None:
    month = tmp_path / "month.csv"
    first, last = 1_564_617_600_000, 1_567_296_000_000  # August 2019, the fullest month
    with gzip.open(EDNET, "rt", newline="") as source, month.open("w", newline="") as target:
        rows = csv.reader(source)
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(next(rows))
        writer.writerows(row for row in rows if first <= int(row[0]) < last)
    assert assert_equal(month, "ednet") > 1_000
