"""Accounts over HTTP: made, logged in, renewed, copied, ended; guests that keep what they have; keys; what admins do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest

from tests.serving.access.people import COOKIE, PASSWORD, Person, made, opened, seated, signed_up, somebody
from tests.serving.api_process import IMPORTER_KEY, JWT_KEY, ApiProcess

pytestmark = pytest.mark.service


def code_of(reply: httpx.Response) -> tuple[int, str]:
    """The status and the code of a problem; "" where it is none."""
    return reply.status_code, reply.json().get("code", "")


def rows(api: ApiProcess, query: str, *values: object) -> list[tuple]:
    with psycopg.connect(api.settings["postgres_url"]) as sql:
        return sql.execute(query, values).fetchall()  # type: ignore[arg-type]


def renewed(person: Person, token: str = "") -> httpx.Response:
    """A renewal, by another token than the browser's if one is given."""
    if not token:
        return person.client.post("/v1/auth/refresh")
    return httpx.post(
        f"{person.api.url}/v1/auth/refresh", headers={"Cookie": f"{COOKIE}={token}"}, timeout=60
    )


def test_an_account_from_sign_up_to_log_out(api: ApiProcess) -> None:
    ada = signed_up(api)
    assert ["player", "host"] == ada.roles
    cookie = ada.log_in().headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/v1/auth", "Max-Age=2592000"):
        assert part.lower() in cookie.lower()
    # Plain HTTP on a private network: a Secure cookie would not come back there.
    assert "secure" not in cookie.lower()
    https = ada.client.post(
        "/v1/auth/log-in",
        json={"login_name": ada.login_name, "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"},
    )
    assert "secure" in https.headers["set-cookie"].lower()
    ada.take(ada.log_in())
    claims = jwt.decode(ada.token, JWT_KEY, algorithms=["HS256"], issuer="lakeboard")
    assert ("access", 600) == (claims["kind"], claims["exp"] - claims["iat"])
    assert 200 == ada.ask("GET", "/v1/me/keys").status_code
    before = ada.refresh
    assert 200 == ada.client.post("/v1/auth/log-out").status_code
    assert not ada.refresh
    assert (401, "unauthenticated") == code_of(renewed(ada, before))
    assert (401, "unauthenticated") == code_of(ada.client.post("/v1/auth/refresh"))


def test_names_are_compared_folded_and_taken_once(api: ApiProcess) -> None:
    first = somebody(api)
    body = {"login_name": first.login_name.upper() + "Ä@Example.org", "password": PASSWORD, "name": "A"}
    assert 201 == first.client.post("/v1/auth/sign-up", json=body).status_code
    again = {**body, "login_name": f"  {body['login_name'].lower()} "}
    assert (409, "login_name_taken") == code_of(first.client.post("/v1/auth/sign-up", json=again))
    assert (
        200
        == first.client.post(
            "/v1/auth/log-in", json={k: again[k] for k in ("login_name", "password")}
        ).status_code
    )
    # One of many at once gets it.
    name = somebody(api).login_name
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(
                httpx.post, f"{api.url}/v1/auth/sign-up", json={**body, "login_name": name}, timeout=60
            )
            for _ in range(6)
        ]
    assert [201] + 5 * [409] == sorted(one.result().status_code for one in asked)
    assert [(1,)] == rows(api, "select count(*) from accounts where login_name = %s", name)


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "x" * 129 + "abcd", "", "NAME"])
def test_weak_passwords_are_refused(api: ApiProcess, password: str) -> None:
    person = somebody(api)
    body = {"login_name": person.login_name, "password": password, "name": "A"}
    body["password"] = password.replace("NAME", person.login_name)
    reply = person.client.post("/v1/auth/sign-up", json=body)
    assert 422 == reply.status_code
    assert not password or body["password"] not in reply.text
    assert [] == rows(api, "select 1 from accounts where login_name = %s", person.login_name)


