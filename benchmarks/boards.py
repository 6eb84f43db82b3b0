"""Reads of one board of a million members: over HTTP from one api process, and by plain redis-py from the same server.

    ./lakeboard bench boards [--members 1000000 --seconds 5 --connections 64]
    ./lakeboard bench boards --url 'rank=http://host/lb/rank/{user}' --url 'top10=http://host/lb/top/10' …

Starts a Valkey (append-only file synced), a Postgres and one api process. Each read is asked for one of the best `--asked`
members at random, whose names are in the cache as those of who plays now are, over kept connections, as fast as replies come;
redis-py's rows are one process calling in turn, and pipelines of as many calls as there are connections. `submit` is an answer
over HTTP, scored, kept and synced; redis-py's is ZINCRBY alone. With --url the same generator asks another leaderboard instead;
{user} is replaced. Prints one JSON document.

Claims: rank 6,000/s, around-me 3,500/s, top-10 4,000/s over HTTP from one process on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import uvloop
from redis import Redis
from rich.console import Console

from benchmarks.load.lean_http import LeanHttp
from contracts import names
from contracts.ranking import pack
from contracts.replies import MAX_M
from tests.services.daemons import start_postgres, start_valkey
from tests.serving.api_process import IMPORTER_KEY, ApiProcess

_SHOW = Console(stderr=True)
QUIZ = "starter-a1"
KEY = names.board(f"quiz:{QUIZ}", "all_time", date(1970, 1, 1))
READS = {"rank": "k=0&users={user}", "around_me": "k=0&around={user}&m=5", "top10": "k=10"}
FILL_ROWS = 10_000


def fill(url: str, members: int) -> None:
    """A board with so many members, points spread widely."""
    with Redis.from_url(url) as client:
        for at in range(0, members, FILL_ROWS):
            rows = {
                f"u{n:08d}": pack(random.randrange(1, 1_000_000), n % 4_000_000)
                for n in range(at, at + FILL_ROWS)
            }
            client.zadd(KEY, rows)


async def over_http(path_of: Callable[[], str], port: int, host: str, args: argparse.Namespace) -> float:
    """Replies a second to random requests, the connections asking side by side."""
    http = LeanHttp(port, args.connections, host)
    done, over = 0, time.perf_counter() + args.seconds

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < over:
            status, body = await http.request("GET", path_of())
            if status != 200:
                raise RuntimeError(f"{path_of()} answered {status}: {body[:200]!r}")
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(args.connections)))
    http.close()
    return done / (time.perf_counter() - began)


def by_redis_py(url: str, read: str, args: argparse.Namespace) -> dict[str, float]:
    """The same reads with redis-py: calls in turn, and in pipelines."""

    def ask(client: Any, user: str) -> None:
        if read == "rank":
            client.zrevrank(KEY, user)
            client.zscore(KEY, user)
        elif read == "top10":
            client.zrevrange(KEY, 0, 9, withscores=True)
        else:
            at = client.zrevrank(KEY, user)
            at = (
                at if isinstance(at, int) else random.randrange(args.members)
            )  # a pipeline knows no place yet
            client.zrevrange(KEY, max(at - 5, 0), at + 5, withscores=True)

    found = {}
    with Redis.from_url(url) as client:
        for name, at_once in (("in_turn", 1), ("pipelined", args.connections)):
            done, began = 0, time.perf_counter()
            while (took := time.perf_counter() - began) < args.seconds:
                if at_once == 1:
                    ask(client, somebody(args))
                else:
                    with client.pipeline(transaction=False) as pipe:
                        for _ in range(at_once):
                            ask(pipe, somebody(args))
                        pipe.execute()
                done += at_once
            found[name] = round(done / took, 1)
    return found


def somebody(args: argparse.Namespace) -> str:
    """One of those who are asked for."""
    return str(random.choice(args.who))


def make_users(shard_url: str, postgres_url: str, asked: int) -> list[str]:
    """The best of the board as users with names, with their neighbours; those who are asked for."""
    with Redis.from_url(shard_url) as client:
        best = [member.decode() for member in client.zrevrange(KEY, 0, asked + 2 * MAX_M)]
    with psycopg.connect(postgres_url) as sql:
        sql.execute(
            "INSERT INTO users (user_id, name, origin) SELECT one, 'Learner ' || one, 'import' FROM unnest(%s::text[]) one",
            [best],
        )
    return best[:asked]


def warm(url: str, board: str, who: list[str]) -> None:
    """Asks for everybody's place once, with the neighbours'."""
    with httpx.Client(base_url=url) as client:
        for user in who[:: 2 * MAX_M]:
            client.get(f"{board}?k=0&around={user}&m={MAX_M}").raise_for_status()


async def submits(api: ApiProcess, args: argparse.Namespace) -> float:
    """Answers a second over HTTP to one process, each with its points, total and rank in the reply."""
    http = LeanHttp(api.port, args.connections)
    key = {"X-API-Key": IMPORTER_KEY}

    async def post(path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        status, reply = await http.request("POST", path, json.dumps(body).encode(), headers)
        if status not in (200, 201):
            raise RuntimeError(f"{path} answered {status}: {reply[:200]!r}")
        return json.loads(reply)

    session = await post("/v1/sessions", {"quiz_id": QUIZ}, key)
    path = f"/v1/sessions/{session['session_id']}"
    count = int(args.seconds * 400)
    turns = asyncio.Semaphore(8)

    async def join(number: int) -> dict[str, str]:
        async with turns:
            joined = await post("/v1/join", {"pin": session["pin"], "name": f"p{number}"}, key)
        return {"Authorization": f"Bearer {joined['token']}"}

    players = await asyncio.gather(*(join(number) for number in range(count)))
    await post(f"{path}/next", {}, {"Authorization": f"Bearer {session['token']}"})
    _, shown = await http.request("GET", path)
    question = json.loads(shown)["current"]
    answer = {"question_id": question["question_id"], "choice": question["choices"][0]}
    began = time.perf_counter()
    await asyncio.gather(*(post(f"{path}/answers", answer, player) for player in players))
    http.close()
    return count / (time.perf_counter() - began)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Every figure; ratios are HTTP ÷ redis-py in turn, on the same server in the same run."""
    shard, postgres = start_valkey(folder / "valkey"), start_postgres(folder / "postgres")
    api = None
    try:
        with _SHOW.status(f"{args.members} members"):
            fill(shard.url, args.members)
        api = ApiProcess(folder / "api", [shard.url], postgres.new_database())
        args.who = make_users(shard.url, api.settings["postgres_url"], args.asked)
        found: dict[str, Any] = {}
        board = f"/v1/leaderboards/quiz:{QUIZ}/all_time/current"
        asyncio.run(
            over_http(
                lambda: f"{board}?k=1", api.port, "127.0.0.1", argparse.Namespace(connections=1, seconds=0.2)
            )
        )
        with _SHOW.status("names into the cache"):
            warm(api.url, board, args.who)
        for read, query in READS.items():
            with _SHOW.status(read):

                def path_of(query: str = query) -> str:
                    return f"{board}?{query.format(user=somebody(args))}"

                def routed_path(query: str = query) -> str:
                    return f"{board}?{query.format(user=somebody(args))}&explain=false"

                http = asyncio.run(over_http(path_of, api.port, "127.0.0.1", args))
                routed = asyncio.run(over_http(routed_path, api.port, "127.0.0.1", args))
                plain = by_redis_py(shard.url, read, args)
            found[read] = {
                "http_per_s": round(http, 1),
                "http_routed_per_s": round(routed, 1),
                "redis_py": plain,
                "ratio": round(http / plain["in_turn"], 2),
            }
        with _SHOW.status("submit"):
            http = asyncio.run(submits(api, args))
        with Redis.from_url(shard.url) as client:
            done, began = 0, time.perf_counter()
            while (took := time.perf_counter() - began) < args.seconds:
                client.zincrby(KEY, 1 << 22, somebody(args))
                done += 1
        found["submit"] = {
            "http_per_s": round(http, 1),
            "redis_py": {"in_turn": round(done / took, 1)},
            "ratio": round(http / (done / took), 2),
        }
        return found
    finally:
        if api is not None:
            api.stop()
        postgres.stop()
        shard.stop()


def elsewhere(args: argparse.Namespace) -> dict[str, Any]:
    """Requests a second to other addresses, by the same generator."""
    found = {}
    for named in args.url:
        name, _, url = named.partition("=")
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")

        def path_of(path: str = path) -> str:
            return path.replace("{user}", somebody(args))

        rate = asyncio.run(over_http(path_of, parts.port or 80, parts.hostname or "127.0.0.1", args))
        found[name] = {"http_per_s": round(rate, 1)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="boards", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=5_000, help="members who are asked for")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--url", action="append", default=[], help="NAME=URL of another leaderboard; may be repeated"
    )
    args = parser.parse_args()
    uvloop.install()
    if args.url:
        args.who = [f"u{random.randrange(args.members):08d}" for _ in range(args.asked)]
        found = elsewhere(args)
    else:
        with tempfile.TemporaryDirectory(prefix="lakeboard-bench-") as folder:
            found = measure(Path(folder), args)
    about = {
        "members": args.members,
        "asked": args.asked,
        "connections": args.connections,
        "processors": os.cpu_count(),
    }
    print(json.dumps({**about, **found, "load": [round(value, 1) for value in os.getloadavg()]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
