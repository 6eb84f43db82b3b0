"""One api process for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.serving.api_process import ApiProcess


@pytest.fixture(scope="session")
def api(
    tmp_path_factory: pytest.TempPathFactory, valkey_urls: list[str], new_postgres_url: Callable[[], str]
) -> Iterator[ApiProcess]:
    """An api with its starter quizzes loaded."""
    process = ApiProcess(tmp_path_factory.mktemp("api"), valkey_urls, new_postgres_url())
    yield process
    process.stop()
