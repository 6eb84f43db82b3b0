"""The notebook runs from its first cell to its last on a small lake, and finds no difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from cli.places import ROOT
from contracts.settings import Settings
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.recorded import recorded
from tests.small_lake import SmallLake

pytestmark = pytest.mark.engine
NOTEBOOK = ROOT / "notebooks" / "tour_of_the_lake.ipynb"


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str) -> Iterator[Settings]:
    """A lake with some settled days."""
    daemons = [start_valkey(tmp_path / f"valkey_{number}") for number in (1, 2)]
    record = recorded([daemon.url for daemon in daemons], postgres_url)
    record.play(model.play(61, users=15, sessions=5))
    record.relay()
    lake = SmallLake(postgres_url, tmp_path / "warehouse")
    lake.take()
    lake.settle()
    yield Settings(
        postgres_url=postgres_url, lake_warehouse=lake.warehouse, cache_dir=str(tmp_path / "cache")
    )
    for daemon in daemons:
        daemon.stop()


def outputs(book: Any, word: str) -> str:
    """The text that the cell whose source holds `word` last showed."""
    cell = next(cell for cell in book.cells if cell.cell_type == "code" and word in cell.source)
    return str([item["data"].get("text/plain", "") for item in cell.outputs if "data" in item][-1])


def test_it_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (settings.to_env() | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    assert "[]" == outputs(book, "differences =")
    assert "answers" in outputs(book, "information_schema")
    assert "Figure" in outputs(book, "plt.subplots")


def test_it_is_kept_without_outputs() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert [] == [cell.outputs for cell in book.cells if cell.cell_type == "code" and cell.outputs]
