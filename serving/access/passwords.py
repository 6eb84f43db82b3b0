"""Passwords as argon2id hashes, made and compared on threads of their own: the event loop has games to serve.

The library releases the interpreter while it works. Its threads are few, have a low priority (on Linux a thread has its
own) and take turns; when too many wait, the next is told to come back instead of growing the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from contracts.errors import BadInput, Retryable

# OWASP's least (Password Storage Cheat Sheet, 2025): 19 MiB, two passes, one lane. More costs each log-in its time on
# machines that play at once; less is cheaper to guess.
HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
LEAST_LENGTH, MOST_LENGTH = 10, 128
# Fewer than this many different characters is "aaaaaaaaaa" or "1212121212".
LEAST_DIFFERENT = 5
# About two seconds of work for one thread, the longest that somebody at a form should wait.
MOST_WAITING = 80
# Behind play, before what runs at 19.
NICENESS = 10
Result = TypeVar("Result")


def normal(password: str) -> str:
    """The form in which a password is hashed: NFKC, so that keyboards agree."""
    return unicodedata.normalize("NFKC", password)


def checked_password(password: str, login_name: str = "") -> str:
    """A new password as it is hashed. Raises BadInput(weak_password)."""
    found = normal(password)
    if not LEAST_LENGTH <= len(found) <= MOST_LENGTH:
        raise BadInput("weak_password", f"password: it takes {LEAST_LENGTH} to {MOST_LENGTH} characters")
    if len(set(found)) < LEAST_DIFFERENT:
        raise BadInput("weak_password", f"password: it takes at least {LEAST_DIFFERENT} different characters")
    if login_name and found.casefold() in (login_name, login_name * 2):
        raise BadInput("weak_password", "password: it must not be the log-in name")
    return found


def _step_back() -> None:
    with contextlib.suppress(OSError, AttributeError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Passwords:
    """One process' threads for hashing."""

    def __init__(self, threads: int = 0, most_waiting: int = MOST_WAITING) -> None:
        """threads: 0 for half of the processors."""
        self._threads = ThreadPoolExecutor(
            threads or max(1, (os.cpu_count() or 2) // 2), "argon2", initializer=_step_back
        )
        self._most_waiting = most_waiting
        self._waiting = 0
        # What a password is compared with where there is none: an unknown name takes as long as a known one.
        self._nobodys = HASHER.hash(os.urandom(16))

    async def hash(self, password: str) -> str:
        """The hash of a checked password. Raises Retryable(overloaded)."""
        return await self._run(partial(HASHER.hash, password))

    async def matches(self, kept: str | None, password: str) -> bool:
        """Whether a password is the one that was hashed; False, after the same work, where none was. Raises Retryable."""
        given = normal(password)[:MOST_LENGTH]
        fits = await self._run(partial(_verify, kept or self._nobodys, given))
        return fits and kept is not None

    async def _run(self, work: partial[Result]) -> Result:
        if self._waiting >= self._most_waiting:
            raise Retryable("overloaded", "too many people log in at once", next_step="try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """Lets the threads go; who waits is not served any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _verify(kept: str, password: str) -> bool:
    try:
        return HASHER.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def is_old(kept: str) -> bool:
    """Whether a hash was made with other parameters than today's, so that it is to be made again."""
    return HASHER.check_needs_rehash(kept)
