"""The lake's tables say what they hold: each table what one row is, each column what it means."""

from __future__ import annotations

import re

import pytest

from contracts.tables import TABLE_COMMENTS, TABLES, create_table

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", TABLES)
def test_each_table_and_each_column_has_a_comment(name: str) -> None:
    assert re.fullmatch(r"one row per [^;]{4,50}(; .+)?", TABLE_COMMENTS[name])
    text = create_table(name)
    columns = text.partition("(\n")[2].partition("\n) USING")[0].splitlines()
    without = [line for line in columns if not re.search(r"^\s+\w+ \S+ COMMENT '([^']|''){3,}',?$", line)]
    assert [] == without
    assert f"\nCOMMENT '{TABLE_COMMENTS[name]}'" in text.replace("''", "'")
