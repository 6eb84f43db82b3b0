"""The command line: which commands there are, and how one is loaded.

A command's module is imported only when that command (or `--help`) is asked for, so a start stays quick. A command
whose room has not been installed here is not offered.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import typer

from cli.environments import EnvironmentFailed, say
from cli.jars import JarsFailed
from cli.places import ROOT
from contracts.errors import LakeboardError

EXAMPLES = """Live vocabulary quizzes, and leaderboards over any span of time.

\b
Examples:
  ./lakeboard up --profile live                      play in the browser; no Java
  ./lakeboard doctor                                 what this machine lacks, and the command that mends it
  ./lakeboard board global daily current             today's board
  ./lakeboard test unit property                     the quick tests
"""


@dataclass(frozen=True)
class Command:
    """A command: the function behind it and the files without which it is not offered."""

    name: str
    module: str
    function: str
    needs: tuple[str, ...] = ()
    group: str = ""
    pass_on: bool = False
    """Unknown options go to the program behind the command."""


# In the order of --help. `group` makes `./lakeboard rebuild redis`.
COMMANDS = (
    Command("up", "cli.commands.stack", "up"),
    Command("down", "cli.commands.stack", "down"),
    Command("status", "cli.commands.stack", "status"),
    Command("part", "cli.commands.part", "part", needs=("docker",)),
    Command("api", "cli.commands.scaling", "api", needs=("serving/live/placement.py",), group="scale"),
    Command("doctor", "cli.commands.doctor", "doctor"),
    Command("add", "cli.commands.users", "add", needs=("serving/access/command.py",), group="user"),
    Command("ticket", "cli.commands.users", "ticket", needs=("serving/access/command.py",), group="user"),
    Command("list", "cli.commands.users", "list_", needs=("serving/access/command.py",), group="user"),
    Command("demo", "cli.commands.demo", "demo"),
    Command("replay", "cli.commands.replay", "replay", needs=("serving/play/routes.py",)),
    Command("settle", "cli.commands.jobs", "settle", needs=("spark_jobs/settle.py",)),
    Command("backfill", "cli.commands.jobs", "backfill", needs=("spark_jobs/settle.py",)),
    Command("rescore", "cli.commands.rescoring", "rescore", needs=("spark_jobs/score_again.py",)),
    Command("board", "cli.commands.boards", "board", needs=("serving/leaderboards/routes.py",)),
    Command("reconcile", "cli.commands.comparing", "reconcile", needs=("serving/leaderboards/reconcile.py",)),
    Command(
        "redis",
        "cli.commands.comparing",
        "rebuild_redis",
        needs=("serving/leaderboards/rebuild.py",),
        group="rebuild",
    ),
    Command(
        "postgres",
        "cli.commands.comparing",
        "rebuild_postgres",
        needs=("serving/history/rebuild.py",),
        group="rebuild",
    ),
    Command(
        "questdb",
        "cli.commands.comparing",
        "rebuild_questdb",
        needs=("serving/relay/rebuild_questdb.py",),
        group="rebuild",
    ),
    Command("restore", "cli.commands.restoring", "restore", needs=("serving/history/restore.py",)),
    Command("sql", "cli.commands.questions", "sql", needs=("lake/sql.py",), pass_on=True),
    Command("tables", "cli.commands.questions", "tables", needs=("lake/inventory.py",)),
    Command("notebook", "cli.commands.questions", "notebook", needs=("notebooks",), pass_on=True),
    Command("env", "cli.commands.questions", "env", needs=("lake/__init__.py",)),
    Command("job", "cli.commands.jobs", "job", needs=("flink_jobs/submit.py",), pass_on=True),
    Command("bench", "cli.commands.bench", "bench", needs=("benchmarks",), pass_on=True),
    Command("test", "cli.commands.test", "test", pass_on=True),
    Command("check", "cli.commands.test", "check"),
)
GROUPS = {
    "user": "Accounts from this machine; the first admin.",
    "scale": "Say how many processes of a kind run.",
    "rebuild": "Make a derived store again from the record.",
}


def offered() -> list[Command]:
    """The commands whose code and rooms are here."""
    return [
        command
        for command in COMMANDS
        if all((ROOT / path).exists() for path in (command.module.replace(".", "/") + ".py", *command.needs))
    ]


def build(only: str | None = None) -> typer.Typer:
    """The application with one top-level command (or group), or with all."""
    app = typer.Typer(
        help=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )  # fmt: skip
    # A callback keeps a single command from becoming the whole program.
    app.callback(help=EXAMPLES)(lambda: None)
    groups: dict[str, typer.Typer] = {}
    for command in offered():
        if only not in (None, command.group or command.name):
            continue
        target = app
        if command.group:
            if command.group not in groups:
                groups[command.group] = typer.Typer(help=GROUPS[command.group], no_args_is_help=True)
                groups[command.group].callback()(lambda: None)
                app.add_typer(groups[command.group], name=command.group)
            target = groups[command.group]
        settings = {"ignore_unknown_options": True, "allow_extra_args": True} if command.pass_on else {}
        function = getattr(importlib.import_module(command.module), command.function)
        target.command(command.name, context_settings=settings)(function)
    return app


def main() -> None:
    """Runs the command of sys.argv. Exit 0: it holds; 1: it doesn't; 2: wrong use; 3: a system is missing."""
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    tops = {command.group or command.name for command in offered()}
    try:
        build(asked if asked in tops else None)(prog_name="lakeboard")
    except (EnvironmentFailed, JarsFailed) as error:
        say(str(error))
        sys.exit(3)
    except LakeboardError as error:
        say(error.told)
        sys.exit(error.exit_code)