def test_a_guest_keeps_id_points_and_history(api: ApiProcess) -> None:
    session = opened(api)
    guest = seated(api, session["pin"], "Mia")
    host = {"Authorization": f"Bearer {session['token']}"}
    httpx.post(
        f"{api.url}/v1/sessions/{session['session_id']}/next", headers=host, timeout=60
    ).raise_for_status()
    question = httpx.get(f"{api.url}/v1/sessions/{session['session_id']}").json()["current"]
    answered = httpx.post(
        f"{api.url}/v1/sessions/{session['session_id']}/answers",
        json={"question_id": question["question_id"], "choice": question["choices"][0]},
        headers={"Authorization": f"Bearer {guest['token']}"},
    ).raise_for_status()
    mia = signed_up(api, "Mia B", guest=guest["token"])
    assert guest["user_id"] == mia.user_id
    board = httpx.get(f"{api.url}/v1/leaderboards/session:{session['session_id']}/all_time/current").json()
    assert [(mia.user_id, answered.json()["total"])] == [
        (row["user_id"], row["points"]) for row in board["entries"]
    ]
    # The seat makes no second account, and an account's token is no seat.
    body = {"login_name": somebody(api).login_name, "password": PASSWORD, "name": "X"}
    for token in (guest["token"], mia.token):
        reply = httpx.post(
            f"{api.url}/v1/auth/sign-up", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert (409, "has_account") == code_of(reply)
    # The next game's points are the account's.
    again = seated(api, opened(api)["pin"], "Mia", **mia.headers)
    assert mia.user_id == again["user_id"]
    number = rows(api, "select user_no from users where user_id = %s", mia.user_id)[0][0]
    assert number == jwt.decode(again["token"], JWT_KEY, algorithms=["HS256"], issuer="lakeboard")["no"]


def test_a_session_is_led_and_played_from_another_device(api: ApiProcess) -> None:
    teacher, pupil, stranger = signed_up(api, "T"), signed_up(api, "P"), signed_up(api, "S")
    session = opened(api, **teacher.headers)
    seated(api, session["pin"], "P", **pupil.headers)
    path = f"/v1/sessions/{session['session_id']}"
    led, played = (who.ask("POST", f"{path}/seat").json() for who in (teacher, pupil))
    assert ("host", teacher.user_id) == (led["role"], led["user_id"])
    assert ("player", "P") == (played["role"], played["name"])
    assert (403, "forbidden") == code_of(stranger.ask("POST", f"{path}/seat"))
    # The account's own token leads nothing by itself.
    assert (403, "forbidden") == code_of(teacher.ask("POST", f"{path}/next"))
    seat = {"Authorization": f"Bearer {led['token']}"}
    assert 200 == httpx.post(f"{api.url}{path}/next", headers=seat, timeout=60).status_code
    expired = {"Authorization": f"Bearer {teacher.token}x"}
    reply = httpx.post(f"{api.url}/v1/sessions", json={"quiz_id": "starter-a1"}, headers=expired, timeout=60)
    assert (401, "unauthenticated") == code_of(reply)


def test_each_refresh_token_counts_once_and_a_copy_ends_the_log_in(api: ApiProcess) -> None:
    ada, bystander = signed_up(api), signed_up(api)
    first = ada.refresh
    assert 200 == renewed(ada).status_code
    second = ada.refresh
    assert first != second
    # Two tabs at once, or a reply that was lost: the same next token, no second chain.
    repeat = renewed(ada, first)
    assert second == repeat.cookies[COOKIE]
    assert 200 == renewed(ada).status_code
    third = ada.refresh
    # The second has been used since: the first can only be a copy now.
    assert (401, "unauthenticated") == code_of(renewed(ada, first))
    for token in (second, third):
        assert (401, "unauthenticated") == code_of(renewed(ada, token))
    time.sleep(0.1)
    assert (401, "unauthenticated") == code_of(ada.ask("GET", "/v1/me/keys"))
    assert 200 == renewed(bystander).status_code
    assert [("a refresh token came twice",)] == rows(
        api, "select why from logins where user_id = %s", ada.user_id
    )


def test_a_token_that_comes_again_late_is_a_copy(api: ApiProcess) -> None:
    ada = signed_up(api)
    first = ada.refresh
    renewed(ada)
    with psycopg.connect(api.settings["postgres_url"], autocommit=True) as sql:
        sql.execute(
            "update refresh_tokens set used_at = used_at - interval '11 seconds' where used_at is not null"
        )
    assert 401 == renewed(ada, first).status_code
    assert 401 == renewed(ada).status_code


def test_ten_tabs_renew_at_once(api: ApiProcess) -> None:
    ada = signed_up(api)
    token = ada.refresh
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: renewed(ada, token), range(10)))
    assert {200} == {reply.status_code for reply in replies}
    assert 1 == len({reply.cookies[COOKIE] for reply in replies})


