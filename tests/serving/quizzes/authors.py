"""Authors over HTTP: a token of one's own, a small quiz, and what tests say of it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.serving.access.people import signed_up
from tests.serving.api_process import ApiProcess


def author(api: ApiProcess, name: str = "Ada") -> httpx.Client:
    """A client that is logged in as a new author."""
    person = signed_up(api, name)
    return httpx.Client(base_url=api.url, timeout=60, headers=person.headers)


def question(word: str = "apple", **changes: Any) -> dict[str, Any]:
    """A complete question, definition → word."""
    return {
        "type": "definition_to_word",
        "prompt": f"what number {len(word)} is called",
        "answer": word,
        "wrong": ["bread", "water", "chair"],
        **changes,
    }


def quiz(*questions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A complete draft."""
    return {"title": "Fruit", "level": "A1", "questions": list(questions) or [question()], **changes}


def made(client: httpx.Client, draft: dict[str, Any] | None = None) -> dict[str, Any]:
    """A new quiz, as its author is told of it."""
    return dict(client.post("/v1/quizzes", json=draft or quiz()).raise_for_status().json())


def save(client: httpx.Client, quiz_id: str, draft: dict[str, Any], revision: int) -> httpx.Response:
    return client.put(f"/v1/quizzes/{quiz_id}/draft", json=draft, headers={"If-Match": f'"r{revision}"'})


def publish(client: httpx.Client, quiz_id: str, revision: int) -> httpx.Response:
    return client.post(f"/v1/quizzes/{quiz_id}/publish", headers={"If-Match": f'"r{revision}"'})


def published(
    client: httpx.Client, draft: dict[str, Any] | None = None, visibility: str = "public"
) -> dict[str, Any]:
    """A quiz that can be played, as its author is told of it."""
    one = made(client, draft)
    client.put(f"/v1/quizzes/{one['quiz_id']}/visibility", json={"visibility": visibility}).raise_for_status()
    return dict(publish(client, one["quiz_id"], one["revision"]).raise_for_status().json())
