"""Keeps the stack running: starts in order of dependency, restarts what ends or stalls, leaves no orphan.

A process goes through these states; the state file `run/stack.json` shows them:

    waiting ──(all of `after` are ready)──► starting ──(ready() is true)──► ready
       ▲                                       │                              │
       └────── back-off, jittered ◄── ended, too slow to be ready, or stalled ┘

A dependency that goes down later neither takes its dependents down nor holds their restarts back.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cli.stack.process import Process, is_ready, signal_group, start

_log = logging.getLogger("lakeboard.supervisor")

# How soon a dead process is tried again: the first restart is felt as a blip; a process that cannot start costs at
# most one attempt in 30 s. The jitter keeps processes that died together from coming back together.
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
# A process that stayed ready this long is healthy again: its next restart starts from the first delay.
STEADY_S = 60.0
# Heartbeats come every 5 s; under 30 s a long garbage collection or a slow disk would look like a stall.
STALLED_S = 30.0
# One log and its predecessor: 40 MB a process at most.
LOG_LIMIT_BYTES = 20_000_000


def delay_before(attempt: int, rng: random.Random) -> float:
    """Seconds to wait before restart number `attempt` (0, 1, 2 …): doubling, capped, times 0.5 to 1."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 10)) * rng.uniform(0.5, 1.0)


