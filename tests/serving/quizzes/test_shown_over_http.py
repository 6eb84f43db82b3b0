"""Reads of one quiz over HTTP, from the cache: who is told what, whatever was told before, and while Postgres is away."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.services.daemons import start_postgres
from tests.serving.api_process import ApiProcess
from tests.serving.leaderboards.test_lean import lean_reads
from tests.serving.live.test_play import bearer, code
from tests.serving.quizzes.authors import author, made, publish, published, quiz, save

pytestmark = pytest.mark.service


@pytest.mark.parametrize("first", ["owner", "other", "guest"])
def test_who_sees_a_quiz_does_not_depend_on_who_looked_before(api: ApiProcess, first: str) -> None:
    ada, bob, guest = author(api, "Ada"), author(api, "Bob"), httpx.Client(base_url=api.url, timeout=60)
    callers = {"owner": ada, "other": bob, "guest": guest}
    order = [first, *(name for name in callers if name != first)] * 2
    one = published(ada, visibility="public")
    path = f"/v1/quizzes/{one['quiz_id']}"
    for visibility in ("public", "private", "unlisted", "private", "public"):
        ada.put(f"{path}/visibility", json={"visibility": visibility}).raise_for_status()
        for name in order:
            reply = callers[name].get(path)
            if visibility == "private" and name != "owner":
                assert (404, "unknown_quiz") == code(reply), (visibility, name)
                assert "Fruit" not in reply.text
                continue
            found = reply.raise_for_status().json()
            assert (visibility, name == "owner") == (found["visibility"], found["own"])
            assert "apple" not in reply.text and "what number" not in reply.text
        assert (401, "unauthenticated") == code(guest.get(path, headers=bearer("forged")))
        assert (401, "unauthenticated") == code(guest.get(path, headers={"X-API-Key": "lk_forged"}))


def test_the_lean_way_says_what_the_route_says(api: ApiProcess) -> None:
    ada = author(api)
    before = lean_reads(api)
    one = published(ada, quiz(title='Früchte "№ 1"'))
    path = f"/v1/quizzes/{one['quiz_id']}"
    reply = ada.get(path)
    assert before + 1 == lean_reads(api)
    assert reply.content == json.dumps(reply.json(), ensure_ascii=False, separators=(",", ":")).encode()
    assert ("application/json", "no-cache") == (reply.headers["content-type"], reply.headers["cache-control"])
    listed = ada.get("/v1/quizzes", params={"mine": "true"}).json()["quizzes"][0]
    found = reply.json()
    assert listed == {name: found[name] for name in listed} and {"published_at", "own"} == set(found) - set(
        listed
    )
    # What is not there is told at once, in the one form of errors.
    nobody = ada.get("/v1/quizzes/q_nobody")
    assert (404, "unknown_quiz") == code(nobody) and nobody.headers[
        "content-type"
    ] == "application/problem+json"
    assert before + 1 == lean_reads(api)
    for other in ("q.1", "x" * 65):
        assert 404 == ada.get(f"/v1/quizzes/{other}").status_code


def test_every_change_shows_in_the_next_reply(api: ApiProcess) -> None:
    ada, guest = author(api), httpx.Client(base_url=api.url, timeout=60)
    one = made(ada)
    path, revision = f"/v1/quizzes/{one['quiz_id']}", one["revision"]
    ada.put(f"{path}/visibility", json={"visibility": "public"}).raise_for_status()
    assert 404 == guest.get(path).status_code
    for number in range(1, 6):
        draft = {**one["draft"], "title": f"Fruit {number}"}
        revision = save(ada, one["quiz_id"], draft, revision).raise_for_status().json()["revision"]
        publish(ada, one["quiz_id"], revision).raise_for_status()
        found = guest.get(path).json()
        assert (f"Fruit {number}", number, False) == (found["title"], found["version"], found["archived"])
        for way, archived in (("archive", True), ("restore", False)):
            ada.post(f"{path}/{way}").raise_for_status()
            assert archived == guest.get(path).json()["archived"]


def test_without_postgres_what_is_cached_is_told_and_the_rest_refused(
    tmp_path: Path, valkey_urls: list[str]
) -> None:
    postgres = start_postgres(tmp_path / "postgres")
    api = ApiProcess(tmp_path / "api", valkey_urls, postgres.url)
    try:
        ada, guest = author(api), httpx.Client(base_url=api.url, timeout=60)
        public, private = (
            f"/v1/quizzes/{published(ada, visibility=name)['quiz_id']}" for name in ("public", "private")
        )
        before = guest.get(public).raise_for_status().content
        postgres.kill()
        assert before == guest.get(public).content
        assert ada.get(public).raise_for_status().json()["own"]
        assert (404, "unknown_quiz") == code(guest.get(private))
        assert (503, "system_missing") == code(guest.get("/v1/quizzes/q_nobody"))
        hidden = ada.put(f"{public}/visibility", json={"visibility": "private"})
        assert (503, "system_missing") == code(hidden)
        assert before == guest.get(public).content, "nothing was written"
    finally:
        api.stop()
        postgres.stop()
