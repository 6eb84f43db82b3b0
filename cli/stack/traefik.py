"""Traefik: the one door. Balances over the api processes that say they are ready.

Only its web entry point may listen beyond loopback, and only with `--lan`. It bounds every address' requests, before the
application counts joins and users (serving/access/limits.py), and takes only the networks that a setting names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.stack.layout import Layout, chosen_settings
from cli.stack.process import Process, http_ok
from cli.stack.scale import read_scale

# Whatever networks are allowed: the stack's own commands come through the door too.
THIS_MACHINE = ("127.0.0.1/32", "::1/128")
# A network that nobody is in (RFC 5737), for a list that allows nobody.
NOBODY = "192.0.2.255/32"
# Before every other router, whatever the length of its rule.
FIRST = 1_000_000
# Requests a second of one address, and at once: two hundred phones behind one address that all load the page, join and
# connect within ten seconds are about 600 a second.
ADDRESS_RATE, ADDRESS_BURST = 1_000, 3_000
# For a whole request, 8 MB of an import among them; who sends a byte now and then holds no connection for longer. A socket
# lives for hours: for it the time ends with its handshake.
READ_TIMEOUT_S = 20
# Processes that one request is tried on, where they take no connection.
TRIES = 3


def static_with(
    web: str, inner: str, routes: Path, read_timeout_s: int = READ_TIMEOUT_S, proxies: Sequence[str] = ()
) -> dict[str, Any]:
    """What Traefik reads once. web, inner: the addresses of everybody's door and of its own figures.

    proxies: networks of those before it whose X-Forwarded-For it believes; from others it throws the header away.
    """
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {
                "address": web,
                **({"forwardedHeaders": {"trustedIPs": list(proxies)}} if proxies else {}),
                "transport": {
                    "respondingTimeouts": {"readTimeout": f"{read_timeout_s}s", "idleTimeout": "180s"}
                },
            },
            "traefik": {"address": inner},
        },
        "api": {"dashboard": False},
        "ping": {"entryPoint": "traefik"},
        "metrics": {"prometheus": {"entryPoint": "traefik"}},
        "providers": {"file": {"filename": str(routes), "watch": True}},
        "log": {"level": "WARN"},
    }


def _middlewares(
    allowed_networks: Sequence[str], always: Sequence[str], rate: int, burst: int, proxies: Sequence[str]
) -> dict[str, Any]:
    """What every request passes, first one first."""
    # Whose request it is: who connects, or behind proxies the last address that is none of theirs.
    address = {"ipStrategy": {"excludedIPs": list(proxies)} if proxies else {"depth": 0}}
    found: dict[str, Any] = {}
    if allowed_networks:
        found["networks"] = {"ipAllowList": {"sourceRange": [*allowed_networks, *always], **address}}
    found["rate"] = {
        "rateLimit": {
            "average": rate,
            "burst": burst,
            "period": "1s",
            "sourceCriterion": address,
        }
    }
    # A process that has just died is found out by who is sent to it: another one takes the request, of which nothing
    # was sent yet. Last, so that it counts once.
    found["another"] = {"retry": {"attempts": TRIES, "initialInterval": "10ms"}}
    return found


def routes_over(ports: Sequence[int], **passed: Any) -> dict[str, Any]:
    """`routes_to` the api processes on these ports of this machine."""
    return routes_to({f"api-{port}": f"http://127.0.0.1:{port}" for port in ports}, **passed)


def routes_to(
    servers: Mapping[str, str],
    allowed_networks: Sequence[str] = (),
    always: Sequence[str] = THIS_MACHINE,
    rate: int = ADDRESS_RATE,
    burst: int = ADDRESS_BURST,
    proxies: Sequence[str] = (),
    denied_networks: Sequence[str] = (),
) -> dict[str, Any]:
    """Routes to api processes (name → URL): balanced over all, and a socket to the one that placement names.

    A named process that is not ready (it drains, or is gone) answers 503 here; a client then asks placement again.
    """
    passed = _middlewares(allowed_networks, always, rate, burst, proxies)
    check = {"path": "/readyz", "interval": "1s", "timeout": "900ms"}

    def service(*urls: str) -> dict[str, Any]:
        servers = [{"url": url} for url in urls]
        return {"loadBalancer": {"servers": servers, "healthCheck": check, "serversTransport": "near"}}

    placed = {
        name: {
            "rule": f"Path(`/v1/live`) && Query(`handler`, `{name}`)",
            "entryPoints": ["web"],
            "service": name,
            "middlewares": list(passed),
        }
        for name in servers
    }
    everything = {
        # Internal routes and metrics are for this machine only, whatever the network.
        "rule": "ClientIP(`127.0.0.1/32`) || !(PathPrefix(`/internal`) || PathPrefix(`/metrics`))",
        "entryPoints": ["web"],
        "service": "api",
        "middlewares": list(passed),
        # Traefik takes longer rules first; a placed socket's must win whatever their lengths.
        "priority": 1,
    }
    refused: dict[str, Any] = {}
    if denied_networks:
        # A router of its own that lets nobody through: the gateway's lists of addresses only allow. Behind proxies it sees
        # theirs; there the api alone refuses.
        passed["nobody"] = {"ipAllowList": {"sourceRange": [NOBODY]}}
        refused["denied"] = {
            "rule": f"({_any_of(denied_networks)})" + (f" && !({_any_of(always)})" if always else ""),
            "entryPoints": ["web"],
            "service": "api",
            "middlewares": ["nobody"],
            "priority": FIRST,
        }
    return {
        "http": {
            # The processes are on this machine or its network: one that takes no connection within this is gone.
            "serversTransports": {"near": {"forwardingTimeouts": {"dialTimeout": "1s"}}},
            "middlewares": passed,
            "routers": {**placed, **refused, "all": everything},
            "services": {
                "api": service(*servers.values()),
                **{name: service(url) for name, url in servers.items()},
            },
        }
    }


def _any_of(networks: Sequence[str]) -> str:
    return " || ".join(f"ClientIP(`{network}`)" for network in networks)


def addresses_file(layout: Layout) -> Path:
    """Where the api's address lists were written last: they hold from the gateway's start, before an api says them."""
    return layout.run / "traefik" / "addresses.json"


def read_addresses(layout: Layout) -> dict[str, list[str]]:
    """The lists that were written last: `allowed`, `denied`; the settings' own before any were."""
    try:
        found: dict[str, list[str]] = json.loads(addresses_file(layout).read_text())
        return found
    except (FileNotFoundError, ValueError):
        return {"allowed": list(chosen_settings().allowed_networks), "denied": []}


