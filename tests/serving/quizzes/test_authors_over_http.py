"""Quizzes from their first draft to the archive, over HTTP with real Postgres and Valkey; two editors; who sees what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import bearer, code
from tests.serving.quizzes.authors import author, made, publish, published, question, quiz, save

pytestmark = pytest.mark.service


@pytest.fixture
def ada(api: ApiProcess) -> httpx.Client:
    return author(api, "Ada")


@pytest.fixture
def bob(api: ApiProcess) -> httpx.Client:
    return author(api, "Bob")


def test_a_quiz_from_its_first_draft_to_the_archive(api: ApiProcess, ada: httpx.Client) -> None:
    one = made(ada, quiz(title="", questions=[]))
    quiz_id = one["quiz_id"]
    assert ("private", None, 1) == (one["visibility"], one["version"], one["revision"])
    assert {"title_missing", "no_questions"} == {problem["code"] for problem in one["problems"]}
    assert (422, "quiz_incomplete") == code(publish(ada, quiz_id, 1))
    assert (409, "quiz_incomplete") == code(ada.post("/v1/sessions", json={"quiz_id": quiz_id}))
    two = save(ada, quiz_id, quiz(), 1).raise_for_status().json()
    assert 2 == two["revision"] and [] == two["problems"]
    ident = two["draft"]["questions"][0]["question_id"]
    assert ident and "apple" not in ident
    again = save(ada, quiz_id, two["draft"], 2).json()
    assert ident == again["draft"]["questions"][0]["question_id"], "an edit keeps a question's id"
    first = publish(ada, quiz_id, 3).json()
    assert (1, True) == (first["version"], first["new"])
    assert (1, False) == tuple(publish(ada, quiz_id, 3).json()[name] for name in ("version", "new")), (
        "sent again"
    )
    changed = {**two["draft"], "title": "More fruit"}
    save(ada, quiz_id, changed, 3).raise_for_status()
    assert "Fruit" == ada.get(f"/v1/quizzes/{quiz_id}").json()["title"], "a draft is not played"
    assert 2 == publish(ada, quiz_id, 4).json()["version"]
    assert [2, 1] == [row["version"] for row in ada.get(f"/v1/quizzes/{quiz_id}/versions").json()["versions"]]
    old = ada.get(f"/v1/quizzes/{quiz_id}/versions/1").json()["draft"]
    assert "Fruit" == old["title"] and "apple" == old["questions"][0]["answer"]
    for path in ("3", "0", "99999999999"):
        assert (404, "unknown_version") == code(ada.get(f"/v1/quizzes/{quiz_id}/versions/{path}"))
    assert (409, "quiz_published") == code(ada.delete(f"/v1/quizzes/{quiz_id}"))
    ada.put(f"/v1/quizzes/{quiz_id}/visibility", json={"visibility": "public"}).raise_for_status()
    assert ada.post(f"/v1/quizzes/{quiz_id}/archive").json()["archived"]
    assert (409, "quiz_archived") == code(httpx.post(f"{api.url}/v1/sessions", json={"quiz_id": quiz_id}))
    assert quiz_id not in listed(ada, q="More fruit") and quiz_id in listed(ada, mine="true")
    assert not ada.post(f"/v1/quizzes/{quiz_id}/restore").json()["archived"]
    assert quiz_id in listed(ada, q="More fruit")
    gone = made(ada)["quiz_id"]
    assert {"deleted": gone} == ada.delete(f"/v1/quizzes/{gone}").json()
    assert (404, "unknown_quiz") == code(ada.get(f"/v1/quizzes/{gone}/draft"))


def listed(client: httpx.Client, **asked: str) -> list[str]:
    """Ids of every page, three a page."""
    found: list[str] = []
    following: str | None = ""
    while following is not None:
        reply = (
            client.get("/v1/quizzes", params={"limit": 3, "cursor": following, **asked})
            .raise_for_status()
            .json()
        )
        found += [row["quiz_id"] for row in reply["quizzes"]]
        following = reply["next"]
    return found


def test_of_two_editors_the_second_is_told_and_nothing_is_lost(ada: httpx.Client) -> None:
    one = made(ada)
    quiz_id, draft = one["quiz_id"], one["draft"]
    first = {**draft, "title": "Ada's change"}
    assert save(ada, quiz_id, first, 1).status_code == 200
    refused = save(ada, quiz_id, {**draft, "title": "another tab's change"}, 1)
    assert (412, "edit_conflict") == code(refused) and refused.json()["next_step"]
    now = ada.get(f"/v1/quizzes/{quiz_id}/draft")
    assert "Ada's change" == now.json()["draft"]["title"] and '"r2"' == now.headers["etag"]
    assert (412, "edit_conflict") == code(publish(ada, quiz_id, 1)), "what is published is what was looked at"
    for header in (
        {},
        {"If-Match": "*"},
        {"If-Match": '"x"'},
        {"If-Match": 'W/"r2"'},
        {"If-Match": '"r' + "9" * 40 + '"'},
    ):
        reply = ada.put(f"/v1/quizzes/{quiz_id}/draft", json=draft, headers=header)
        assert (428, "precondition_required") == code(reply)


def test_of_many_who_save_at_once_one_does(ada: httpx.Client) -> None:
    one = made(ada)

    def change(number: int) -> int:
        return save(ada, one["quiz_id"], quiz(title=f"change {number}"), 1).status_code

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(change, range(16)))
    assert [200] == [reply for reply in replies if reply != 412] and 15 == replies.count(412)
    now = ada.get(f"/v1/quizzes/{one['quiz_id']}/draft").json()
    assert 2 == now["revision"] and f"change {replies.index(200)}" == now["draft"]["title"]


def test_who_sees_and_plays_what(api: ApiProcess, ada: httpx.Client, bob: httpx.Client) -> None:
    guest = httpx.Client(base_url=api.url)
    by_visibility = {
        name: published(ada, visibility=name)["quiz_id"] for name in ("private", "unlisted", "public")
    }
    for visibility, quiz_id in by_visibility.items():
        seen = visibility != "private"
        for other in (bob, guest):
            assert (200 if seen else 404) == other.get(f"/v1/quizzes/{quiz_id}").status_code
            made_one = other.post("/v1/sessions", json={"quiz_id": quiz_id})
            assert (201 if seen else 404) == made_one.status_code
            assert (quiz_id in listed(other, q="Fruit")) == (visibility == "public")
        assert 201 == ada.post("/v1/sessions", json={"quiz_id": quiz_id}).status_code
        for path in ("draft", "versions", "versions/1"):
            expected = (403, "forbidden") if seen else (404, "unknown_quiz")
            assert expected == code(bob.get(f"/v1/quizzes/{quiz_id}/{path}"))
            assert (401, "unauthenticated") == code(guest.get(f"/v1/quizzes/{quiz_id}/{path}"))
        assert (403 if seen else 404) == save(bob, quiz_id, quiz(), 1).status_code
        assert (403 if seen else 404) == bob.post(f"/v1/quizzes/{quiz_id}/archive").status_code
        assert (403 if seen else 404) == bob.delete(f"/v1/quizzes/{quiz_id}").status_code
        shown = str(guest.get(f"/v1/quizzes/{quiz_id}").json()) + str(
            ada.get(f"/v1/quizzes/{quiz_id}").json()
        )
        assert "apple" not in shown and "what number" not in shown
    assert (401, "unauthenticated") == code(guest.get("/v1/quizzes", params={"mine": True}))
    assert set(by_visibility.values()) == set(listed(ada, mine="true")) and not set(
        by_visibility.values()
    ) & set(listed(bob, mine="true"))
    assert (401, "unauthenticated") == code(guest.get("/v1/quizzes", headers=bearer("forged")))
    assert (403, "forbidden") == code(ada.get("/v1/quizzes/starter-a1/draft"))


def test_lists_are_whole_and_in_order_page_by_page(api: ApiProcess, ada: httpx.Client) -> None:
    mine = [published(ada, quiz(title=f"Title {n % 2}"))["quiz_id"] for n in range(5)]
    every = listed(ada)
    assert len(set(every)) == len(every) and set(mine) < set(every) and "starter-a1" == every[0]
    assert list(reversed(mine)) == listed(ada, mine="true")
    starter = listed(ada, origin="starter")
    assert 100 == len(starter) == len([one for one in every if one.startswith("starter-")])
    assert (
        20
        == len(listed(ada, origin="starter", level="C1"))
        == len(listed(ada, origin="starter", type="listening"))
    )
    assert "starter-b2" in listed(ada, q="opinions word") and [] == listed(ada, q="%%%")


def test_bad_input_has_stable_codes(ada: httpx.Client) -> None:
    post = ada.post
    assert (422, "unknown_field") == code(post("/v1/quizzes", json=quiz(points=3)))
    assert (422, "invalid_field") == code(post("/v1/quizzes", json=quiz(level="Z9")))
    assert (422, "invalid_field") == code(post("/v1/quizzes", json=quiz(*[question()] * 201)))
    assert (422, "invalid_field") == code(post("/v1/quizzes", json=quiz(question("x" * 201))))
    assert (422, "unknown_zone") == code(post("/v1/quizzes", json=quiz(zone="Mars/Olympus")))
    as_json = {"Content-Type": "application/json"}
    assert (400, "malformed_body") == code(post("/v1/quizzes", content=b'{"title":', headers=as_json))
    assert (413, "body_too_large") == code(post("/v1/quizzes", content=b"[" * 1_100_000, headers=as_json))
    for cursor in ("x", "////", "cV94L2E=" * 3, "AA==", "cV94LwA="):
        reply = ada.get("/v1/quizzes", params={"cursor": cursor, "mine": True})
        assert (422, "invalid_field") == code(reply), cursor
    deep = b'{"questions":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert post("/v1/quizzes", content=deep, headers=as_json).status_code in (400, 422)


EVIL = (
    "'; drop table quizzes; --", "\\'; select 1; --", "%' or '1'='1", "a:* & b | !c", "Robert'); DELETE", "$1 $$ $tag$",
    "{{7*7}}", "\u0000", "\ud800", "quiz:1:head\r\nFLUSHALL\r\n", "../../etc", "%00", "x" * 200,
)  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_what_is_typed_is_never_run(ada: httpx.Client, evil: str) -> None:
    """Into SQL, into a search, into a key: it comes back as text, or is refused with a code; never a crash."""
    before = listed(ada, origin="starter")
    body = quiz(question("apple", prompt=evil, wrong=[evil, "pear"]), title=evil[:80], description=evil)
    reply = ada.post("/v1/quizzes", content=_json(body), headers={"Content-Type": "application/json"})
    assert reply.status_code in (201, 400, 422), reply.text
    if reply.status_code == 201:
        kept = reply.json()["draft"]
        assert kept["title"] == " ".join(evil[:80].replace("\0", "").split())
    for params in (
        {"q": evil},
        {"cursor": evil},
        {"type": evil[:40]},
        {"level": evil},
        {"q": evil, "mine": "true"},
    ):
        sent = {name: value.encode("utf-8", "replace") for name, value in params.items()}
        assert ada.get("/v1/quizzes", params=sent).status_code in (200, 422)
    for path in ("", "/draft", "/versions/1"):
        quoted = httpx.QueryParams({"x": evil.encode("utf-8", "replace")})
        found = ada.get(f"/v1/quizzes/{str(quoted).removeprefix('x=')}{path}")
        assert found.status_code in (404, 422), found.text
    assert before == listed(ada, origin="starter")


def _json(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()