@dataclass
class Watched:
    """One process with what the supervisor knows about it now."""

    process: Process
    state: str = "waiting"
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    ready_at: float = 0.0
    restarts: int = 0
    attempt: int = 0
    problem: str = ""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The id of the child that runs now, 0 for none."""
        return self.child.pid if self.child is not None and self.child.poll() is None else 0

    def to_dict(self) -> dict[str, Any]:
        """The row of the state file."""
        return {
            "name": self.process.name,
            "state": self.state,
            "pid": self.pid,
            "port": self.process.port,
            "started_at": self.started_at,
            "ready_at": self.ready_at,
            "restarts": self.restarts,
            "problem": self.problem,
        }


class Supervisor:
    """Runs a set of processes until told to stop."""

    def __init__(
        self,
        processes: Sequence[Process],
        run: Path,
        logs: Path,
        environment: Mapping[str, str],
        about: dict[str, Any],
        beside: Callable[[Supervisor], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.watched = {process.name: Watched(process) for process in processes}
        unknown = {name for process in processes for name in process.after} - self.watched.keys()
        assert not unknown, f"processes wait for {unknown}, which are not in this stack"
        self.run = run
        self.logs = logs
        self.environment = environment
        self.about = about
        # Runs while the stack does, and may add and remove processes.
        self.beside = beside
        self.stopping = asyncio.Event()
        self._rng = random.Random()

    async def main(self) -> None:
        """Runs until SIGTERM or SIGINT; then ends the processes, dependents first."""
        self.run.mkdir(parents=True, exist_ok=True)
        (self.run / "heartbeats").mkdir(exist_ok=True)
        end_leftovers(self.run / "stack.json")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        # SIGHUP comes when the terminal closes; the stack stays up.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        for watched in self.watched.values():
            watched.keeper = asyncio.create_task(self._keep(watched))
        housekeeping = asyncio.create_task(self._housekeeping())
        beside = asyncio.create_task(self.beside(self)) if self.beside else None
        await self.stopping.wait()
        tasks = [task for task in (beside, *(one.keeper for one in self.watched.values())) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop_all()
        housekeeping.cancel()
        (self.run / "stack.json").unlink(missing_ok=True)

    def add(self, process: Process) -> None:
        """Keeps one more process from now on."""
        watched = self.watched[process.name] = Watched(process)
        watched.keeper = asyncio.create_task(self._keep(watched))

    async def remove(self, name: str) -> None:
        """Ends a process and keeps it no longer. Nobody may wait for it."""
        watched = self.watched[name]
        if watched.keeper:
            watched.keeper.cancel()
            await asyncio.gather(watched.keeper, return_exceptions=True)
        await self._end(watched)
        del self.watched[name]

    async def _keep(self, watched: Watched) -> None:
        """Starts one process again and again, with back-off."""
        while True:
            if not watched.restarts:  # the order is for the first start; later each part comes back by itself
                for name in watched.process.after:
                    await self.watched[name].up.wait()
            try:
                await self._once(watched)
            except Exception as error:  # a failed prepare or when_ready: shown by status, tried again
                watched.problem = f"{type(error).__name__}: {error}"[:500]
                await self._end(watched)
            watched.state = "waiting"
            watched.up.clear()
            if watched.ready_at and time.time() - watched.ready_at > STEADY_S:
                watched.attempt = 0
            delay = delay_before(watched.attempt, self._rng)
            watched.attempt += 1
            watched.restarts += 1
            _log.warning(
                "process_ended name=%s problem=%r retry_s=%.1f", watched.process.name, watched.problem, delay
            )
            await asyncio.sleep(delay)

    async def _once(self, watched: Watched) -> None:
        """One life of a process: 1 prepare, 2 start, 3 wait for ready, 4 watch; returns when it has ended."""
        process = watched.process
        watched.state, watched.ready_at = "starting", 0.0
        if process.prepare:
            await asyncio.to_thread(process.prepare)  # 1
        if process.heartbeat:
            process.heartbeat.unlink(missing_ok=True)  # an old one would look like a stall
        child = start(process, self.logs / f"{process.name}.log", self.environment)  # 2
        watched.child, watched.started_at = child, time.time()
        deadline = time.monotonic() + process.ready_seconds
        while not await asyncio.to_thread(is_ready, process):  # 3
            if child.poll() is not None:
                watched.problem = f"ended with {child.returncode} before it was ready; see its log"
                return
            if time.monotonic() > deadline:
                watched.problem = f"not ready after {process.ready_seconds:.0f} s"
                await self._end(watched)
                return
            await asyncio.sleep(0.1)
        if child.poll() is not None:
            # Something else answered on its port.
            watched.problem = (
                f"ended with {child.returncode}, but port {process.port} is held by another process"
            )
            return
        if process.when_ready:
            await asyncio.to_thread(process.when_ready)
        watched.state, watched.ready_at, watched.problem = "ready", time.time(), ""
        watched.up.set()
        _log.info(
            "process_ready name=%s pid=%d seconds=%.1f",
            process.name,
            child.pid,
            time.time() - watched.started_at,
        )
        while child.poll() is None:  # 4
            if _stalled(process, watched.started_at):
                watched.problem = f"stalled: no heartbeat for {STALLED_S:.0f} s"
                await self._end(watched)
                return
            await asyncio.sleep(0.2)
        watched.problem = f"ended with {child.returncode}"
        signal_group(child.pid, signal.SIGKILL)  # what it left behind in its group

    async def _end(self, watched: Watched) -> None:
        """Ends one process: its own signal, then force; what it left in its group always by force."""
        child = watched.child
        if child is None:
            return
        signal_group(child.pid, watched.process.stop_signal)
        deadline = time.monotonic() + watched.process.stop_seconds
        while time.monotonic() < deadline and child.poll() is None:
            await asyncio.sleep(0.05)
        signal_group(child.pid, signal.SIGKILL)
        while child.poll() is None:
            await asyncio.sleep(0.02)
        watched.child, watched.state = None, "stopped"

    async def _stop_all(self) -> None:
        """Ends everything, each process after those that depend on it."""
        left = dict(self.watched)
        while left:
            needed = {name for watched in left.values() for name in watched.process.after}
            wave = [watched for name, watched in left.items() if name not in needed]
            await asyncio.gather(*(self._end(watched) for watched in wave))
            for watched in wave:
                del left[watched.process.name]
            self.write_state()

    async def _housekeeping(self) -> None:
        """Writes the state file twice a second and cuts logs that grew too long."""
        while True:
            self.write_state()
            for name in list(self.watched):
                cut_log(self.logs / f"{name}.log")
            await asyncio.sleep(0.5)

    def write_state(self) -> None:
        """Replaces run/stack.json in one step, so that a reader never sees half of it."""
        rows = [watched.to_dict() for watched in self.watched.values()]
        state = {**self.about, "pid": os.getpid(), "written_at": time.time(), "processes": rows}
        draft = self.run / ".stack.json"
        draft.write_text(json.dumps(state))
        draft.replace(self.run / "stack.json")


def _stalled(process: Process, started_at: float) -> bool:
    """A process that never wrote a heartbeat is judged from its start."""
    if process.heartbeat is None:
        return False
    try:
        last = process.heartbeat.stat().st_mtime
    except FileNotFoundError:
        last = started_at + STALLED_S  # twice the time for the first one
    return time.time() - max(last, started_at) > STALLED_S


def cut_log(path: Path) -> None:
    """Moves a log that is too long aside, by copy: its writer keeps the file open for appending."""
    try:
        if path.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)
    except FileNotFoundError:
        pass


def end_leftovers(state_file: Path) -> None:
    """Ends processes of an earlier supervisor that died; a pid that now belongs to another program is left alone."""
    try:
        rows = json.loads(state_file.read_text())["processes"]
    except (FileNotFoundError, ValueError, KeyError):
        return
    for row in rows:
        try:
            same = row["pid"] and abs(psutil.Process(row["pid"]).create_time() - row["started_at"]) < 2
        except psutil.NoSuchProcess:
            continue
        if same:
            _log.warning("leftover_ended name=%s pid=%d", row["name"], row["pid"])
            signal_group(row["pid"], signal.SIGKILL)


def hold_lock(run: Path) -> int | None:
    """Takes the lock of the one supervisor of this home; None if another holds it. Released when the holder dies."""
    run.mkdir(parents=True, exist_ok=True)
    # Not inheritable (the default): a daemon that outlives the supervisor must not keep the lock.
    handle = os.open(run / "stack.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
