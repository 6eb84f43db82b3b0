"""The lean way of a board's reply: the route's very bytes, or none at all."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from contracts.errors import BadInput
from contracts.replies import DEFAULT_K, DEFAULT_M, Wanted
from serving.leaderboards.lean import wanted_of
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice

QUERIES = (
    "",
    "k=2",
    "k=0&around={user}",
    "k=1&around={user}&m=1",
    "users={user},nobody",
    "users={user},{user}&k=3&m=0&around=nobody",
    "around=",
)


def lean_reads(api: ApiProcess) -> float:
    lines = httpx.get(f"{api.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("lakeboard_lean_reads_total "))


def _told(reply: httpx.Response) -> dict[str, Any]:
    """All of a reply but the instant at which it was read, and the digest of that."""
    document = reply.json()
    assert reply.headers["etag"] and reply.headers["cache-control"] == "private, no-cache"
    del document["provenance"]["as_of"]
    headers = {name: reply.headers[name] for name in ("content-type", "cache-control")}
    return {"status": reply.status_code, "keys": list(document), **headers, **document}


@pytest.mark.service
@pytest.mark.parametrize("scope", ["quiz:starter-a1", "global"])
@pytest.mark.parametrize("period", ["daily/current", "monthly/current", "all_time/current"])
def test_both_ways_say_the_same(api: ApiProcess, scope: str, period: str) -> None:
    table = Table(api, "Ada", "Grace", "Łukasz")
    table.host("next").raise_for_status()
    question = table.current()
    for player in range(3):
        table.answer(player, question, right_choice(question)).raise_for_status()
    user = table.players[0]["user_id"]
    url = f"{api.url}/v1/leaderboards/{scope}/{period}"
    httpx.get(url).raise_for_status()  # the route learns the zone and the rules
    for query in QUERIES:
        query = query.format(user=user)
        before = lean_reads(api)
        lean = httpx.get(f"{url}?{query}")
        if before == lean_reads(
            api
        ):  # the rules that it knew are 10 s old: that request has learned them anew
            lean = httpx.get(f"{url}?{query}")
        assert before + 1 == lean_reads(api), query
        routed = httpx.get(f"{url}?{query}&explain=false")
        assert before + 1 == lean_reads(api), query
        assert _told(routed) == _told(lean), query
        assert lean.content == json.dumps(lean.json(), ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.service
def test_what_is_not_plain_or_wrong_is_the_routes(api: ApiProcess) -> None:
    url = f"{api.url}/v1/leaderboards/quiz:starter-a1"
    httpx.get(f"{url}/daily/current").raise_for_status()
    before = lean_reads(api)
    for path, status in (
        ("/daily/current?k=1001", 422),
        ("/daily/current?k=x", 422),
        ("/daily/current?k=1&k=2", 200),
        ("/daily/current?around=a%2Fb", 422),
        ("/daily/current?around=a,b", 422),
        ("/hourly/current", 422),
        ("/daily/2026-01-99", 422),
        ("/weekly/2026-01-06", 422),
        ("/daily/1999-01-01", 404),
    ):
        reply = httpx.get(url + path)
        assert status == reply.status_code, path
        assert status == 200 or reply.json()["code"], path
    first = httpx.get(f"{url}/daily/current?k=1", headers={"If-None-Match": "*"})
    assert (304, before) == (first.status_code, lean_reads(api))


@pytest.mark.unit
def test_a_plain_query_is_read_and_no_other() -> None:
    assert Wanted(DEFAULT_K, "", DEFAULT_M, ()) == wanted_of("")
    assert Wanted(3, "u1", 0, ("a", "b")) == wanted_of("k=3&around=u1&m=0&users=a,b,a")
    for other in ("explain=true", "k=-1", "around=%41", "around=a+b", "k=1;m=2", "k", "users=a&users=b"):
        assert wanted_of(other) is None, other
    with pytest.raises(BadInput):
        wanted_of("around=a,b")
