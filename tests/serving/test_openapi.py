"""OpenAPI tells the truth: every route has examples of its replies, and whatever is sent, the answer is a documented one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from contracts.errors import TITLES
from serving.api import create_app
from tests.serving.access.people import made, signed_up
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

# Requests a route: each takes some ms; more find little that these do not.
EXAMPLES = 20


# Routes that give out a file and no JSON.
FILES = ("/v1/quizzes/{quiz_id}/draft.csv", "/v1/me/export")


@pytest.mark.unit
def test_every_route_shows_its_replies() -> None:
    paths: dict[str, Any] = create_app({}).openapi()["paths"]
    assert len(paths) >= 15
    for path, operations in paths.items():
        if path == "/metrics":
            continue  # text for Prometheus
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            replies = operation["responses"]
            good = [reply for status, reply in replies.items() if status.startswith("2")]
            kinds = [kind for reply in good for kind in reply["content"]]
            if path not in FILES:
                assert kinds in (["application/json"], ["application/json", "text/csv"]), where
                assert all(reply["content"]["application/json"]["example"] for reply in good), where
            assert all(
                "application/problem+json" in reply["content"]
                for status, reply in replies.items()
                if status[0] in "45"
            ), where


@schemathesis.serializer("application/x-ndjson")
def lines(_: Any, value: Any) -> bytes:
    """A body of lines, whatever they are."""
    return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture
def schema(api: ApiProcess) -> Any:
    """The running server's own description, and callers of each role."""
    # Those write to the shards of all tests, wait for a relay, or let the api's sockets go; they have tests of their own.
    return schemathesis.openapi.from_url(f"{api.url}/v1/openapi.json").exclude(
        path_regex="barriers|boards_since|drain|log-out-everywhere|me/delete|auth/password"
    )


@pytest.fixture
def callers(api: ApiProcess) -> dict[str, dict[str, str]]:
    """Headers by role."""
    with httpx.Client(base_url=api.url) as client:
        opened = client.post("/v1/sessions", json={"quiz_id": "starter-a1"}).raise_for_status().json()
        seat = client.post("/v1/join", json={"pin": opened["pin"], "name": "Ada"}).raise_for_status().json()
    return {
        "host": {"Authorization": f"Bearer {opened['token']}"},
        "player": {"Authorization": f"Bearer {seat['token']}"},
        "importer": {"X-API-Key": IMPORTER_KEY},
        "account": signed_up(api).headers,
        "admin": made(api, "admin").headers,
    }


@pytest.mark.service
@pytest.mark.parametrize("role", ["host", "player", "importer", "account", "admin"])
def test_whatever_is_sent_has_a_documented_answer(
    schema: Any, role: str, callers: dict[str, dict[str, str]]
) -> None:
    for operation in (found.ok() for found in schema.get_all_operations()):

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            assert_documented(case, case.call(headers=callers[role]))

        ask()


def assert_documented(case: Any, reply: Any) -> None:
    """A good answer, or a problem document with a code; a 5xx only for a system that is not here (Kafka, the lake)."""
    if reply.status_code < 400:
        return
    where = case.as_curl_command()
    assert "application/problem+json" in str(reply.headers["content-type"]), where
    problem = reply.json()
    assert problem["code"] in TITLES and problem["status"] == reply.status_code, where
    assert reply.status_code < 500 or problem["code"] == "system_missing", (where, problem)
