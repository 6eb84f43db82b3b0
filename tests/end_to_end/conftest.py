"""One stack for the whole kind: its start costs more than any test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.whole_stack import LEFT_OUT, WholeStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """A stack that has taken no answer yet."""
    whole = WholeStack(tmp_path_factory.mktemp("whole"))
    try:
        whole.run("up", "--without", LEFT_OUT)
        yield whole
    finally:
        whole.run("down")
