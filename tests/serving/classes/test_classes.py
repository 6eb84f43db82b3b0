"""Classes over HTTP: made by a host, joined by code; who may do what; leaving, removal, codes that end."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contracts import classes
from serving.access.tokens import HOST, PLAYER, Identity, sign
from tests.serving.access.people import PASSWORD, signed_up
from tests.serving.api_process import IMPORTER_KEY, JWT_KEY, ApiProcess
from tests.serving.leaderboards.classes import accounts_of
from tests.serving.live.test_play import bearer, code

pytestmark = pytest.mark.service


class Class_:
    """A class that somebody new leads, and what is done with it over HTTP."""

    def __init__(self, api: ApiProcess, name: str = "5b") -> None:
        self.api = api
        self.http = httpx.Client(base_url=f"{api.url}/v1", timeout=60)
        self.owner = self.somebody("Teacher")
        made = self.http.post("/classes", json={"name": name}, headers=self.owner)
        self.made = made.raise_for_status().json()
        self.id = self.made["class_id"]

    def somebody(self, name: str) -> dict[str, str]:
        """Headers of somebody new with an account."""
        user = f"{name}-{uuid.uuid4().hex[:8]}"
        headers = accounts_of(self.api.settings["postgres_url"], [user])[user]
        return {**headers, "X-Test-User": user}

    def join(self, who: dict[str, str], with_code: str = "") -> httpx.Response:
        body = {"code": with_code or self.made["code"]}
        return self.http.post("/classes/join", json=body, headers=who)

    def member(self, name: str) -> dict[str, str]:
        """Headers of somebody new who has joined."""
        found = self.somebody(name)
        self.join(found).raise_for_status()
        return found

    def post(self, path: str, who: dict[str, str]) -> httpx.Response:
        return self.http.post(f"/classes/{self.id}/{path}", headers=who)

    def read(self, who: dict[str, str]) -> httpx.Response:
        return self.http.get(f"/classes/{self.id}", headers=who)

    def members(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.read(self.owner).raise_for_status().json()["members"]
        return found


def name_of(row: dict[str, Any]) -> str:
    return str(row["name"]).partition("-")[0]


def test_a_class_is_made_and_joined_by_code(api: ApiProcess) -> None:
    made = Class_(api, "  5b,   English ")
    assert ("5b, English", True, 8) == (made.made["name"], made.made["leads"], len(made.made["code"]))
    ada, grace = made.somebody("Ada"), made.member("Grace")
    written = f" {made.made['code'][:4].lower()}-{made.made['code'][4:]}"
    for _ in range(2):  # joining twice is joining once
        joined = made.join(ada, written)
        assert (201, {"class_id": made.id, "name": "5b, English", "leads": False, "code": None}) == (
            joined.status_code,
            joined.json(),
        )
    assert [("Ada", None, False), ("Grace", None, False)] == [
        (name_of(one), one["left_at"], one["removed"]) for one in made.members()
    ]
    seen = made.read(ada).json()
    assert (None, False, ["Ada", "Grace"]) == (
        seen["code"],
        seen["leads"],
        [name_of(one) for one in seen["members"]],
    )
    listed = made.http.get("/classes", headers=made.owner).json()["classes"]
    assert [{"class_id": made.id, "name": "5b, English", "leads": True, "members": 2}] == listed
    theirs = made.http.get("/classes", headers=grace).json()["classes"]
    assert [(made.id, False)] == [(one["class_id"], one["leads"]) for one in theirs]


def test_who_may_do_what(api: ApiProcess) -> None:
    one, other = Class_(api), Class_(api)
    member = one.member("Ada")
    stranger = other.member("Eve")
    for path in ("code", "close", "members/u/remove", "members/u/readmit"):
        assert (403, "forbidden") == code(one.post(path, member)), path
        assert (403, "forbidden") == code(one.post(path, other.owner)), path
        assert 401 == one.http.post(f"/classes/{one.id}/{path}").status_code
    for token in (stranger, other.owner):
        assert (403, "forbidden") == code(one.read(token))
    assert 401 == one.http.get(f"/classes/{one.id}").status_code
    key = {"X-API-Key": IMPORTER_KEY}
    assert (403, "account_needed") == code(one.http.post("/classes", json={"name": "x"}, headers=key))
    assert 401 == one.http.post("/classes", json={"name": "x"}, headers=bearer("forged")).status_code
    assert (404, "unknown_class") == code(one.http.get("/classes/nobody", headers=member))
    assert (422, "invalid_id") == code(one.http.get("/classes/a.b", headers=member))
    for body, wrong in (
        ({"name": " \n"}, "invalid_field"),
        ({"name": "x", "owner_id": "me"}, "unknown_field"),
    ):
        assert (422, wrong) == code(one.http.post("/classes", json=body, headers=one.owner))
    board = f"{api.url}/v1/leaderboards/class:{one.id}"
    for path in ("/daily/current", "?from=2026-01-01&to=2026-01-02"):
        assert (401, "unauthenticated") == code(httpx.get(board + path))
        assert (403, "forbidden") == code(httpx.get(board + path, headers=stranger))
    assert 200 == httpx.get(board + "/daily/current", headers=member).status_code
    # A seat in a session is nobody's for long: it makes, joins and reads nothing, whoever it names.
    for role, user in ((HOST, "h"), (PLAYER, member["X-Test-User"])):
        seat = bearer(sign(Identity(user, role), JWT_KEY))
        found = {
            code(reply)
            for reply in (
                one.http.post("/classes", json={"name": "x"}, headers=seat),
                one.join(seat),
                one.read(seat),
                httpx.get(board + "/daily/current", headers=seat),
            )
        }
        assert {(403, "account_needed")} == found
    # The deployment's key is no account; boards it reads, for the command line.
    assert (403, "account_needed") == code(one.read(key))
    assert 200 == httpx.get(board + "/daily/current", headers=key).status_code
    assert (403, "account_needed") == code(one.join(key))
    assert "importer" not in {name_of(row) for row in one.members()}


def test_leaving_coming_back_and_being_removed(api: ApiProcess) -> None:
    one = Class_(api)
    ada = one.member("Ada")
    assert 200 == one.post("leave", ada).status_code
    assert (403, "forbidden") == code(one.read(ada))
    left = one.members()[0]["left_at"]
    assert left and 200 == one.post("leave", ada).status_code
    assert left == one.members()[0]["left_at"]  # leaving twice is leaving once
    one.join(ada).raise_for_status()
    assert one.members()[0]["left_at"] is None and one.members()[0]["joined_at"] >= left
    remove = f"members/{ada['X-Test-User']}/remove"
    one.post(remove, one.owner).raise_for_status()
    one.post(remove, one.owner).raise_for_status()
    assert (403, "player_removed") == code(one.join(ada))
    assert [True] == [row["removed"] for row in one.members()]
    one.post(f"members/{ada['X-Test-User']}/readmit", one.owner).raise_for_status()
    assert (403, "forbidden") == code(one.read(ada))  # let in again is not put in
    one.join(ada).raise_for_status()
    assert (404, "unknown_user") == code(one.post("members/nobody/remove", one.owner))
    assert (404, "unknown_user") == code(one.post("leave", one.owner))


def test_stays_never_overlap_and_are_bounded(api: ApiProcess) -> None:
    one = Class_(api)
    ada = one.member("Ada")
    for _ in range(classes.STAYS_MAX - 1):
        one.post("leave", ada).raise_for_status()
        one.join(ada).raise_for_status()
    one.post("leave", ada).raise_for_status()
    assert (409, "class_full") == code(one.join(ada))
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        rows = sql.execute(
            "SELECT joined_at_us, left_at_us FROM class_members WHERE class_id = %s ORDER BY 1", (one.id,)
        ).fetchall()
    assert classes.STAYS_MAX == len(rows)
    assert all(a[0] < a[1] <= b[0] for a, b in zip(rows, rows[1:], strict=False))


def test_codes_are_renewed_and_closed(api: ApiProcess) -> None:
    one = Class_(api)
    ada, bob = one.somebody("Ada"), one.somebody("Bob")
    renewed = one.post("code", one.owner).json()["code"]
    assert renewed != one.made["code"]
    assert (404, "unknown_join_code") == code(one.join(ada))
    assert 201 == one.join(ada, renewed).status_code
    assert one.post("close", one.owner).json()["code"] is None
    assert (404, "unknown_join_code") == code(one.join(bob, renewed))
    assert 1 == len(one.members())
    again = one.post("code", one.owner).json()["code"]
    assert 201 == one.join(bob, again).status_code
    guesses = {code(one.join(bob, text)) for text in ("22222222", "short", "'; drop", "K" * 20)}
    assert {(404, "unknown_join_code")} == guesses


def test_joins_are_limited_by_address(tmp_path: Path, valkey_urls: list[str], postgres_url: str) -> None:
    # Valkey counts for all tests: an address of this test's own comes through the proxy header.
    api = ApiProcess(tmp_path / "api", valkey_urls, postgres_url, limit_joins="5/minute")
    try:
        one, address = Class_(api), {"X-Forwarded-For": f"10.{time.time_ns() % 250}.7.9"}
        address |= one.owner
        body = {"code": "22222222"}
        replies = [one.http.post("/classes/join", json=body, headers=address) for _ in range(7)]
        assert [404] * 5 + [429] * 2 == [reply.status_code for reply in replies]
    finally:
        api.stop()


def test_many_join_at_once(api: ApiProcess) -> None:
    """The same user twenty times at once is one member; others are all there, and the class is full at its bound."""
    one = Class_(api)
    ada = one.member("Ada")
    others = [one.somebody(f"p{n}") for n in range(20)]
    one.post("leave", ada).raise_for_status()

    async def all_join() -> list[int]:
        async with httpx.AsyncClient(base_url=f"{api.url}/v1", timeout=60) as http:
            body = {"code": one.made["code"]}
            joins = [http.post("/classes/join", json=body, headers=who) for who in (*[ada] * 20, *others)]
            return [reply.status_code for reply in await asyncio.gather(*joins)]

    assert [201] * 40 == asyncio.run(all_join())
    assert 21 == len(one.members()) == len([row for row in one.members() if row["left_at"] is None])
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        sql.execute(
            "INSERT INTO class_members (class_id, user_id, user_no, joined_at_us)"
            " SELECT %s, 'filler' || n, 4000000000 + n, 1 FROM generate_series(1, %s) n",
            (one.id, classes.MEMBERS_MAX - 21),
        )
    assert (409, "class_full") == code(one.join(one.somebody("Zoe")))


def test_an_account_that_is_deleted_is_in_no_class(api: ApiProcess) -> None:
    one = Class_(api)
    ada, grace = signed_up(api, "Ada"), one.member("Grace")
    one.join(ada.headers).raise_for_status()
    led = ada.ask("POST", "/v1/classes", json={"name": "hers"}).raise_for_status().json()
    assert 201 == one.join(grace, led["code"]).status_code
    ada.ask("PUT", "/v1/me", json={"anonymous": True}).raise_for_status()
    names = [{name_of(row) for row in one.read(who).json()["members"]} for who in (one.owner, grace)]
    assert [{"Ada", "Grace"}, {"Anonymous", "Grace"}] == names
    ada.ask("POST", "/v1/me/delete", json={"password": PASSWORD}).raise_for_status()
    gone = [row for row in one.members() if row["user_id"] == ada.user_id]
    assert [("", False)] == [(row["name"], row["left_at"] is None) for row in gone]
    assert 1 == len(one.read(grace).json()["members"])
    # The class she led keeps its members; nobody new comes in.
    assert (404, "unknown_join_code") == code(one.join(one.somebody("Eve"), led["code"]))
    assert 1 == len(one.http.get(f"/classes/{led['class_id']}", headers=grace).json()["members"])
