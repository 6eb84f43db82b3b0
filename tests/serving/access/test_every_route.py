"""Who may call what, decided here for every route: one that is new and not decided fails, and each is tried by everybody."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serving.access.roles import table
from serving.access.tokens import ROLES
from serving.api import create_app
from tests.serving.access.people import made, opened, seated, signed_up
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

EVERYBODY_WITH = ", ".join(sorted(ROLES))
ANYONE, HOSTS, PLAYERS, IN_GAME, IMPORTERS = "anyone", "host", "player", "host, player", "importer"
# An account or a key of one; somebody who has logged in; an admin who has.
HOSTS_WITH_ACCOUNT = "host (account)"
ACCOUNTS, PERSONS, ADMINS = f"{EVERYBODY_WITH} (account)", f"{EVERYBODY_WITH} (person)", "admin (person)"
AUTHORS = "host (account)"
# A line for every route. A new one belongs here with a decision; what outlives a session takes `require_account`.
DECIDED = {
    "GET /": ANYONE,
    "GET /healthz": ANYONE,
    "GET /media/{folder}/{name}": ANYONE,
    "GET /metrics": ANYONE,
    "GET /readyz": ANYONE,
    "GET /static/{name}": ANYONE,
    "GET /internal/addresses": IMPORTERS,
    "POST /internal/barriers": IMPORTERS,
    "POST /internal/drain": IMPORTERS,
    "GET /internal/handlers": IMPORTERS,
    "DELETE /v1/admin/addresses": ADMINS,
    "GET /v1/admin/addresses": ADMINS,
    "PUT /v1/admin/addresses": ADMINS,
    "GET /v1/admin/audit": ADMINS,
    "GET /v1/admin/health": ADMINS,
    "GET /v1/admin/keys": ADMINS,
    "DELETE /v1/admin/keys/{key_id}": ADMINS,
    "GET /v1/admin/users": ADMINS,
    "POST /v1/admin/users": ADMINS,
    "POST /v1/admin/users/{user_id}/block": ADMINS,
    "PUT /v1/admin/users/{user_id}/roles": ADMINS,
    "POST /v1/admin/users/{user_id}/ticket": ADMINS,
    "POST /v1/admin/users/{user_id}/unblock": ADMINS,
    "GET /v1/approx/elapsed_ms": ANYONE,
    "GET /v1/approx/points": ANYONE,
    "GET /v1/approx/heaviest/{subject}": ANYONE,
    "GET /v1/approx/misses/{subject}/{id}": ANYONE,
    "GET /v1/approx/misses/question/{quiz_id}/{question_id}": ANYONE,
    "GET /v1/approx/participants": ANYONE,
    "POST /v1/auth/log-in": ANYONE,
    "POST /v1/auth/log-out": ANYONE,
    "POST /v1/auth/log-out-everywhere": PERSONS,
    "POST /v1/auth/password": PERSONS,
    "POST /v1/auth/refresh": ANYONE,
    "POST /v1/auth/sign-up": ANYONE,
    "POST /v1/auth/ticket": ANYONE,
    # Whose class it is, and who is in it, the routes look at themselves.
    "GET /v1/classes": ACCOUNTS,
    "POST /v1/classes": HOSTS_WITH_ACCOUNT,
    "POST /v1/classes/join": ACCOUNTS,
    "GET /v1/classes/{class_id}": ACCOUNTS,
    "POST /v1/classes/{class_id}/close": ACCOUNTS,
    "POST /v1/classes/{class_id}/code": ACCOUNTS,
    "POST /v1/classes/{class_id}/leave": ACCOUNTS,
    "POST /v1/classes/{class_id}/members/{user_id}/readmit": ACCOUNTS,
    "POST /v1/classes/{class_id}/members/{user_id}/remove": ACCOUNTS,
    # Whose course it is, and whose figures, the routes look at themselves.
    "GET /v1/courses": ANYONE,
    "POST /v1/courses": AUTHORS,
    "GET /v1/courses/{course_id}": ANYONE,
    "PUT /v1/courses/{course_id}": AUTHORS,
    "POST /v1/courses/{course_id}/archive": AUTHORS,
    "GET /v1/courses/{course_id}/days": ACCOUNTS,
    "POST /v1/courses/{course_id}/enrol": ACCOUNTS,
    "POST /v1/courses/{course_id}/leave": ACCOUNTS,
    "POST /v1/courses/{course_id}/restore": AUTHORS,
    "POST /v1/import/answers": IMPORTERS,
    "POST /v1/import/boards_since": IMPORTERS,
    # What is played, as windows say it; of the pipeline only how far behind it is: sizes and memory are in /metrics.
    "GET /v1/insights/hardest": ANYONE,
    "GET /v1/insights/hot": ANYONE,
    "GET /v1/insights/pipeline": ANYONE,
    "GET /v1/insights/trending": ANYONE,
    "POST /v1/join": ANYONE,
    "GET /v1/leaderboards/{scope}": ANYONE,
    "GET /v1/leaderboards/{scope}/{period}/{start}": ANYONE,
    "SOCKET /v1/live": ANYONE,  # the token is in the address: serving/live/sockets.py
    "GET /v1/me": ACCOUNTS,
    "PUT /v1/me": PERSONS,
    "PUT /v1/me/avatar": PERSONS,
    "DELETE /v1/me/avatar": PERSONS,
    "POST /v1/me/delete": PERSONS,
    "GET /v1/me/export": PERSONS,
    "GET /v1/me/keys": ACCOUNTS,
    "POST /v1/me/keys": PERSONS,
    "DELETE /v1/me/keys/{key_id}": PERSONS,
    "GET /v1/class-codes/{code}/qr.svg": ANYONE,
    "GET /v1/pins/{pin}/qr.svg": ANYONE,
    "GET /v1/quizzes": ANYONE,
    "POST /v1/quizzes": AUTHORS,
    "POST /v1/media": AUTHORS,
    "POST /v1/quizzes/import": AUTHORS,
    "GET /v1/quizzes/{quiz_id}/draft.csv": AUTHORS,
    "DELETE /v1/quizzes/{quiz_id}": AUTHORS,
    "GET /v1/quizzes/{quiz_id}": ANYONE,
    "POST /v1/quizzes/{quiz_id}/archive": AUTHORS,
    "GET /v1/quizzes/{quiz_id}/draft": AUTHORS,
    "PUT /v1/quizzes/{quiz_id}/draft": AUTHORS,
    "POST /v1/quizzes/{quiz_id}/publish": AUTHORS,
    "POST /v1/quizzes/{quiz_id}/restore": AUTHORS,
    "GET /v1/quizzes/{quiz_id}/versions": AUTHORS,
    "GET /v1/quizzes/{quiz_id}/versions/{version}": AUTHORS,
    "PUT /v1/quizzes/{quiz_id}/visibility": AUTHORS,
    "POST /v1/sessions": ANYONE,
    "GET /v1/sessions/{session_id}": ANYONE,
    "POST /v1/sessions/{session_id}/advance": HOSTS,
    "POST /v1/sessions/{session_id}/answers": PLAYERS,
    "POST /v1/sessions/{session_id}/close": HOSTS,
    "POST /v1/sessions/{session_id}/end": HOSTS,
    "GET /v1/sessions/{session_id}/handler": IN_GAME,
    "POST /v1/sessions/{session_id}/join": ANYONE,
    "POST /v1/sessions/{session_id}/lock": HOSTS,
    "POST /v1/sessions/{session_id}/next": HOSTS,
    "POST /v1/sessions/{session_id}/own/next": PLAYERS,
    "POST /v1/sessions/{session_id}/pause": HOSTS,
    "GET /v1/sessions/{session_id}/players": HOSTS,
    "POST /v1/sessions/{session_id}/players/{user_id}/readmit": HOSTS,
    "POST /v1/sessions/{session_id}/players/{user_id}/remove": HOSTS,
    "GET /v1/sessions/{session_id}/report": HOSTS,
    "POST /v1/sessions/{session_id}/resume": HOSTS,
    "GET /v1/sessions/{session_id}/review": IN_GAME,
    "POST /v1/sessions/{session_id}/seat": ACCOUNTS,
    "POST /v1/sessions/{session_id}/skip": HOSTS,
    "POST /v1/sessions/{session_id}/standings": HOSTS,
    "POST /v1/sessions/{session_id}/unlock": HOSTS,
    "GET /v1/settlements": ANYONE,
    "GET /v1/settlements/{settlement}": ANYONE,
    "GET /v1/users/{user_id}": ANYONE,
    "GET /v1/users/{user_id}/history": EVERYBODY_WITH,
    "GET /v1/users/{user_id}/ranks": ANYONE,
    "GET /v1/users/{user_id}/sessions": EVERYBODY_WITH,
    "GET /v1/users/{user_id}/sessions/{session_id}": EVERYBODY_WITH,
    "GET /v1/windows/{kind}": ANYONE,
}
# Tried by those alone who may not: they would end the api's sockets or the caller's own log-in or account.
NOT_DONE = {"POST /internal/drain", "POST /v1/auth/log-out-everywhere", "POST /v1/me/delete"}


@pytest.mark.unit
def test_every_route_is_decided() -> None:
    found = {f"{method} {path}": roles for method, path, roles in table(create_app({}))}
    assert sorted(found.keys() - DECIDED.keys()) == [], "decide who may call these, in DECIDED"
    assert sorted(DECIDED.keys() - found.keys()) == [], "these are gone"
    assert {name: roles for name, roles in found.items() if roles != DECIDED[name]} == {}


def may(caller: dict[str, Any], decided: str) -> bool:
    """Whether a decision lets a caller pass."""
    if decided == ANYONE:
        return True
    names, _, kind = decided.removesuffix(")").partition(" (")
    kinds = {"account": ("access", "key"), "person": ("access",)}.get(
        kind, ("seat", "access", "key", "deployment")
    )
    return caller["kind"] in kinds and bool(set(caller["roles"]) & set(names.split(", ")))


@pytest.fixture(scope="module")
def callers(api: ApiProcess) -> dict[str, dict[str, Any]]:
    """Everybody: what they are, and their headers."""
    session = opened(api)
    guest, importer = seated(api, session["pin"]), made(api, "importer")
    key = importer.ask("POST", "/v1/me/keys", json={"name": "n", "scopes": ["importer"]}).json()["key"]

    def caller(kind: str, *roles: str, **headers: str) -> dict[str, Any]:
        return {"kind": kind, "roles": roles, "headers": headers}

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    found = {
        "nobody": caller("nobody"),
        "guest": caller("seat", "player", **bearer(guest["token"])),
        "guest who hosts": caller("seat", "host", **bearer(session["token"])),
        "key": caller("key", "importer", **{"X-API-Key": key}),
        "deployment": caller("deployment", "importer", **{"X-API-Key": IMPORTER_KEY}),
        "importer": caller("access", "player", "importer", **importer.headers),
        "signed up": caller("access", "player", "host", **signed_up(api).headers),
    }
    for role in ("analyst", "admin"):
        found[role] = caller("access", "player", role, **made(api, role).headers)
    return found


@pytest.mark.service
@pytest.mark.parametrize(
    "who",
    ["nobody", "guest", "guest who hosts", "key", "deployment", "importer", "signed up", "analyst", "admin"],
)
def test_every_route_lets_in_whom_it_should(
    api: ApiProcess, callers: dict[str, dict[str, Any]], who: str
) -> None:
    caller = callers[who]
    paths = httpx.get(f"{api.url}/v1/openapi.json", timeout=60).json()["paths"]
    tried = 0
    with httpx.Client(base_url=api.url, headers=caller["headers"], timeout=60) as client:
        for path, operations in paths.items():
            for method in operations:
                name = f"{method.upper()} {path}"
                allowed = may(caller, DECIDED[name])
                if allowed and (name in NOT_DONE or path.startswith("/v1/auth/")):
                    continue
                address = path.replace("{user_id}", "nobody-1").replace("{session_id}", "no-session")
                # An empty body reaches no state: whoever may come in is told what is missing in it.
                body = {"json": {}} if "requestBody" in operations[method] else {}
                reply = client.request(method, address, **body)
                code = reply.json().get("code") if "json" in reply.headers.get("content-type", "") else ""
                kept_out = code in ("unauthenticated", "account_needed") or (
                    code == "forbidden" and reply.json()["detail"].startswith("role ")
                )
                assert kept_out is not allowed, (who, name, reply.status_code, reply.text[:300])
                assert reply.status_code < 500 or code == "system_missing", (who, name, reply.text[:300])
                tried += 1
    assert tried > 40
