"""One process of the stack: what starts it, when it is ready, and how it is stopped.

The same definition starts the user's stack (under the supervisor) and the daemons of the service tests
(`launch`), so a flag that is wrong in one is wrong in both.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# prctl(2): the kernel sends this signal to a child when its parent dies. Linux only; elsewhere orphans are
# ended by the next `up`, which reads the process ids of the last one.
_PR_SET_PDEATHSIG = 1


class NotReady(Exception):
    """A process did not become ready in its time, or ended before it was; the message names its log."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What the supervisor needs to know of one process.

    Attributes:
        name: Unique in the stack; names the log and the heartbeat file.
        command: Program and arguments.
        folder: Working directory, made if absent.
        ready: Asked again and again until it says True; runs in a thread and may block for a second or two.
        port: The port shown by `status`; None for a process that listens nowhere.
        after: Names of the processes that must be ready before this one starts.
        prepare: Runs before every start, in a thread; must be safe to repeat (format a disk once, write a config).
        when_ready: Runs after every time the process becomes ready (create topics, databases); safe to repeat.
        user_id: Run as this user; only for daemons that refuse to run as root.
        stop_signal: Ends it cleanly; also what the kernel sends if the supervisor dies.
        heartbeat: File the process touches; older than 30 seconds means stalled. None: no heartbeat.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    ready: Callable[[], bool]
    port: int | None = None
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    when_ready: Callable[[], None] | None = None
    user_id: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    ready_seconds: float = 90.0
    heartbeat: Path | None = None


def port_open(port: int) -> bool:
    """Says whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def http_ok(url: str) -> bool:
    """Says whether a GET of the address answers with a status below 400."""
    try:
        with urllib.request.urlopen(url, timeout=3) as reply:
            return bool(reply.status < 400)
    except (OSError, ValueError):
        return False


def is_ready(process: Process) -> bool:
    """Asks the process's own probe; a door that is still shut, or an answer that is half there, is "not yet"."""
    try:
        return process.ready()
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return False


def free_port() -> int:
    """Returns a loopback port that nothing holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child_setup(process: Process) -> Callable[[], None]:
    """Returns what runs in the child between fork and exec: own user, and death with the parent."""
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()

    def setup() -> None:
        # The user first: the kernel forgets the death signal when the credentials change.
        if process.user_id is not None:
            os.setgroups([])
            os.setgid(process.user_id)
            os.setuid(process.user_id)
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, int(process.stop_signal), 0, 0, 0)
            if os.getppid() != parent:  # the parent died before the call above
                os._exit(1)

    return setup


def start(
    process: Process, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts the process in its own group, its output appended to `log`; does not wait for readiness."""
    process.folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:  # appending, so that the log can be cut while the process writes
        return subprocess.Popen(
            process.command,
            cwd=process.folder,
            env={**os.environ, **(environment or {}), **process.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=child_setup(process),
        )


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signals the process group that `pid` leads; one that is gone is no error."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


class Running:
    """A process started outside the supervisor, for tests: started, waited for, stopped by its id."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the child that runs now."""
        assert self._child is not None, f"{self.process.name} is not started"
        return self._child.pid

    def start(self) -> None:
        """Starts the process and returns when it is ready.

        Raises:
            NotReady: It ended, or its time passed.
        """
        if self.process.prepare:
            self.process.prepare()
        self._child = start(self.process, self.log)
        deadline = time.monotonic() + self.process.ready_seconds
        while not is_ready(self.process):
            ended = self._child.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.kill()
                raise NotReady(f"{self.process.name} is not ready; end of {self.log}:\n{tail}")
            time.sleep(0.05)
        if self.process.when_ready:
            self.process.when_ready()

    def ended(self, seconds: float = 10.0) -> bool:
        """Whether it ends by itself within some time."""
        assert self._child is not None, f"{self.process.name} is not started"
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends the process at once, as a power cut would."""
        if self._child is not None:
            signal_group(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def stop(self) -> None:
        """Ends the process cleanly, by force after its time."""
        if self._child is None:
            return
        signal_group(self._child.pid, self.process.stop_signal)
        try:
            self._child.wait(self.process.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()


def launch(process: Process, log: Path) -> Running:
    """Starts a process and returns it when it is ready."""
    running = Running(process, log)
    running.start()
    return running
