"""The running stack's HTTP doors: asked with the importer key, refusals turned into this program's errors.

LAKEBOARD_API_URL names a stack that is not this machine's own (containers, another host), LAKEBOARD_SECRETS_DIR then the
folder with its `importer_key`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from cli.stack.layout import Layout, layout_from
from contracts.errors import BadInput, SystemMissing


def layout() -> Layout:
    """The stack that the environment variables name."""
    return layout_from(os.environ)


def client(place: Layout, lane: int = 0) -> httpx.Client:
    """A client of an api process, with the importer key; lanes take the processes in turn. Raises SystemMissing: no key."""
    elsewhere = os.environ.get("LAKEBOARD_API_URL")
    if elsewhere:
        url, key = elsewhere, _key_in(Path(os.environ.get("LAKEBOARD_SECRETS_DIR") or "."))
    else:
        ports = place.settings("live").api_ports
        url, key = f"http://127.0.0.1:{ports[lane % len(ports)]}", place.secrets["importer_key"]
    return httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60)


def _key_in(folder: Path) -> str:
    try:
        return (folder / "importer_key").read_text().strip()
    except OSError as error:
        raise SystemMissing(
            "system_missing",
            f"the importer key of LAKEBOARD_API_URL cannot be read: {error}",
            next_step="set LAKEBOARD_SECRETS_DIR to the folder that holds importer_key",
        ) from error


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
