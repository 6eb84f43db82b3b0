"""Guessing, flooding, listing names, injecting: what an attacker from outside gets for it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import psycopg
import pytest
import redis
import websockets
from websockets.sync.client import connect

from serving.access.addresses import Lists
from tests.services.daemons import Daemon, start_valkey
from tests.serving.access.people import PASSWORD, made, opened, seated, signed_up, somebody
from tests.serving.api_process import ApiProcess

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A shard of its own: nobody else is counted there."""
    daemon = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, shard: Daemon, new_postgres_url: object
) -> Iterator[ApiProcess]:
    """An api with limits on guessing."""
    process = ApiProcess(
        tmp_path_factory.mktemp("guarded"),
        [shard.url],
        new_postgres_url(),  # type: ignore[operator]
        limit_logins="60/minute",
        limit_sign_ups="20/minute",
        limit_passwords="5/minute",
    )
    yield process
    process.stop()


def tries(api: ApiProcess, login_name: str, times: int, address: str) -> Counter[tuple[int, str]]:
    body = {"login_name": login_name, "password": "a wrong password"}
    headers = {"X-Forwarded-For": address}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as client:
        replies = [client.post("/v1/auth/log-in", json=body) for _ in range(times)]
    return Counter((reply.status_code, reply.json()["code"]) for reply in replies)


def test_guessing_is_bounded_by_name_wherever_it_comes_from(guarded: ApiProcess) -> None:
    ada = signed_up(guarded)
    found = tries(guarded, ada.login_name, 4, "198.51.100.1") + tries(
        guarded, ada.login_name, 4, "198.51.100.2"
    )
    assert {(401, "wrong_login"): 5, (429, "too_many_requests"): 3} == found
    # A name that nobody has is counted alike; another name is not touched.
    found = tries(guarded, somebody(guarded).login_name, 8, "198.51.100.3")
    assert {(401, "wrong_login"): 5, (429, "too_many_requests"): 3} == found
    grace = signed_up(guarded)
    assert 200 == grace.log_in().status_code
    # However the name is written.
    assert {(429, "too_many_requests"): 1} == tries(guarded, f" {ada.login_name.upper()} ", 1, "198.51.100.4")


def test_guessing_is_bounded_by_address_whatever_the_name(guarded: ApiProcess) -> None:
    body = {"login_name": "", "password": "a wrong password"}
    codes: Counter[int] = Counter()
    with httpx.Client(base_url=guarded.url, headers={"X-Forwarded-For": "203.0.113.5"}, timeout=60) as client:
        for number in range(66):
            reply = client.post("/v1/auth/log-in", json={**body, "login_name": f"name-{number}"})
            codes[reply.status_code] += 1
    assert {401: 60, 429: 6} == codes


def test_no_reply_tells_which_names_there_are(api: ApiProcess) -> None:
    there, gone, blocked = signed_up(api), somebody(api), signed_up(api)
    admin = made(api, "admin")
    admin.ask("POST", f"/v1/admin/users/{blocked.user_id}/block").raise_for_status()
    waiting = admin.ask(
        "POST", "/v1/admin/users", json={"login_name": somebody(api).login_name, "name": "N"}
    ).json()
    assert waiting["ticket"]
    texts, times = set(), {there.login_name: [], gone.login_name: [], blocked.login_name: []}
    with httpx.Client(base_url=api.url, timeout=60) as client:
        for _ in range(15):
            for name, took in times.items():
                began = time.perf_counter()
                reply = client.post(
                    "/v1/auth/log-in", json={"login_name": name, "password": "a wrong password"}
                )
                took.append(time.perf_counter() - began)
                texts.add((reply.status_code, reply.text))
    assert 1 == len(texts)
    medians = [statistics.median(took) for took in times.values()]
    # The hash is most of it: without it an unknown name would be answered in a tenth of the time.
    assert max(medians) < 2.5 * min(medians), medians


