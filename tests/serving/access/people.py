"""People of tests: who signs up, who is made admin by the command, who plays as a guest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from contracts.settings import Settings
from tests.serving.api_process import ROOT, ApiProcess

PASSWORD = "rope tin lake 7"
COOKIE = "lakeboard_refresh"


@dataclass
class Person:
    """Somebody with a browser: `client` keeps the cookie, `token` is what the page has in memory."""

    api: ApiProcess
    login_name: str
    client: httpx.Client
    user_id: str = ""
    token: str = ""
    roles: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def refresh(self) -> str:
        return self.client.cookies.get(COOKIE) or ""

    def take(self, reply: httpx.Response) -> httpx.Response:
        """Remembers what a log-in gave."""
        assert reply.status_code in (200, 201), reply.text
        found = reply.json()
        self.token, self.user_id, self.roles = found["access_token"], found["user_id"], found["roles"]
        return reply

    def log_in(self, password: str = PASSWORD) -> httpx.Response:
        body = {"login_name": self.login_name, "password": password}
        return self.client.post("/v1/auth/log-in", json=body)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """With the access token."""
        headers = {**self.headers, **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)


def somebody(api: ApiProcess, login_name: str = "") -> Person:
    """A browser that has not logged in; without a name, one that nobody has."""
    return Person(api, login_name or f"p{uuid.uuid4().hex[:12]}", httpx.Client(base_url=api.url, timeout=60))


def signed_up(api: ApiProcess, name: str = "Ada", guest: str = "") -> Person:
    """Somebody who has made an account; guest: the token of a seat."""
    person = somebody(api)
    headers = {"Authorization": f"Bearer {guest}"} if guest else {}
    body = {"login_name": person.login_name, "password": PASSWORD, "name": name}
    person.take(person.client.post("/v1/auth/sign-up", json=body, headers=headers))
    return person


def command(api: ApiProcess, *arguments: str) -> Any:
    """`./lakeboard user …` on an api's database: its JSON."""
    env = {**os.environ, **Settings(**api.settings).to_env()}
    done = subprocess.run(
        [sys.executable, "-m", "serving.access.command", *arguments, "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def made(api: ApiProcess, *roles: str) -> Person:
    """Somebody made by the command, who has set the password with the ticket and is logged in."""
    person = somebody(api)
    found = command(api, "add", person.login_name, *[f"--role={role}" for role in roles])
    body = {"ticket": found["ticket"], "password": PASSWORD}
    person.take(person.client.post("/v1/auth/ticket", json=body))
    assert found["user_id"] == person.user_id
    return person


def opened(api: ApiProcess, **headers: str) -> dict[str, Any]:
    """A session of the first starter quiz."""
    reply = httpx.post(f"{api.url}/v1/sessions", json={"quiz_id": "starter-a1"}, headers=headers, timeout=60)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def seated(api: ApiProcess, pin: str, name: str = "Guest", **headers: str) -> dict[str, Any]:
    """A player in a session."""
    body = {"pin": pin, "name": name}
    reply = httpx.post(f"{api.url}/v1/join", json=body, headers=headers, timeout=60)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())
