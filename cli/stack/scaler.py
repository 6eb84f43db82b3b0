"""Brings the api processes to the wanted count while games go on: the gateway first learns of what is ready, and of what ends.

more:   start ──► ready ──► in the gateway's routes
fewer:  drain (no new sockets; those it has are told to come back) ──► out of the routes ──► stop
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from cli.stack.layout import Layout
from cli.stack.process import Process
from cli.stack.scale import MOST, Policy, Scale, read_scale, write_scale
from cli.stack.supervisor import Supervisor

_log = logging.getLogger("lakeboard.scaler")
LOOK_S = 0.5
SAMPLE_S = 5.0
# Sockets of a draining process are closed over some seconds; a client that hangs does not hold it back for ever.
DRAIN_S = 30.0
# Traefik asks /readyz every second: after two looks it sends a draining process nothing.
UNROUTED_S = 2.5


class Scaler:
    """Runs inside the supervisor. define: an api process by its number; route: writes the gateway's routes over numbers.

    note: keeps the address lists for the routes; True if they are others than before.
    """

    def __init__(
        self,
        layout: Layout,
        define: Callable[[int], Process],
        route: Callable[[list[int]], None],
        note: Callable[[dict[str, list[str]]], bool] = lambda lists: False,
    ) -> None:
        self._layout = layout
        self._define = define
        self._route = route
        self._note = note
        self._policy = Policy()
        self._sampled_at = 0.0
        self._routed: list[int] = []
        # By pid: when it was looked at, and the seconds it had wanted until then.
        self._wanted: dict[int, tuple[float, float]] = {}

    async def run(self, supervisor: Supervisor) -> None:
        """Until cancelled. What fails is logged and tried again: the stack goes on with the processes it has."""
        while True:
            try:
                scale = read_scale(self._layout.run).within()
                await self._reach(supervisor, scale.count)
                if time.monotonic() - self._sampled_at > SAMPLE_S:
                    self._sampled_at = time.monotonic()
                    await self._addresses(supervisor)
                    await self._by_load(supervisor, scale)
            except Exception:
                _log.exception("scaling_failed")
            await asyncio.sleep(LOOK_S)

    async def _reach(self, supervisor: Supervisor, count: int) -> None:
        running = numbers(supervisor)
        for number in range(1, count + 1):
            if number not in running:
                _log.info("scale_up name=api_%d", number)
                supervisor.add(self._define(number))
        surplus = [number for number in running if number > count]
        if surplus and len(ready_numbers(supervisor, count)) < count:
            surplus = []  # those that are to stay are not all there: nobody goes before
        await asyncio.gather(*(self._drain(number) for number in surplus))
        ready = ready_numbers(supervisor, count if surplus else MOST)
        if ready and ready != self._routed:
            self._route(ready)
            self._routed = ready
        for number in surplus:
            await supervisor.remove(f"api_{number}")
            _log.info("scale_down name=api_%d", number)

    async def _drain(self, number: int) -> None:
        """Returns when the process has no sockets and gets no requests, or its time is over."""
        key = {"X-API-Key": self._layout.secrets["importer_key"]}
        began = time.monotonic()
        async with httpx.AsyncClient(headers=key, timeout=5) as http:
            while time.monotonic() - began < DRAIN_S:
                try:
                    reply = await http.post(
                        f"http://127.0.0.1:{self._layout.port(f'api_{number}')}/internal/drain"
                    )
                    left = reply.raise_for_status().json()["sockets"]
                except httpx.HTTPError as error:
                    _log.warning("drain_not_asked name=api_%d error=%r", number, error)
                    return
                if not left and time.monotonic() - began > UNROUTED_S:
                    return
                await asyncio.sleep(0.25)

    async def _by_load(self, supervisor: Supervisor, scale: Scale) -> None:
        """Changes what is wanted, if the policy says so and nobody else has meanwhile."""
        wanted = self._policy.decide(scale, self._shares(supervisor), await self._sockets(supervisor))
        if wanted != scale.count and read_scale(self._layout.run).within() == scale:
            _log.info("scale_by_load from=%d to=%d", scale.count, wanted)
            write_scale(self._layout.run, Scale(wanted, scale.least, scale.most))

    async def _addresses(self, supervisor: Supervisor) -> None:
        """Takes the address lists that admins made to the gateway, as the first process says that answers."""
        key = {"X-API-Key": self._layout.secrets["importer_key"]}
        async with httpx.AsyncClient(headers=key, timeout=2) as http:
            for number in ready_numbers(supervisor, MOST):
                try:
                    port = self._layout.port(f"api_{number}")
                    reply = await http.get(f"http://127.0.0.1:{port}/internal/addresses")
                    lists = reply.raise_for_status().json()
                except httpx.HTTPError as error:
                    _log.warning("addresses_not_known name=api_%d error=%r", number, error)
                    continue
                if self._note(lists) and self._routed:
                    _log.info(
                        "addresses_changed allowed=%d denied=%d", len(lists["allowed"]), len(lists["denied"])
                    )
                    self._route(self._routed)
                return

    def _shares(self, supervisor: Supervisor) -> list[float]:
        """How much of a core each process wanted since the last sample; a new one wanted nothing yet."""
        pids = [supervisor.watched[f"api_{n}"].pid for n in numbers(supervisor)]
        now = {pid: (time.monotonic(), wanted_s(pid)) for pid in pids if pid}
        before, self._wanted = self._wanted, now
        pairs = [(before.get(pid, found), found) for pid, found in now.items()]
        return [(new[1] - old[1]) / max(new[0] - old[0], SAMPLE_S) for old, new in pairs]

    async def _sockets(self, supervisor: Supervisor) -> int:
        """Sockets of all handlers together, as the first process says that answers; 0 if none does: shares decide alone."""
        key = {"X-API-Key": self._layout.secrets["importer_key"]}
        async with httpx.AsyncClient(headers=key, timeout=2) as http:
            for number in ready_numbers(supervisor, MOST):
                try:
                    port = self._layout.port(f"api_{number}")
                    reply = await http.get(f"http://127.0.0.1:{port}/internal/handlers")
                    return sum(handler["sockets"] for handler in reply.raise_for_status().json()["handlers"])
                except httpx.HTTPError as error:
                    _log.warning("sockets_not_known name=api_%d error=%r", number, error)
        return 0


def ready_numbers(supervisor: Supervisor, most: int) -> list[int]:
    """The api processes up to a number that are ready now."""
    return [n for n in numbers(supervisor) if n <= most and supervisor.watched[f"api_{n}"].up.is_set()]


def wanted_s(pid: int) -> float:
    """Seconds that a process' event loop has run or waited to run; where the system does not say, that it has run.

    On a busy machine what a process gets says little: one that would use a whole core may get half of one.
    """
    try:
        ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return (int(ran_ns) + int(waited_ns)) / 1e9
    except (FileNotFoundError, ValueError):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system


def numbers(supervisor: Supervisor) -> list[int]:
    """The api processes that the supervisor keeps, by their numbers."""
    return sorted(int(name[4:]) for name in supervisor.watched if name.startswith("api_"))
