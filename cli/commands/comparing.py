"""`reconcile` and `rebuild`: Redis against the lake, and each derived store made again from the record."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

import typer

from cli.environments import can_do, child_env, ensure
from cli.stack.layout import layout_from


def reconcile(
    first: Annotated[str, typer.Option("--from", help="First UTC day, YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", help="Last UTC day, inclusive.")],
    nothing_exit: Annotated[
        int, typer.Option("--nothing-exit", help="Exit code where there is nothing to compare.")
    ] = 2,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Compare every board that Redis keeps in a span with the lake, row by row. Exit 1: they differ.

    \b
    Example:
      ./lakeboard reconcile --from 2026-01-01 --to 2026-01-31
    """
    arguments = ["--from", first, "--to", last, f"--nothing-exit={nothing_exit}"]
    arguments += ["--json"] if json_ else []
    raise typer.Exit(_run("serving.leaderboards.reconcile", arguments))


def _run(module: str, arguments: list[str], environment: str = "main") -> int:
    """A module of ours in an environment, with the stack's settings."""
    env = child_env(**layout_from(os.environ).environment("full"))
    return subprocess.run([str(ensure(environment)), "-m", module, *arguments], env=env).returncode


def rebuild_redis(
    since: Annotated[
        str | None, typer.Option(help="Keep boards from this day's week and month on, YYYY-MM-DD.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Make every board of Redis again from the record, while play goes on.

    \b
    Examples:
      ./lakeboard rebuild redis
      ./lakeboard rebuild redis --since 2026-01-01
    """
    arguments = [*(["--since", since] if since else []), *(["--json"] if json_ else [])]
    # Only archived months need the lake, and only where there is `main` can there be any.
    raise typer.Exit(_run("serving.leaderboards.rebuild", arguments, "main" if can_do("main") else "live"))


def rebuild_questdb(
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write QuestDB's windows again from Kafka, and compare. What retention took from the topics stays as it is.

    \b
    Example:
      ./lakeboard rebuild questdb
    """
    raise typer.Exit(_run("serving.relay.rebuild_questdb", ["--json"] if json_ else []))


def rebuild_postgres(
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Bring back what Postgres' history lacks, from the lake and the outbox, and compare it byte for byte.

    Display names, titles and PINs are in no answer and cannot come back from there.

    \b
    Example:
      ./lakeboard rebuild postgres
    """
    raise typer.Exit(_run("serving.history.rebuild", ["--json"] if json_ else []))