def test_log_out_everywhere_and_a_new_password_end_what_was_there(api: ApiProcess) -> None:
    phone = signed_up(api)
    laptop = somebody(api, phone.login_name)
    laptop.take(laptop.log_in())
    assert {"ended": 2} == phone.ask("POST", "/v1/auth/log-out-everywhere").json()
    assert 401 == renewed(laptop).status_code
    assert (401, "unauthenticated") == code_of(laptop.ask("GET", "/v1/me/keys"))
    laptop.take(laptop.log_in())
    phone.take(phone.log_in())
    wrong = phone.ask("POST", "/v1/auth/password", json={"old": "not this one", "new": "seven quiet geese"})
    assert (403, "wrong_password") == code_of(wrong)
    phone.take(phone.ask("POST", "/v1/auth/password", json={"old": PASSWORD, "new": "seven quiet geese"}))
    assert 401 == renewed(laptop).status_code
    assert 200 == renewed(phone).status_code
    assert (401, "wrong_login") == code_of(phone.log_in())
    assert 200 == phone.log_in("seven quiet geese").status_code


def test_a_log_in_that_was_planted_is_not_gone_on_with(api: ApiProcess) -> None:
    """Session fixation: what the browser had before a log-in is ended by it, and never becomes the victim's."""
    attacker, victim = signed_up(api), signed_up(api)
    planted = attacker.refresh
    victim.client.cookies.clear()
    victim.client.cookies.set(COOKIE, planted, domain="127.0.0.1", path="/v1/auth")
    victim.take(victim.log_in())
    assert planted != victim.refresh
    assert 401 == renewed(attacker, planted).status_code
    assert 200 == renewed(victim).status_code


def test_another_sites_page_can_do_nothing_with_the_cookie(api: ApiProcess) -> None:
    ada = signed_up(api)
    host = api.url.removeprefix("http://")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"http://{host}"},
        {"Origin": "null"},
    ):
        for path in ("refresh", "log-out"):
            reply = ada.client.post(f"/v1/auth/{path}", headers=headers)
            assert (403, "cross_site") == code_of(reply), headers
    own = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
    reply = ada.client.post("/v1/auth/refresh", headers=own)
    assert 200 == reply.status_code and "access-control-allow-origin" not in reply.headers
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in ada.client.options("/v1/me/keys", headers=preflight).headers


