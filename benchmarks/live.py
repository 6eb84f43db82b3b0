"""Players who answer on a schedule that does not wait: how fast, how many, what it costs, and whether all of it is kept.

    ./lakeboard bench live [--players 6000 --rate 2000 --seconds 60 --session-size 30 --apis 2] [--kafka | --replicas]

Starts a stack of its own (relay on, append-only files synced, on the disk that the clone is on) and plays hosted sessions
of 30 over sockets, generator and server on this machine. A latency counts from the moment at which the schedule wanted the
answer to be sent; `push` from a player's result to the board, on the same socket, that shows it. At the end the relay
drains, and history, the boards in Redis and the outboxes' numbers are compared with what players were told.

Claims (profile live): 10,000 answers/s for 60 s with p99 under 100 ms, no errors, drained within 60 s. --kafka: the relay
sends to Kafka too, and has drained when the topic's committed records are the outboxes' numbers. --replicas: a replica a
shard, which every answer waits for. Prints one JSON document; exit 1 if an answer that was acknowledged is not kept exactly
once, or anything was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from rich.console import Console

from benchmarks.load.game import FROM_SHARE, TO_SHARE, Crowd
from benchmarks.load.stack import (
    Stack,
    add_quiz,
    compare,
    even_quizzes,
    own_stack,
    until_in_kafka,
    until_relayed,
)
from cli.commands.stack import relay_lag

_SHOW = Console(stderr=True)
LAG_EVERY_S = 2.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """A value's ms at a share of the sorted values (in s); None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


class LagWatch(threading.Thread):
    """The relay's lag while it lasts, s: its highest; None if it never said one."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._over = threading.Event()
        self.most_s: float | None = None

    def run(self) -> None:
        while not self._over.wait(LAG_EVERY_S):
            lag_s = relay_lag(self._stack.layout)
            if lag_s is not None:
                self.most_s = max(self.most_s or 0.0, lag_s)

    def end(self) -> float | None:
        self._over.set()
        self.join()
        return self.most_s


def measure(stack: Stack, args: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one run."""
    round_s = args.players / args.rate
    with stack.sql() as sql:
        for quiz in even_quizzes(stack):
            add_quiz(sql, quiz, round(args.seconds / round_s) + 3)
    return asyncio.run(_measure(stack, args, round_s))


async def _measure(stack: Stack, args: argparse.Namespace, round_s: float) -> dict[str, Any]:
    crowd = Crowd(stack, even_quizzes(stack))
    with _SHOW.status(f"{args.players} players join"):
        began = time.perf_counter()
        await crowd.join(args.players, args.session_size)
        joined_s, before = time.perf_counter() - began, stack.api_memory()
    with _SHOW.status(f"{args.players} sockets connect"):
        began = time.perf_counter()
        await crowd.connect()
        connected_s = time.perf_counter() - began
        await asyncio.sleep(2)
        memory = stack.api_memory() - before
    with _SHOW.status(f"{args.rate:g} answers a second for {args.seconds} s"):
        lag, used, began = LagWatch(stack), stack.processor_s(), time.perf_counter()
        lag.start()
        await crowd.play(args.seconds, round_s, args.shares)
        took_s = time.perf_counter() - began
        spent = {name: round(s - used.get(name, 0.0), 1) for name, s in stack.processor_s().items()}
    counts = crowd.counts
    with _SHOW.status("the relay drains, then everything is compared"):
        drained_s = await asyncio.to_thread(until_relayed, stack)
        if stack.settings.kafka_bootstrap:
            drained_s += await asyncio.to_thread(until_in_kafka, stack)
        kept = await asyncio.to_thread(
            compare, stack, counts.acknowledged, [session.session_id for session in crowd.sessions]
        )
    crowd.close()
    return {
        "players": args.players,
        "sessions": len(crowd.sessions),
        "seconds": args.seconds,
        "asked_answers_per_s": args.rate,
        "answers_per_s": round(len(counts.acknowledged) / args.seconds, 1),
        "acknowledged": len(counts.acknowledged),
        "ack_p50_ms": percentile(counts.ack_s, 0.5),
        "ack_p99_ms": percentile(counts.ack_s, 0.99),
        "push_p50_ms": percentile(counts.push_s, 0.5),
        "push_p99_ms": percentile(counts.push_s, 0.99),
        "boards_per_s_a_socket": round(counts.boards / args.players / took_s, 2),
        "relay_lag_s": lag.end(),
        "relay_drained_s": round(drained_s, 1),
        "errors": sum(counts.errors.values()),
        "errors_by_code": counts.errors,
        "kept": kept,
        "processor_s": spent,
        "processor_us_an_answer": {
            name: round(s * 1e6 / max(1, len(counts.acknowledged))) for name, s in spent.items() if s >= 0.1
        },
        "joined_s": round(joined_s, 1),
        "connected_s": round(connected_s, 1),
        "kb_a_socket": round(memory / args.players / 1000, 1),
        "processors": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def parser() -> argparse.ArgumentParser:
    """The arguments of this and of `bench push`."""
    found = argparse.ArgumentParser(
        prog="live", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    found.add_argument("--players", type=int, default=6_000)
    found.add_argument("--rate", type=float, default=2_000.0, help="answers a second of all players together")
    found.add_argument("--seconds", type=int, default=60)
    found.add_argument("--session-size", type=int, default=30)
    found.add_argument("--apis", type=int, default=2)
    found.set_defaults(shares=(FROM_SHARE, TO_SHARE))
    found.add_argument("--json", action="store_true", help="the output is always one JSON document")
    return found


def main() -> int:
    arguments = parser()
    also = arguments.add_mutually_exclusive_group()
    also.add_argument("--kafka", action="store_true")
    also.add_argument("--replicas", action="store_true")
    args = arguments.parse_args()
    uvloop.install()
    options = ["--replicas"] if args.replicas else []
    with own_stack("full" if args.kafka else "live", *options, apis=args.apis) as stack:
        found = measure(stack, args)
    row = "kafka" if args.kafka else "replica" if args.replicas else "postgres"
    print(json.dumps({"row": row, **found}))
    wrong = found["errors"] + sum(value for name, value in found["kept"].items() if name != "untold")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
