"""`scale api`: how many api processes share the play, by a number or by measured load."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated

import typer

from cli.commands.stack import read_state
from cli.environments import say
from cli.stack.layout import Layout, layout_from
from cli.stack.scale import HIGH_SHARE, MOST, Scale, read_scale, write_scale
from contracts.errors import SystemMissing

# Draining takes up to 30 s a step, and a start beside other work as long.
LIMIT_S = 180.0


def api(
    count: Annotated[
        str | None, typer.Argument(help=f"1 to {MOST}, or auto; left out: says how many.")
    ] = None,
    least: Annotated[int, typer.Option("--min", help="With auto: never fewer.")] = 1,
    most: Annotated[
        int, typer.Option("--max", help="With auto: never more; default: one a processor.")
    ] = min(MOST, max(2, os.cpu_count() or 1)),
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Run N api processes; games go on. Each that is added gets its share of new sockets, each that goes lets its own move.

    auto adds one when the processes want more than 75 % of a core each for 10 s, or hold more than 3,000 sockets each, and
    takes one away when the others would stay below 45 % for a minute. The count stays over `down` and `up`.

    \b
    Examples:
      ./lakeboard scale api 3
      ./lakeboard scale api auto --min 2 --max 6
      ./lakeboard scale api
    """
    layout = layout_from(os.environ)
    if read_state(layout) is None:
        raise SystemMissing("system_missing", "the stack is not up", next_step="./lakeboard up")
    if count is not None:
        now = read_scale(layout.run)
        if count == "auto":
            write_scale(layout.run, Scale(now.count, least, most).within())
        elif count.isdigit():
            write_scale(layout.run, Scale(int(count)))
        else:
            say(f"scale api takes a number, 1 to {MOST}, or auto; not {count!r}")
            raise typer.Exit(2)
        _wait(layout)
    scale, ready = read_scale(layout.run), _ready(layout)
    if json_:
        bounds = {"min": scale.least, "max": scale.most} if scale.automatic else None
        print(json.dumps({"wanted": scale.count, "ready": ready, "auto": bounds}))
        return
    how = f"by load, {scale.least} to {scale.most}" if scale.automatic else "as asked for"
    print(f"api: {ready} of {scale.count} ready, {how} (more than {HIGH_SHARE:.0%} of a core each: busy)")


def _ready(layout: Layout) -> int:
    """How many api processes are ready; those that are about to go count too."""
    state = read_state(layout)
    rows = state["processes"] if state else []
    return sum(row["name"].startswith("api_") and row["state"] == "ready" for row in rows)


def _wait(layout: Layout) -> None:
    """Says what happens until as many are ready as are wanted, and no other is left."""
    told, deadline = -1, time.monotonic() + LIMIT_S
    while True:
        wanted, ready = read_scale(layout.run).count, _ready(layout)
        if ready != told:
            say(f"api: {ready} ready, {wanted} wanted")
            told = ready
        if ready == wanted:
            return
        if time.monotonic() > deadline:
            raise SystemMissing(
                "system_missing",
                f"{ready} of {wanted} api processes are ready",
                next_step="./lakeboard status",
            )
        time.sleep(0.2)
