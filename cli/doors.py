"""The running stack's HTTP doors: asked with the importer key, refusals turned into this program's errors."""

from __future__ import annotations

import os
from typing import Any

import httpx

from cli.stack.layout import Layout, layout_from
from contracts.errors import BadInput, SystemMissing


def layout() -> Layout:
    """The stack that the environment variables name."""
    return layout_from(os.environ)


def client(place: Layout, lane: int = 0) -> httpx.Client:
    """A client of an api process, with the importer key; lanes take the processes in turn."""
    ports = place.settings("live").api_ports
    return httpx.Client(
        base_url=f"http://127.0.0.1:{ports[lane % len(ports)]}",
        headers={"X-API-Key": place.secrets["importer_key"]},
        timeout=60,
    )


def ask(http: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """The reply's JSON. Raises BadInput for a refusal, SystemMissing if nobody answers."""
    try:
        reply = http.request(method, path, **options)
    except httpx.TransportError as error:
        raise SystemMissing(
            "system_missing",
            f"the api at {http.base_url} does not answer: {error}",
            next_step="./lakeboard up",
        ) from error
    if reply.is_success:
        return reply.json()
    try:
        problem = reply.json()
    except ValueError:
        problem = {}
    code, detail = problem.get("code", f"http_{reply.status_code}"), problem.get("detail", reply.text[:200])
    if reply.status_code >= 500:
        raise SystemMissing(
            "system_missing", f"{code}: {detail}", next_step=problem.get("next_step") or "./lakeboard status"
        )
    raise BadInput(code, detail, next_step=problem.get("next_step") or "")
