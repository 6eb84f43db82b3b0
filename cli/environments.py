"""The Python environments, made from hash-locked requirements when first used.

Standard library only and no newer syntax than Python 3.9's, because the launcher runs `main` with whatever
`python3` the machine has. An environment is finished when its mark `.ready` exists: the mark is written last, so an
install that was cut off is thrown away and made again. A file lock lets one process install while others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cli.places import ROOT, cache

PYTHON = "3.11"
# What each holds, for the progress line.
NAMES = {
    "live": "live play (about 350 MB)",
    "main": "the lake and Spark (about 1 GB)",
    "test": "main with the test tools (about 1.2 GB)",
    "flink": "Flink (about 0.7 GB)",
    "airflow": "Airflow (about 0.5 GB)",
    "containers": "checks of the container files (about 0.1 GB)",
    "java": "a Java 21 runtime from PyPI (about 0.2 GB)",
}


class EnvironmentFailed(Exception):
    """An environment could not be made; the text says what to run."""


def lock_file(name: str) -> Path:
    """The requirements lock of an environment. Raises KeyError for an unknown name."""
    if name not in NAMES:
        raise KeyError(f"no environment {name!r}; there are {', '.join(NAMES)}")
    return ROOT / "requirements" / f"{name}.lock"


def location(name: str) -> Path:
    """Where the environment of the present lock lies, made or not."""
    digest = hashlib.sha256(lock_file(name).read_bytes()).hexdigest()[:8]
    return cache() / "envs" / f"{name}-{digest}"


def is_ready(name: str) -> bool:
    """Whether it is made and whole."""
    return (location(name) / ".ready").exists()


def can_do(name: str) -> bool:
    """Whether it, or one that holds all of it, is made: `ensure` then returns at once."""
    return is_ready(name) or (name == "main" and is_ready("test"))


def python_of(name: str) -> Path:
    """The interpreter of an environment, made or not."""
    return location(name) / "bin" / "python"


def ensure(name: str) -> Path:
    """Makes the environment if it is not there and returns its interpreter; no work when it is.

    Two callers at once: one installs, the other waits. Raises EnvironmentFailed with the command that mends it.
    """
    folder = location(name)
    if is_ready(name):
        return python_of(name)
    if name == "main" and is_ready("test"):
        return python_of("test")  # holds all of main
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock"), f"the environment {name}"):
        if not is_ready(name):
            _make(name, folder)
    return python_of(name)


def _make(name: str, folder: Path) -> None:
    uv = find_uv()
    say(f"making the environment {name}: {NAMES[name]}")
    began = time.monotonic()
    # Without the mark whatever lies here is half an install.
    shutil.rmtree(folder, ignore_errors=True)
    _run([str(uv), "venv", "--quiet", "--python", PYTHON, str(folder)])
    command = [str(uv), "pip", "sync", "--require-hashes", "--python", str(folder / "bin" / "python")]
    # On a terminal uv draws its progress; in a log its list of packages is only noise.
    _run([*command, *([] if sys.stderr.isatty() else ["--quiet"]), str(lock_file(name))])
    (folder / ".ready").write_text(f"{name}\n")
    say(f"environment {name} ready after {time.monotonic() - began:.0f} s")


def find_uv() -> Path:
    """uv from the PATH, else a pinned one that is put into the cache. Raises EnvironmentFailed."""
    found = shutil.which("uv")
    if found:
        return Path(found)
    boot = cache() / "boot"
    uv = boot / "bin" / "uv"
    if (boot / ".ready").exists():
        return uv
    boot.parent.mkdir(parents=True, exist_ok=True)
    with locked(boot.with_suffix(".lock"), "uv"):
        if not (boot / ".ready").exists():
            _make_boot(boot)
    return uv


def _make_boot(boot: Path) -> None:
    say(f"installing uv into {boot}")
    shutil.rmtree(boot, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(boot)], capture_output=True, text=True)
    if made.returncode:
        raise EnvironmentFailed(
            f"{sys.executable} cannot make a virtual environment. Run: sudo apt-get install -y python3-venv\n"
            f"{made.stdout}{made.stderr}"
        )
    lock = ROOT / "requirements" / "boot.lock"
    pip = [str(boot / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", str(lock)])
    (boot / ".ready").write_text("uv\n")


def _run(command: list[str]) -> None:
    # Standard output belongs to the caller's command; uv's progress goes to standard error as it is.
    result = subprocess.run(command, stdout=sys.stderr)
    if result.returncode:
        raise EnvironmentFailed(f"exit {result.returncode} from: {' '.join(command)}")


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds a file lock; the kernel lets go of it if this process dies."""
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is making {what}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """One line of progress on standard error."""
    print(f"lakeboard: {text}", file=sys.stderr, flush=True)


def child_env(**more: str) -> dict[str, str]:
    """This process's variables for a child in another environment: our rooms on its path, no other's packages."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONHOME")}
    env["PYTHONPATH"] = str(ROOT)
    env.setdefault("LAKEBOARD_CACHE_DIR", str(cache()))
    env.update(more)
    return env


def main() -> None:
    """Makes the environments named as arguments and prints their interpreters."""
    try:
        for name in sys.argv[1:]:
            print(ensure(name))
    except EnvironmentFailed as error:
        say(str(error))
        raise SystemExit(3) from None