def test_keys_do_what_their_scopes_say_and_their_owner_may(api: ApiProcess) -> None:
    owner, admin = made(api, "importer", "host"), made(api, "admin")
    asked = owner.ask("POST", "/v1/me/keys", json={"name": "nightly", "scopes": ["importer"], "days": 7})
    assert 201 == asked.status_code, asked.text
    key = asked.json()
    use = {"X-API-Key": key["key"]}
    handlers = f"{api.url}/internal/handlers"
    assert 200 == httpx.get(handlers, headers=use, timeout=60).status_code
    shown = owner.ask("GET", "/v1/me/keys")
    assert key["key"] not in shown.text and shown.json()["keys"][0]["used_at"]
    kept = rows(api, "select digest from api_keys where key_id = %s", key["key_id"])[0][0]
    assert 32 == len(kept) and key["key"].rpartition("_")[2].encode() not in bytes(kept)
    # No scope beyond the owner's roles, none to administer, and no key makes keys or looks after accounts.
    beyond = owner.ask("POST", "/v1/me/keys", json={"name": "n", "scopes": ["analyst"]})
    assert (403, "forbidden") == code_of(beyond)
    assert 422 == admin.ask("POST", "/v1/me/keys", json={"name": "n", "scopes": ["admin"]}).status_code
    for method, path in (
        ("POST", "/v1/me/keys"),
        ("GET", "/v1/admin/users"),
        ("POST", "/v1/auth/log-out-everywhere"),
    ):
        body = {"name": "n", "scopes": ["player"]} if path.endswith("keys") else None
        reply = httpx.request(method, f"{api.url}{path}", json=body, headers=use, timeout=60)
        assert (403, "account_needed") == code_of(reply), path
    # What the owner loses, the key loses.
    set_roles = f"/v1/admin/users/{owner.user_id}/roles"
    assert 200 == admin.ask("PUT", set_roles, json={"roles": ["player"]}).status_code
    assert (401, "unauthenticated") == code_of(httpx.get(handlers, headers=use, timeout=60))
    admin.ask("PUT", set_roles, json={"roles": ["importer"]}).raise_for_status()
    assert 200 == httpx.get(handlers, headers=use, timeout=60).status_code
    ended = owner.ask("DELETE", f"/v1/me/keys/{key['key_id']}")
    assert 200 == ended.status_code and ended.json()["ended_at"]
    assert (401, "unauthenticated") == code_of(httpx.get(handlers, headers=use, timeout=60))
    stranger = signed_up(api)
    assert (404, "unknown_key") == code_of(stranger.ask("DELETE", f"/v1/me/keys/{key['key_id']}"))