HOSTILE = [
    "'; drop table accounts; --",
    '" or 1=1 --',
    "%' or '1'='1",
    "a\nWARNING forged line user=admin",
    "a\r\nX-Injected: 1",
    "a\x00b",
    "*",
    "${jndi:ldap://x}",
    "..\\..\\x",
    "\u202egnp.exe",
    "𝓪𝓭𝓶𝓲𝓷" * 20,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_typed_stays_text(guarded: ApiProcess, shard: Daemon, text: str) -> None:
    """In SQL, in Redis keys, in the log; and the answer is never a fault of ours."""
    client = httpx.Client(
        base_url=guarded.url, headers={"X-Forwarded-For": f"198.18.0.{HOSTILE.index(text)}"}, timeout=60
    )
    body = {"login_name": text, "password": PASSWORD, "name": text}
    admin = made(guarded, "admin") if text == HOSTILE[0] else None
    replies = [
        client.post("/v1/auth/sign-up", json=body),
        client.post("/v1/auth/log-in", json={k: body[k] for k in ("login_name", "password")}),
        client.post("/v1/auth/ticket", json={"ticket": text, "password": PASSWORD}),
        client.post("/v1/auth/refresh", headers={"Cookie": f"lakeboard_refresh={quote(text)}"}),
        client.get(f"/v1/users/{quote(text, safe='')}"),
    ]
    if admin:
        replies += [
            admin.ask("GET", "/v1/admin/users", params={"part": one[:100], "after": one[:100]})
            for one in HOSTILE
        ]
        replies += [admin.ask("PUT", f"/v1/admin/users/{'%00'}/roles", json={"roles": []})]
    assert [] == [(reply.status_code, reply.text) for reply in replies if reply.status_code >= 500]
    with psycopg.connect(guarded.settings["postgres_url"]) as sql:
        assert (sql.execute("select count(*) from accounts").fetchone() or (0,))[0] > 0
    keys = redis.Redis.from_url(shard.url).keys("*")
    assert not any(text.encode() in key for key in keys if len(text) > 1)
    assert "\nWARNING forged" not in guarded.log.read_text()


def test_secrets_are_in_no_log(guarded: ApiProcess) -> None:
    ada = signed_up(guarded)
    key = ada.ask("POST", "/v1/me/keys", json={"name": "n", "scopes": ["player"]}).json()["key"]
    refresh = ada.refresh
    ada.client.post("/v1/auth/refresh").raise_for_status()
    ada.client.post("/v1/auth/refresh").raise_for_status()
    httpx.post(
        f"{guarded.url}/v1/auth/refresh", headers={"Cookie": f"lakeboard_refresh={refresh}"}, timeout=60
    )
    log = guarded.log.read_text()
    assert f"refresh_reused user_id={ada.user_id}" in log
    for secret in (PASSWORD, key, refresh, ada.refresh, ada.token, ada.login_name):
        assert secret not in log


def test_addresses_of_the_lists() -> None:
    lists = Lists(allowed=("192.0.2.0/24", "2001:db8::/32"), denied=("192.0.2.7/32",))
    for address in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "127.0.0.1", "::1", "testclient"):
        assert lists.allows(address), address
    for address in ("192.0.2.7", "198.51.100.1", "2001:db9::1", "::ffff:192.0.2.7"):
        assert not lists.allows(address), address
    assert Lists(denied=("0.0.0.0/0",)).allows("127.0.0.1") and not Lists(denied=("0.0.0.0/0",)).allows(
        "8.8.8.8"
    )


def test_a_denied_address_is_refused_everywhere_and_no_admin_shuts_himself_out(guarded: ApiProcess) -> None:
    admin = made(guarded, "admin")
    session = opened(guarded)
    seat = seated(guarded, session["pin"])
    far = {"X-Forwarded-For": "203.0.113.77"}
    look = f"{guarded.url}/v1/quizzes"
    assert 200 == httpx.get(look, headers=far, timeout=60).status_code
    rule = {"network": "203.0.113.64/26", "verdict": "deny", "note": "scans"}
    assert 200 == admin.ask("PUT", "/v1/admin/addresses", json=rule).status_code
    refused = httpx.get(look, headers=far, timeout=60)
    assert (403, "address_refused") == (refused.status_code, refused.json()["code"])
    address = guarded.url.replace("http", "ws") + f"/v1/live?token={seat['token']}"
    with pytest.raises(websockets.exceptions.InvalidStatus):
        connect(address, additional_headers=far)
    # What a client says beside the trusted proxy's word counts for nothing: the last hop is the sender.
    forged = {"X-Forwarded-For": "198.51.100.9, 203.0.113.77"}
    assert 403 == httpx.get(look, headers=forged, timeout=60).status_code
    assert (
        200
        == httpx.get(look, headers={"X-Forwarded-For": "203.0.113.77, 198.51.100.9"}, timeout=60).status_code
    )
    # Shutting out oneself is refused: as this admin comes from afar.
    admin.client.headers["X-Forwarded-For"] = "198.51.100.20"
    for body in (
        {"network": "198.51.100.0/24", "verdict": "deny"},
        {"network": "10.0.0.0/8", "verdict": "allow"},
    ):
        reply = admin.ask("PUT", "/v1/admin/addresses", json=body)
        assert (409, "would_lock_out") == (reply.status_code, reply.json()["code"])
    assert [rule["network"]] == [
        one["network"] for one in admin.ask("GET", "/v1/admin/addresses").json()["rules"]
    ]
    assert (
        422
        == admin.ask(
            "PUT", "/v1/admin/addresses", json={"network": "nonsense", "verdict": "deny"}
        ).status_code
    )
    admin.ask("DELETE", "/v1/admin/addresses", params={"network": rule["network"]}).raise_for_status()
    assert 200 == httpx.get(look, headers=far, timeout=60).status_code
    actions = [one["action"] for one in admin.ask("GET", "/v1/admin/audit").json()["entries"]]
    assert ["addresses.end", "addresses.put"] == actions[:2]
