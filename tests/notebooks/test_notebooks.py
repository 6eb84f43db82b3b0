"""The notebooks run from the first cell to the last on a small lake, and find what is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import lake
from cli.places import ROOT
from contracts.settings import Settings
from tests.notebooks.conftest import LATE_USERS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def books(settled: Settings) -> dict[str, Any]:
    """Each notebook with its outputs, by name; run side by side, since most of their time is a kernel's start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settled.to_env().items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        found = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}

        async def run() -> None:
            clients = [NotebookClient(book, timeout=120, kernel_name="python3") for book in found.values()]
            await asyncio.gather(*(client.async_execute() for client in clients))

        asyncio.run(run())
    return found


def output(book: Any, word: str) -> str:
    """The text that the cell whose source holds `word` last showed."""
    cell = next(cell for cell in book.cells if cell.cell_type == "code" and word in cell.source)
    return str([item["data"].get("text/plain", "") for item in cell.outputs if "data" in item][-1])


def plots(book: Any) -> int:
    """How many pictures there are."""
    return sum("image/png" in item.get("data", {}) for cell in book.cells for item in cell.get("outputs", ()))


@pytest.mark.engine
def test_the_tour_finds_no_difference(books: dict[str, Any]) -> None:
    book = books["tour_of_the_lake"]
    assert "[]" == output(book, "differences =")
    assert "counted answer, as it was recorded" in output(book, "lake.tables()")
    assert 1 == plots(book)


@pytest.mark.engine
def test_boards_summed_are_the_boards_published(books: dict[str, Any]) -> None:
    book = books["boards"]
    assert "'5 weeks, 200 rows, 0 differences '" == output(book, "differences =")
    assert 3 == plots(book)


@pytest.mark.engine
def test_quality_finds_the_late_answers_and_nothing_else(
    books: dict[str, Any], in_environment: Settings
) -> None:
    book = books["quality"]
    late = lake.open().sql("SELECT count(*) FROM answers WHERE user_id LIKE 'late%'").fetchall()[0][0]
    assert late >= LATE_USERS
    checks = output(book, "checks =").splitlines()
    found = {line.rsplit(None, 1)[0].strip(): int(line.rsplit(None, 1)[1]) for line in checks[1:]}
    assert {
        "missing seq": 0,
        "repeated seq": 0,
        "repeated (partition, offset)": 0,
        "repeated event_id": 0,
        "late answers": late,
        "dead letters": 1,
        "published days that answers do not explain": 0,
    } == found
    assert 3 == plots(book)


@pytest.mark.unit
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [] == [cell.outputs for cell in code if cell.outputs]
    assert {None} == {cell.execution_count for cell in code}
    assert max(len(cell.source.splitlines()) for cell in code) <= 25, "a cell is longer than a screen"