def test_no_kind_of_token_is_taken_for_another(api: ApiProcess) -> None:
    owner = made(api, "importer")
    key = owner.ask("POST", "/v1/me/keys", json={"name": "n", "scopes": ["importer"]}).json()["key"]
    session = opened(api)
    seat = seated(api, session["pin"])["token"]
    claims = jwt.decode(owner.token, JWT_KEY, algorithms=["HS256"], issuer="lakeboard")
    bad = {
        "none": jwt.encode(claims, "", algorithm="none"),
        "another key": jwt.encode(claims, JWT_KEY + "x", algorithm="HS256"),
        "another algorithm": jwt.encode(claims, JWT_KEY + 64 * "x", algorithm="HS512"),
        "expired": jwt.encode({**claims, "exp": 1}, JWT_KEY, algorithm="HS256"),
        "another issuer": jwt.encode({**claims, "iss": "elsewhere"}, JWT_KEY, algorithm="HS256"),
        "no such kind": jwt.encode({**claims, "kind": "key"}, JWT_KEY, algorithm="HS256"),
        "deployment": jwt.encode({**claims, "kind": "deployment"}, JWT_KEY, algorithm="HS256"),
        "no such role": jwt.encode({**claims, "roles": ["root"]}, JWT_KEY, algorithm="HS256"),
        "another's log-in": jwt.encode({**claims, "sub": "somebody"}, JWT_KEY, algorithm="HS256"),
        "a log-in that is none": jwt.encode({**claims, "login": "x"}, JWT_KEY, algorithm="HS256"),
        "refresh": owner.refresh,
        "key": key,
        "importer's key": IMPORTER_KEY,
    }
    for what, token in bad.items():
        reply = httpx.get(f"{api.url}/v1/me/keys", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        assert (401, "unauthenticated") == code_of(reply), what
        assert token not in reply.text or not token
    for what, token in {**bad, "access": owner.token, "seat": seat}.items():
        if what in ("key", "importer's key"):
            continue
        reply = httpx.get(f"{api.url}/internal/handlers", headers={"X-API-Key": token}, timeout=60)
        assert (401, "unauthenticated") == code_of(reply), what
    # A seat is nobody's account; an access token is no cookie.
    reply = httpx.get(f"{api.url}/v1/me/keys", headers={"Authorization": f"Bearer {seat}"}, timeout=60)
    assert (403, "account_needed") == code_of(reply)
    for token in (owner.token, seat, key):
        assert 401 == renewed(owner, token).status_code
    # Roles come from Postgres, whatever a token that we signed says.
    grown = jwt.encode({**claims, "roles": ["admin"], "role": "admin"}, JWT_KEY, algorithm="HS256")
    reply = httpx.get(f"{api.url}/v1/admin/users", headers={"Authorization": f"Bearer {grown}"}, timeout=60)
    assert (403, "forbidden") == code_of(reply)


@pytest.fixture
def own(tmp_path: Path, valkey_urls: list[str], postgres_url: str) -> Iterator[ApiProcess]:
    """An api whose database has no other admins."""
    process = ApiProcess(tmp_path, valkey_urls, postgres_url)
    yield process
    process.stop()


def test_admins_block_give_roles_and_cannot_all_go(own: ApiProcess) -> None:
    first, pupil = made(own, "admin"), signed_up(own, "Pupil 50%")
    for path, body in ((f"/v1/admin/users/{first.user_id}/roles", {"roles": ["player"]}),):
        assert (409, "last_admin") == code_of(first.ask("PUT", path, json=body))
    assert (409, "last_admin") == code_of(first.ask("POST", f"/v1/admin/users/{first.user_id}/block"))
    found = first.ask("GET", "/v1/admin/users", params={"part": "50%"}).json()["users"]
    assert [pupil.login_name] == [one["login_name"] for one in found]
    assert 2 == len(first.ask("GET", "/v1/admin/users", params={"limit": 200}).json()["users"])
    page = first.ask("GET", "/v1/admin/users", params={"limit": 1}).json()
    rest = first.ask("GET", "/v1/admin/users", params={"limit": 1, "after": page["next"]}).json()
    assert {first.user_id, pupil.user_id} == {one["user_id"] for one in page["users"] + rest["users"]}
    assert (403, "forbidden") == code_of(pupil.ask("GET", "/v1/admin/users"))
    first.ask("PUT", f"/v1/admin/users/{pupil.user_id}/roles", json={"roles": ["admin"]}).raise_for_status()
    assert 200 == pupil.ask("GET", "/v1/admin/users").status_code
    # Two admins who take each other's role at once: one stays.
    with ThreadPoolExecutor(2) as pool:
        both = [(first, pupil), (pupil, first)]
        done = list(
            pool.map(
                lambda pair: pair[0].ask(
                    "PUT", f"/v1/admin/users/{pair[1].user_id}/roles", json={"roles": ["player"]}
                ),
                both,
            )
        )
    admins = rows(own, "select user_id from accounts where 'admin' = any(roles)")
    assert 1 == len(admins), [one.text for one in done]
    admin, other = (first, pupil) if admins[0][0] == first.user_id else (pupil, first)
    admin.ask("POST", f"/v1/admin/users/{other.user_id}/block").raise_for_status()
    assert (401, "unauthenticated") == code_of(other.ask("GET", "/v1/me/keys"))
    assert 401 == renewed(other).status_code
    blocked = other.log_in()
    assert (401, "wrong_login") == code_of(blocked)
    admin.ask("POST", f"/v1/admin/users/{other.user_id}/unblock").raise_for_status()
    other.take(other.log_in())
    # A ticket sets a password once; nobody else learns it, and the log has neither.
    ticket = admin.ask("POST", f"/v1/admin/users/{other.user_id}/ticket").json()["ticket"]
    other.take(other.client.post("/v1/auth/ticket", json={"ticket": ticket, "password": "seven quiet geese"}))
    again = other.client.post("/v1/auth/ticket", json={"ticket": ticket, "password": "seven quiet geese"})
    assert (403, "wrong_ticket") == code_of(again)
    log = admin.ask("GET", "/v1/admin/audit", params={"limit": 200}).json()["entries"]
    assert ["account.ticket", "account.unblock", "account.block"] == [one["action"] for one in log[:3]]
    assert "operator" == log[-1]["actor"] and "account.add" == log[-1]["action"]
    assert ticket not in json.dumps(log) and ticket not in own.log.read_text()
    with psycopg.connect(own.settings["postgres_url"]) as sql:
        for statement in (
            "update audit_log set actor = 'x'",
            "delete from audit_log",
            "truncate audit_log",
        ):
            with pytest.raises(psycopg.errors.RaiseException), sql.transaction():
                sql.execute(statement)
