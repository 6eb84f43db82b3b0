"""An environment is made once: its mark decides, a half-made one is redone, two callers do not collide."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cli import environments, jars

pytestmark = pytest.mark.unit


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An empty cache, and the commands that would have run."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        time.sleep(0.05)
        if command[1] == "venv":
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setenv("LAKEBOARD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(environments, "find_uv", lambda: Path("uv"))
    monkeypatch.setattr(environments, "_run", run)
    return commands


def test_a_second_call_does_no_work(made: list[list[str]]) -> None:
    first = environments.ensure("live")
    assert [command[1] for command in made] == ["venv", "pip"]
    assert "--require-hashes" in made[1]
    assert first == environments.ensure("live")
    assert len(made) == 2


def test_half_an_install_is_thrown_away(made: list[list[str]]) -> None:
    left = environments.location("live") / "lib"
    left.mkdir(parents=True)
    environments.ensure("live")
    assert not left.exists()
    assert environments.is_ready("live")


def test_two_at_once_install_once(made: list[list[str]]) -> None:
    threads = [threading.Thread(target=environments.ensure, args=("live",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2


def test_the_test_environment_serves_as_main(made: list[list[str]]) -> None:
    assert not environments.can_do("main")
    assert environments.ensure("test") == environments.ensure("main")
    assert not environments.is_ready("main")
    # What needs the lake where there may be one (`rebuild redis`) must not fall back to `live`.
    assert environments.can_do("main") and not environments.can_do("live")


def test_an_unknown_environment_is_named(made: list[list[str]]) -> None:
    with pytest.raises(KeyError, match="nothing"):
        environments.ensure("nothing")


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEBOARD_CACHE_DIR", str(tmp_path))

    def retrieve(group: str, folder: Path) -> None:
        for name in jars.sums_of(group):
            (folder / name).write_bytes(b"another")
        (folder / "extra.jar").write_bytes(b"")

    monkeypatch.setattr(jars, "retrieve", retrieve)
    with pytest.raises(jars.JarsFailed, match=r"questdb.*extra\.jar"):
        jars.ensure_jars("questdb")
    assert not jars.folder_of("questdb").exists()
    assert [path.name for path in (tmp_path / "jars").iterdir()] == [".questdb.lock"]
