"""Who may come in by address: allow and deny lists of the settings and of admins, asked before anything else.

A denied network is refused whatever else allows it; where any network is allowed, others are refused. The same lists go
to the gateway (cli/stack/scaler.py asks `/internal/addresses`), which refuses what never needs to come here; this side
holds where there is another gateway. The address is the socket's, or what a trusted proxy says (setting
`trusted_proxies`, uvicorn reads it): never what a client says of itself.

Changes count on the process that made them at once, on others after `READ_EVERY_S`. While Postgres is away the lists
stay as they were.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import dataclass
from typing import Any

import psycopg
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.errors import BadInput, LakeboardError
from serving.connections import Connections
from serving.problems import reply

LOG = logging.getLogger(__name__)
READ_EVERY_S = 5.0
# The gateway's rule names each of them; more is a firewall's work.
MOST_RULES = 200
# Verdicts remembered a process: an attacker with many addresses only makes it forget.
REMEMBERED = 50_000
ALLOW, DENY = "allow", "deny"
# The stack's own commands: whoever is on this machine is past any list.
THIS_MACHINE = ("127.0.0.0/8", "::1/128")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_from(text: str) -> str:
    """A network or one address in the form in which it is kept. Raises BadInput(invalid_field)."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError as error:
        raise BadInput("invalid_field", f"network: {text[:60]!r} is none, such as 192.0.2.0/24") from error


@dataclass(frozen=True, slots=True)
class Lists:
    """Networks as text, in order: what is allowed (nothing: everything is) and what is denied."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether an address may come in; what is no address (a local socket) may. Pure."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return True
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        if _within(found, THIS_MACHINE):
            return True
        return not _within(found, self.denied) and (not self.allowed or _within(found, self.allowed))


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[str, ...]) -> bool:
    found: list[_Network] = [ipaddress.ip_network(one) for one in networks]
    return any(one.version == address.version and address in one for one in found)


class Addresses:
    """One process' copy of the lists."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._settings = tuple(network_from(one) for one in connections.settings.allowed_networks)
        self.lists = Lists(self._settings)
        self._verdicts: dict[str, bool] = {}

    def allows(self, address: str) -> bool:
        """Whether an address may come in, as the lists are now."""
        known = self._verdicts.get(address)
        if known is None:
            if len(self._verdicts) >= REMEMBERED:
                self._verdicts.clear()
            known = self._verdicts[address] = self.lists.allows(address)
        return known

    def take(self, rules: list[dict[str, Any]]) -> None:
        """Uses these rules from now on."""
        lists = self.with_rules(rules)
        if lists != self.lists:
            LOG.info("address_lists allowed=%d denied=%d", len(lists.allowed), len(lists.denied))
            self.lists, self._verdicts = lists, {}

    def with_rules(self, rules: list[dict[str, Any]]) -> Lists:
        """The lists of the settings and of these rules."""
        by_verdict = {
            verdict: tuple(rule["network"] for rule in rules if rule["verdict"] == verdict)
            for verdict in (ALLOW, DENY)
        }
        return Lists((*self._settings, *by_verdict[ALLOW]), by_verdict[DENY])

    async def keep_reading(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with self._connections.sql() as sql:
                    self.take(await rules_of(sql))
            except (LakeboardError, psycopg.Error):
                pass  # away, or its tables are not made yet: the lists stay
            await asyncio.sleep(READ_EVERY_S)


async def rules_of(sql: psycopg.AsyncConnection) -> list[dict[str, Any]]:
    """Admins' rules, by network."""
    found = await sql.execute(
        "select network::text, verdict, note, created_at, created_by from address_rules order by network"
    )
    columns = ("network", "verdict", "note", "created_at", "created_by")
    return [dict(zip(columns, row, strict=True)) for row in await found.fetchall()]


class AddressGate:
    """The first layer of the application: refuses addresses that may not come in, sockets before their handshake."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            addresses = getattr(scope["app"].state, "addresses", None) if "app" in scope else None
            client = scope.get("client")
            if addresses is not None and client and not addresses.allows(client[0]):
                if scope["type"] == "websocket":
                    await receive()
                    await send({"type": "websocket.close", "code": 1008})
                    return
                error = BadInput("address_refused", "your address may not come in here", status=403)
                await reply(error, scope["path"], {"Connection": "close"})(scope, receive, send)
                return
        await self.app(scope, receive, send)
