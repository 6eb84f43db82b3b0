"""Sockets × boards: how many boards each of thousands of sockets gets a second, how late, and at what cost.

    ./lakeboard bench push [--sockets 5000 --session-size 100 --changes 5 --seconds 20 --apis 2]

Every session's board changes `--changes` times a second, more often than boards are sent (at most four a second), by
answers of its own players. The stack is a fresh one; sockets and server are on this machine. `processor_us_a_push` is all
time of the api processes while it lasts, answers included, by boards received.

Claims: 5,000 sockets get at least 3.5 boards/s each; 10,000 with p99 under 400 ms; under 40 kB a socket; about 16 µs a push.
"""

from __future__ import annotations

import argparse
import json
import sys

import uvloop

from benchmarks.live import measure
from benchmarks.live import parser as live_parser
from benchmarks.load.stack import own_stack

# Of a round: boards change from its begin to its end.
ALL_THE_TIME = (0.02, 0.97)


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="push", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("--sockets", type=int, default=5_000)
    arguments.add_argument("--session-size", type=int, default=100)
    arguments.add_argument("--changes", type=float, default=5.0, help="of each session's board, a second")
    arguments.add_argument("--seconds", type=int, default=20)
    arguments.add_argument("--apis", type=int, default=2)
    args = arguments.parse_args()
    rate = args.sockets / args.session_size * args.changes
    same = ["--players", args.sockets, "--rate", rate, "--seconds", args.seconds, "--apis", args.apis]
    same += ["--session-size", args.session_size]
    uvloop.install()
    with own_stack("live", apis=args.apis) as stack:
        wanted = live_parser().parse_args([str(one) for one in same])
        wanted.shares = ALL_THE_TIME
        found = measure(stack, wanted)
    pushes = found["boards_per_s_a_socket"] * args.sockets * args.seconds
    api_s = sum(s for name, s in found["processor_s"].items() if name.startswith("api_"))
    names = ("boards_per_s_a_socket", "push_p50_ms", "push_p99_ms", "kb_a_socket", "connected_s", "errors")
    print(
        json.dumps(
            {
                "sockets": args.sockets,
                "session_size": args.session_size,
                **{name: found[name] for name in names},
                "processor_us_a_push": round(api_s * 1e6 / max(1.0, pushes), 1),
                "processor_s": found["processor_s"],
                "answers_per_s": found["answers_per_s"],
                "ack_p99_ms": found["ack_p99_ms"],
                "processors": found["processors"],
                "load": found["load"],
            }
        )
    )
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
