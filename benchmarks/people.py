"""Profiles, quizzes and log-ins beside play: how fast a profile or a quiz is read, and what hashing passwords costs those
who play.

    ./lakeboard bench people [--seconds 20 --players 100 --rate 100 --reads 1000 --log-ins 50]

Starts a stack of its own and plays hosted sessions over sockets in each phase, on a schedule that does not wait: alone, beside
reads of profiles over HTTP, beside as many reads of the same rows from Postgres (what is compared: no cache, no HTTP, the
pool that the api has), beside the same two for the starter quizzes as others see them, and beside log-ins. At the end, in this
process, what an event loop feels of as many hashes on the api's threads, and on the loop itself.

Claims: a cached profile or quiz under 5 ms p99 at 1,000/s beside play; log-ins leave the p99 of answers where it was. Prints
one JSON document, in it `ratio`: HTTP's p50 and p99 ÷ those of Postgres. Exit 1 if a read or a log-in failed, or an answer was
refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from psycopg_pool import AsyncConnectionPool

from benchmarks.live import percentile
from benchmarks.load.game import Crowd
from benchmarks.load.lean_http import LeanHttp
from benchmarks.load.stack import Stack, add_quiz, even_quizzes, own_stack
from serving.access.passwords import HASHER, Passwords
from serving.connections import POSTGRES_CONNECTIONS
from serving.quizzes.shown import COLUMNS
from serving.quizzes.starter import starter_quizzes

PASSWORD = "rope tin lake 7"
USERS = 2_000
SESSION_SIZE = 25
# The loop's own clock in the comparison of hashes: how late a sleep of this long ends.
TICK_S = 0.005


async def paced(rate: float, seconds: float, ask: Callable[[], Awaitable[bool]]) -> dict[str, Any]:
    """Asks so often a second, whether or not replies have come; a latency counts from when it was due."""
    took: list[float] = []
    wrong = 0

    async def one(due: float) -> None:
        nonlocal wrong
        try:
            good = await ask()
        except OSError:
            good = False
        took.append(time.perf_counter() - due)
        wrong += not good

    began, asked, tasks = time.perf_counter(), 0, set()
    while (now := time.perf_counter()) < began + seconds:
        while began + asked / rate <= now:
            task = asyncio.create_task(one(began + asked / rate))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            asked += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    return {
        "per_s": round(asked / seconds, 1),
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "failed": wrong,
    }


async def beside_play(stack: Stack, args: argparse.Namespace, work: Awaitable[Any] | None) -> dict[str, Any]:
    """Play with `work` beside it: what the answers took, and what the work says."""
    crowd = Crowd(stack, even_quizzes(stack))
    await crowd.join(args.players, SESSION_SIZE)
    await crowd.connect()
    round_s = args.players / args.rate
    beside = asyncio.ensure_future(work) if work is not None else None
    await crowd.play(args.seconds, round_s)
    found = await beside if beside is not None else None
    counts = crowd.counts
    crowd.close()
    return {
        "ack_p50_ms": percentile(counts.ack_s, 0.5),
        "ack_p99_ms": percentile(counts.ack_s, 0.99),
        "answers": len(counts.acknowledged),
        "errors": sum(counts.errors.values()),
        **({"work": found} if found is not None else {}),
    }


def add_people(stack: Stack) -> None:
    """Accounts with one password: its hash is made once."""
    with stack.sql() as sql:
        sql.execute(
            "insert into users (user_id, name, origin) select 'b' || n, 'Person ' || n, 'live' "
            "from generate_series(1, %s) n",
            [USERS],
        )
        sql.execute(
            "insert into accounts (user_id, login_name, password, roles) select 'b' || n, 'b' || n, %s, '{player}' "
            "from generate_series(1, %s) n",
            [HASHER.hash(PASSWORD), USERS],
        )


async def reads(
    stack: Stack, args: argparse.Namespace, doors: list[LeanHttp], paths: list[str], query: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Play beside reads of some paths over HTTP, from a cache that is filled, and beside reads of their rows from Postgres."""

    async def over_http() -> bool:
        status, _ = await random.choice(doors).request("GET", random.choice(paths))
        return status == 200

    for number, path in enumerate(paths):  # the cache as it is while people play
        await doors[number % len(doors)].request("GET", path)
    cached = await beside_play(stack, args, paced(args.reads, args.seconds, over_http))
    async with AsyncConnectionPool(
        stack.settings.postgres_url,
        max_size=POSTGRES_CONNECTIONS * len(doors),
        open=False,
        kwargs={"autocommit": True},
    ) as pool:

        async def row() -> bool:
            ident = random.choice(paths).rpartition("/")[2]
            async with pool.connection(timeout=30) as sql:
                return await (await sql.execute(query, [ident])).fetchone() is not None

        rows = await beside_play(stack, args, paced(args.reads, args.seconds, row))
    cached["ratio"] = {
        name: round(cached["work"][name] / rows["work"][name], 2) for name in ("p50_ms", "p99_ms")
    }
    return cached, rows