def write_addresses(layout: Layout, lists: dict[str, list[str]]) -> bool:
    """Notes the lists that an api said; False if they are the ones that are there."""
    file, text = addresses_file(layout), json.dumps(lists)
    if file.exists() and file.read_text() == text:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)
    return True


def write_routes(layout: Layout, numbers: Sequence[int]) -> None:
    """Routes to the api processes of these numbers; Traefik reads the file again when it changes."""
    lists = read_addresses(layout)
    found = routes_over(
        [layout.port(f"api_{number}") for number in numbers],
        allowed_networks=lists["allowed"],
        denied_networks=lists["denied"],
    )
    replace_routes(routes_file(layout), found)


def replace_routes(file: Path, routes: Mapping[str, Any]) -> None:
    """Writes the routes in one step, if they are not what the file already says."""
    text = json.dumps(routes, indent=1)  # JSON is YAML
    if not file.exists() or file.read_text() != text:
        draft = file.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(file)


def routes_file(layout: Layout) -> Path:
    """Where the gateway's routes are written."""
    return layout.run / "traefik" / "routes.yml"


def traefik(layout: Layout, lan: bool, after: tuple[str, ...]) -> Process:
    """Defines the gateway; its configuration is written anew before each start."""
    folder = layout.run / "traefik"
    static, routes = folder / "traefik.yml", routes_file(layout)

    def write_configuration() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_routes(layout, list(range(1, read_scale(layout.run).count + 1)))
        host = "0.0.0.0" if lan else "127.0.0.1"
        web, inner = f"{host}:{layout.port('web')}", f"127.0.0.1:{layout.port('traefik')}"
        static.write_text(json.dumps(static_with(web, inner, routes), indent=1))

    program = Path(sys.prefix) / "bin" / "traefik"
    return Process(
        name="traefik",
        command=(str(program), "--configFile", str(static)),
        folder=folder,
        port=layout.port("web"),
        after=after,
        prepare=write_configuration,
        ready=lambda: http_ok(f"http://127.0.0.1:{layout.port('traefik')}/ping"),
    )
