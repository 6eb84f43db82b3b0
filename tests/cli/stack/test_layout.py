"""A home keeps the port offset that its data was made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stack.layout import keep_offset, layout_from
from contracts.errors import BadInput

pytestmark = pytest.mark.unit


def test_commands_find_the_offset_of_the_data(tmp_path: Path) -> None:
    home = {"LAKEBOARD_HOME": str(tmp_path)}
    keep_offset(layout_from({**home, "LAKEBOARD_PORT_OFFSET": "700"}))
    assert layout_from(home).port("web") == 8780


def test_another_offset_on_the_same_data_is_refused(tmp_path: Path) -> None:
    home = {"LAKEBOARD_HOME": str(tmp_path)}
    keep_offset(layout_from({**home, "LAKEBOARD_PORT_OFFSET": "700"}))
    keep_offset(layout_from(home))
    with pytest.raises(BadInput, match="700"):
        keep_offset(layout_from({**home, "LAKEBOARD_PORT_OFFSET": "0"}))