async def measure(stack: Stack, args: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one run."""
    doors = [LeanHttp(port, 64) for port in stack.settings.api_ports]

    async def log_in() -> bool:
        body = json.dumps({"login_name": f"b{random.randint(1, USERS)}", "password": PASSWORD}).encode()
        status, _ = await random.choice(doors).request("POST", "/v1/auth/log-in", body)
        return status == 200

    found: dict[str, Any] = {"play": await beside_play(stack, args, None)}
    users = [f"/v1/users/b{number}" for number in range(1, USERS + 1)]
    query = "select name, avatar, anonymous from users where user_id = %s"
    found["profiles"], found["postgres"] = await reads(stack, args, doors, users, query)
    quizzes = [f"/v1/quizzes/{quiz.quiz_id}" for quiz in starter_quizzes()]
    query = f"select owner_id, published_at, {COLUMNS} from quizzes where quiz_id = %s"
    found["quizzes"], found["quizzes_postgres"] = await reads(stack, args, doors, quizzes, query)
    found["log_ins"] = await beside_play(stack, args, paced(args.log_ins, args.seconds, log_in))
    for door in doors:
        door.close()
    return found


async def loop_delay(
    rate: float, seconds: float, hash_one: Callable[[], Awaitable[Any]] | None
) -> float | None:
    """How late the loop's own clock is at the p99, ms, while so many hashes a second are asked for."""
    late: list[float] = []
    over = time.perf_counter() + seconds

    async def tick() -> None:
        while (now := time.perf_counter()) < over:
            await asyncio.sleep(TICK_S)
            late.append(time.perf_counter() - now - TICK_S)

    ticking = asyncio.create_task(tick())
    if hash_one is not None:
        await paced(rate, seconds, _true(hash_one))
    await ticking
    return percentile(late, 0.99)


def _true(work: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[bool]]:
    async def done() -> bool:
        await work()
        return True

    return done


async def delays(rate: float) -> dict[str, float | None]:
    """The loop's delay alone, with hashes on threads, and with hashes on the loop."""
    passwords = Passwords(most_waiting=10_000)
    seconds = 5.0

    async def on_loop() -> None:
        HASHER.hash(PASSWORD)

    found = {
        "alone_p99_ms": await loop_delay(rate, seconds, None),
        "on_threads_p99_ms": await loop_delay(rate, seconds, lambda: passwords.hash(PASSWORD)),
        "on_the_loop_p99_ms": await loop_delay(rate, seconds, on_loop),
    }
    passwords.end()
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="people", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("--seconds", type=int, default=20)
    arguments.add_argument("--players", type=int, default=100)
    arguments.add_argument(
        "--rate", type=float, default=100.0, help="answers a second of all players together"
    )
    arguments.add_argument("--reads", type=float, default=1_000.0, help="profiles or quizzes a second")
    arguments.add_argument("--log-ins", type=float, default=50.0, help="log-ins a second")
    arguments.add_argument("--json", action="store_true", help="the output is always one JSON document")
    args = arguments.parse_args()
    for limit in ("LOGINS", "PASSWORDS"):  # all come from one address here
        os.environ[f"LAKEBOARD_LIMIT_{limit}"] = ""
    uvloop.install()
    with own_stack("live") as stack:
        add_people(stack)
        with stack.sql() as sql:
            for quiz in even_quizzes(stack):
                add_quiz(sql, quiz, round(args.seconds * args.rate / args.players) + 3)
        found = asyncio.run(measure(stack, args))
    found["loop"] = asyncio.run(delays(args.log_ins))
    found |= {"processors": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()]}
    print(json.dumps(found))
    phases = [phase for phase in found.values() if isinstance(phase, dict) and "errors" in phase]
    failed = sum(phase["errors"] + phase.get("work", {}).get("failed", 0) for phase in phases)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
