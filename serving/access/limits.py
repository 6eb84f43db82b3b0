"""How often one address may join or open sessions, and one user may ask; said in RateLimit headers.

An address' counts are shared by all api processes, on the shard that the address hashes to (by `limits`, PyPI); while that
shard is away each process counts by itself. A user's are each process' own: what they guard, one process' time, is its own
too. The edge (cli/stack/traefik.py) bounds requests of every kind before they come here.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi import Response
from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection

from contracts import names
from contracts.errors import BadInput, Retryable
from contracts.settings import Settings
from serving.access.roles import identify
from serving.access.tokens import IMPORTER
from serving.access.windows import Windows
from serving.boards.shards import Shards

LOG = logging.getLogger(__name__)
JOINS, OPENINGS, REQUESTS, MESSAGES = "joins", "openings", "requests", "messages"
LOGINS, SIGN_UPS, PASSWORDS, UPLOADS = "logins", "sign_ups", "passwords", "uploads"
# Of an IPv6 address: what a provider gives to one customer.
IPV6_PREFIX = 64
# A shard that counts answers within this, or the process counts alone for a while: joins of all shards pass here.
SHARED_WAIT_S = 0.5
SHARED_AWAY_S = 5.0


class LimitReached(Retryable):
    """429 with the headers that say when to come back."""

    status = 429

    def __init__(self, what: str, headers: dict[str, str]) -> None:
        super().__init__(
            "too_many_requests",
            f"too many {what} from here",
            next_step=f"try again in {headers['Retry-After']} s",
        )
        self.headers = headers


def network_of(address: str) -> str:
    """An address as it is counted: IPv4 whole, IPv6 by its /64; what is no address (a local socket) as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False).network_address)
    return address


def policies_of(settings: Settings) -> dict[str, list[RateLimitItem]]:
    """What each kind of caller may do, from settings like `300/10 seconds;2000/hour`; an empty one bounds nothing.

    Raises BadInput(invalid_field) naming the setting that cannot be read.
    """
    found = {}
    for name in (JOINS, OPENINGS, REQUESTS, MESSAGES, LOGINS, SIGN_UPS, PASSWORDS, UPLOADS):
        text = getattr(settings, f"limit_{name}")
        try:
            found[name] = parse_many(text) if text else []
        except ValueError as error:
            raise BadInput(
                "invalid_field", f"setting limit_{name}: {text!r} is not like '300/10 seconds;2000/hour'"
            ) from error
    return found


