"""`fresh=true`: what Kafka has is ingested before a board is summed, by the deployment's own command (CONTRACTS D5)."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal

from contracts.errors import BadInput, Retryable, SystemMissing
from serving.next_run import NextRun

LOG = logging.getLogger(__name__)
# Two cores take 40 s for a small batch; a caller who waits longer should be told.
LIMIT_S = 600.0


class Ingest:
    """Runs `command` (a shell-like line, no shell) for those who ask, one run at a time in this process.

    Who comes while it runs waits for the next run: the one under way began before the answers that they want to see.
    Several processes are put in order by ingest's own lock. An empty command: this deployment ingests by schedule alone.
    """

    def __init__(self, command: str, limit_s: float = LIMIT_S) -> None:
        self._command = shlex.split(command)
        self._limit_s = limit_s
        self._runs = NextRun(self._run)

    async def done(self) -> None:
        """Returns when a run that began after this call has ended well; goes on for others if its caller goes.

        Raises BadInput(invalid_field) where there is no command, Retryable(overloaded, system_missing) if the run fails or
        takes too long.
        """
        if not self._command:
            raise BadInput(
                "invalid_field",
                "fresh: this deployment has no ingest_command; its lake is as fresh as its schedule",
                next_step="./lakeboard board … --fresh",
            )
        await self._runs.done()

    async def end(self) -> None:
        """Ends a run that is under way: a batch that was cut is read again by the next ingest."""
        await self._runs.end()

    async def _run(self) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SystemMissing(
                "system_missing",
                f"fresh: ingest_command cannot be run: {error}",
                next_step="mend the setting",
            ) from error
        try:
            code = await asyncio.wait_for(child.wait(), self._limit_s)
        except TimeoutError:
            raise Retryable("overloaded", f"ingest did not end within {self._limit_s:g} s") from None
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        if code:
            LOG.error("ingest_failed exit=%d", code)
            kind, name = (SystemMissing, "system_missing") if code == 3 else (Retryable, "overloaded")
            raise kind(name, f"ingest ended with exit {code}", next_step="see the api's log")
