"""`restore`: a user's or a session's archived answers, back in Postgres."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

import typer

from cli.environments import child_env, ensure, say
from cli.stack.layout import layout_from


def restore(
    user: Annotated[str | None, typer.Option(help="All archived answers of this user.")] = None,
    session: Annotated[str | None, typer.Option(help="All archived answers of this session.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Put archived answers back into Postgres; their months stay there until archived with --release.

    \b
    Examples:
      ./lakeboard restore --user k013
      ./lakeboard restore --session k013_2017-09-21_1 --json
    """
    if (user is None) == (session is None):
        say("ask for --user ID, or for --session ID")
        raise typer.Exit(2)
    which = f"--user={user}" if user is not None else f"--session={session}"
    env = child_env(**layout_from(os.environ).environment("full"))
    command = [str(ensure("main")), "-m", "serving.history.restore", which, *(["--json"] if json_ else [])]
    raise typer.Exit(subprocess.run(command, env=env).returncode)
