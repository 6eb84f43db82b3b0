"""`user`: accounts from the machine itself; how the first admin is made."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from cli.environments import child_env
from cli.stack.layout import layout_from
from cli.stack.parts import with_passwords
from contracts.settings import from_mapping

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
LoginName = Annotated[str, typer.Argument(help="The name to log in with.")]


def add(
    login_name: LoginName,
    role: Annotated[
        list[str] | None, typer.Option(help="player, host, analyst, importer or admin; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="The name that others see.")] = "",
    json_: Json = False,
) -> None:
    """Make an account; prints the ticket with which its owner sets the password.

    \b
    Example:
      ./lakeboard user add ada --role admin --role host      the first admin
    """
    roles = [f"--role={one}" for one in role or []]
    _run("add", login_name, *roles, f"--name={name}", *(["--json"] if json_ else []))


def ticket(login_name: LoginName, json_: Json = False) -> None:
    """Print a ticket with which an account's owner sets a new password.

    \b
    Example:
      ./lakeboard user ticket ada
    """
    _run("ticket", login_name, *(["--json"] if json_ else []))


def list_(
    part: Annotated[str, typer.Argument(help="In the log-in name or the name.")] = "", json_: Json = False
) -> None:
    """List the accounts.

    \b
    Example:
      ./lakeboard user list
    """
    _run("list", part, *(["--json"] if json_ else []))


def settings_here() -> dict[str, str]:
    """The stack's settings: this machine's, or those that a container was given, with its passwords."""
    if os.environ.get("LAKEBOARD_POSTGRES_URL"):
        return with_passwords(from_mapping(os.environ)).to_env()
    # Needs Postgres alone, which both profiles have.
    return layout_from(os.environ).environment("live")


def _run(*arguments: str) -> None:
    """Beside the api, in the environment that runs play; a name is an argument, never part of a shell's line."""
    command = [sys.executable, "-m", "serving.access.command", *arguments]
    env = child_env(**settings_here())
    raise typer.Exit(subprocess.run(command, env=env).returncode)
