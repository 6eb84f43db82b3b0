"""The supervisor as a program: `python -m cli.stack.run --profile live`; `./lakeboard up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from functools import partial

from cli.stack.layout import layout_from
from cli.stack.monitoring import write_configuration, write_targets
from cli.stack.profiles import one_api, processes, without
from cli.stack.scaler import Scaler
from cli.stack.supervisor import Supervisor, hold_lock
from cli.stack.traefik import write_addresses, write_routes


def main() -> int:
    """Runs the stack until SIGTERM; 1 if another supervisor has this home."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("live", "full"), default="full")
    parser.add_argument("--lan", action="store_true")
    parser.add_argument("--only", default="", help="comma list of processes, for tests")
    parser.add_argument(
        "--without", default="", help="comma list of parts to leave out: airflow, flink, questdb"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)  # it tells of every connection at INFO
    logging.getLogger("httpx").setLevel(logging.WARNING)  # so does this one of every request
    layout = layout_from(os.environ)
    lock = hold_lock(layout.run)
    if lock is None:
        print("another supervisor runs this stack", file=sys.stderr)
        return 1
    chosen = processes(layout, arguments.profile, arguments.lan)
    if arguments.only:
        names = set(arguments.only.split(","))
        chosen = [process for process in chosen if process.name in names]
    chosen = without(chosen, arguments.without)
    about = {"profile": arguments.profile, "lan": arguments.lan, "without": arguments.without}

    def route(numbers: list[int]) -> None:
        write_routes(layout, numbers)
        write_targets(layout)

    write_configuration(layout)
    scaler = Scaler(
        layout,
        partial(one_api, layout, arguments.profile),
        route,
        note=lambda lists: write_addresses(layout, lists),
    )
    about["replicas"] = layout.replicas
    supervisor = Supervisor(
        chosen,
        layout.run,
        layout.home / "logs",
        layout.environment(arguments.profile),
        about,
        None if arguments.only else scaler.run,
    )
    asyncio.run(supervisor.main())
    return 0


if __name__ == "__main__":
    sys.exit(main())