class Limits:
    """The counters of one api process. Connects with the first count of an address."""

    def __init__(self, settings: Settings, shards: Shards) -> None:
        self._policies = policies_of(settings)
        self._shards = shards
        self._own = {
            what: [Windows(item.amount, item.get_expiry()) for item in items]
            for what, items in self._policies.items()
        }
        self._shared = [
            SlidingWindowCounterRateLimiter(
                RedisStorage(
                    url,
                    implementation="redispy",
                    key_prefix=names.LIMITS,
                    connection_pool=client.connection_pool,
                )
            )
            for url, client in zip(settings.valkey_urls, shards.clients, strict=True)
        ]
        # Until when (monotonic s) a shard that did not answer is not asked.
        self._away_until = [0.0] * len(self._shared)

    async def count_address(self, what: str, address: str) -> dict[str, str]:
        """Counts one more of `what` for an address: the reply's headers. Raises LimitReached."""
        return await self._count_shared(what, network_of(address))

    async def count_login_name(self, login_name: str) -> dict[str, str]:
        """Counts one more try at a name's password, whoever tries and whether there is such a name. Raises LimitReached."""
        # A digest: what somebody types becomes no part of a key, and the counters hold no names.
        return await self._count_shared(PASSWORDS, hashlib.sha256(login_name.encode()).hexdigest()[:32])

    async def _count_shared(self, what: str, who: str) -> dict[str, str]:
        shard = self._shards.shard_of(who)
        if time.monotonic() >= self._away_until[shard]:
            try:
                async with asyncio.timeout(SHARED_WAIT_S):
                    headers = await self._count(self._shared[shard], what, who)
                # Noted here too: when the shard is away, this process goes on from what it has let in already.
                self._note(what, who)
                return headers
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until[shard] = time.monotonic() + SHARED_AWAY_S
                LOG.warning("limits_alone what=%s error=%r", what, error)
        return self.count_user(what, who)

    def count_user(self, what: str, user_id: str) -> dict[str, str]:
        """Counts one more of `what` for a user, in this process: the reply's headers. Raises LimitReached."""
        now = time.monotonic()
        pairs = zip(self._policies[what], self._own[what], strict=True)
        return _verdict(what, [_Count(item, *windows.hit(user_id, now)) for item, windows in pairs])

    def _note(self, what: str, who: str) -> None:
        now = time.monotonic()
        for windows in self._own[what]:
            windows.hit(who, now)

    def check_user(self, what: str, user_id: str) -> None:
        """Counts one more as `count_user` does, for who needs no headers while all is well. Raises LimitReached."""
        now = time.monotonic()
        found = [windows.hit(user_id, now) for windows in self._own[what]]
        if not all(one[0] for one in found):
            items = zip(self._policies[what], found, strict=True)
            _verdict(what, [_Count(item, *one) for item, one in items])

    async def _count(self, counter: SlidingWindowCounterRateLimiter, what: str, who: str) -> dict[str, str]:
        counts = []
        for item in self._policies[what]:
            taken = await counter.hit(item, what, who)
            stats = await counter.get_window_stats(item, what, who)
            counts.append(_Count(item, taken, stats.remaining, stats.reset_time - time.time()))
            if not taken:
                break
        return _verdict(what, counts)


class _Count(NamedTuple):
    """One policy after one more: whether it holds, what is left of it, and for how long."""

    item: RateLimitItem
    taken: bool
    remaining: int
    left_s: float


def _verdict(what: str, counts: Sequence[_Count]) -> dict[str, str]:
    """The headers of draft-ietf-httpapi-ratelimit-headers: the policy that is nearest to its bound, and what is left of it.

    Raises LimitReached if one is passed.
    """
    if not counts:
        return {}
    nearest = min(counts, key=lambda count: (count.taken, count.remaining))
    wait_s = max(1, math.ceil(nearest.left_s))
    headers = {
        "RateLimit-Policy": f'"{what}";q={nearest.item.amount};w={nearest.item.get_expiry()}',
        "RateLimit": f'"{what}";r={nearest.remaining};t={wait_s}',
    }
    if not nearest.taken:
        raise LimitReached(what, {**headers, "Retry-After": str(wait_s)})
    return headers


class AddressLimit:
    """A FastAPI dependency: one more of `what` from this address. Who sends the importer's key is not counted: load tests do."""

    def __init__(self, what: str) -> None:
        self.what = what

    async def __call__(self, connection: HTTPConnection, response: Response) -> None:
        if "x-api-key" in connection.headers and (await identify(connection)).role == IMPORTER:
            return
        client = connection.client
        limits: Limits = connection.app.state.limits
        response.headers.update(await limits.count_address(self.what, client.host if client else ""))


class UserLimit:
    """A FastAPI dependency: one more of `what` of this token's user."""

    def __init__(self, what: str = REQUESTS) -> None:
        self.what = what

    async def __call__(self, connection: HTTPConnection, response: Response) -> None:
        identity = await identify(connection)
        if identity.role != IMPORTER:
            limits: Limits = connection.app.state.limits
            response.headers.update(limits.count_user(self.what, identity.user_id))


def headers_of(error: Any) -> dict[str, str] | None:
    """The headers that an error brings for its HTTP reply."""
    return error.headers if isinstance(error, LimitReached) else None
