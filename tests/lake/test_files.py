"""The file cache: each immutable file is fetched once, half a fetch is never used, the oldest used go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.unit]


class Remote:
    """Stands in for HDFS: files by path, and how often each was fetched."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fetched: list[str] = []

    def cat_file(self, path: str) -> bytes:
        self.fetched.append(path)
        return self.files[path]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Remote:
    remote = Remote({f"/w/{name}": name.encode() * 100 for name in "abcd"})
    monkeypatch.setattr("lake.files.file_system_of", lambda url: remote)
    return remote


def _url(name: str) -> str:
    return f"hdfs://127.0.0.1:1/w/{name}"


def test_a_file_is_fetched_once(remote: Remote, tmp_path: Path) -> None:
    from lake.files import FileCache

    first = FileCache(tmp_path).paths([_url("a"), _url("b")])
    assert [b"a" * 100, b"b" * 100] == [Path(path).read_bytes() for path in first]
    assert first == FileCache(tmp_path).paths([_url("a"), _url("b")])
    assert ["/w/a", "/w/b"] == sorted(remote.fetched)


def test_half_a_fetch_is_not_a_file(remote: Remote, tmp_path: Path) -> None:
    from lake.files import FileCache

    cache = FileCache(tmp_path)
    with pytest.raises(KeyError):
        cache.paths([_url("missing")])
    (tmp_path / "0.1.2.part").write_bytes(b"half")
    assert [] == list(tmp_path.glob("*.parquet"))
    [path] = cache.paths([_url("c")])
    assert b"c" * 100 == Path(path).read_bytes()


def test_the_oldest_used_go_first_and_never_one_in_use(remote: Remote, tmp_path: Path) -> None:
    from lake.files import FileCache

    cache = FileCache(tmp_path, limit_bytes=250)
    a, b = cache.paths([_url("a"), _url("b")])
    os.utime(a, (1, 1))
    os.utime(b, (2, 2))
    cache.paths([_url("a")])  # used again: b is the oldest now
    [c] = cache.paths([_url("c")])
    assert (True, False, True) == tuple(Path(path).exists() for path in (a, b, c))
    wanted = cache.paths([_url(name) for name in "abcd"])
    assert all(Path(path).exists() for path in wanted), (
        "a query's own files stay, though they exceed the limit"
    )


def test_local_files_are_used_where_they_lie(remote: Remote, tmp_path: Path) -> None:
    from lake.files import FileCache

    assert ["/x/a b.parquet"] == FileCache(tmp_path).paths(["file:///x/a%20b.parquet"])
    assert [] == remote.fetched
