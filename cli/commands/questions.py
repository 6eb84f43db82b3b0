"""`sql`, `tables`, `notebook` and `env`: questions to the lake, in the main environment."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from cli.environments import child_env, ensure
from cli.java import java_home
from cli.places import ROOT
from cli.stack.layout import Layout, layout_from
from contracts.settings import without_password


def sql(context: typer.Context, query: Annotated[str, typer.Argument(help="One SELECT.")]) -> None:
    """Ask the lake in SQL (DuckDB over the tables' present snapshots, or --settlement ID's); --json.

    \b
    Examples:
      ./lakeboard sql 'select count(*) from answers'
      ./lakeboard sql 'select count(*) from rankings' --settlement 7
    """
    raise typer.Exit(_in_main(["-m", "lake.sql", query, *_where_the_lake_is(), *context.args]))


def tables(
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List the lake's tables: rows, files, bytes, how fresh each is, and what one row is.

    \b
    Example:
      ./lakeboard tables
    """
    more = ["--json"] if json_ else []
    raise typer.Exit(_in_main(["-m", "lake.inventory", *_where_the_lake_is(), *more]))


def env() -> None:
    """Print what a shell needs for `import lake` and Spark, without secrets; `python` is then the main environment's.

    \b
    Example:
      eval "$(./lakeboard env)"; python -c 'import lake; print(lake.tables())'
    """
    python = ensure("main")
    variables = {**shell_variables(layout_from(os.environ)), "JAVA_HOME": str(java_home())}
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(str(python.parent))}:"$PATH"')


def shell_variables(layout: Layout) -> dict[str, str]:
    """The stack's environment for a shell: passwords stay in their files, where `import lake` reads them."""
    found = layout.environment("full")
    for name in ("LAKEBOARD_POSTGRES_URL", "LAKEBOARD_QUESTDB_PG_URL"):
        found[name] = without_password(found[name])
    return {**found, "PYTHONPATH": str(ROOT)}


def notebook(context: typer.Context) -> None:
    """Open the notebooks (JupyterLab, on loopback)."""
    raise typer.Exit(_in_main(["-m", "jupyterlab", "--ip=127.0.0.1", str(ROOT / "notebooks"), *context.args]))


def _where_the_lake_is() -> list[str]:
    """Arguments of a program of the room lake."""
    settings = layout_from(os.environ).settings("full")
    return [
        f"--postgres-url={without_password(settings.postgres_url)}",
        f"--warehouse={settings.lake_warehouse}",
        f"--postgres-password-file={settings.secrets_dir}/postgres_password",
        f"--cache={Path(settings.cache_dir) / 'lake'}",
    ]


def _in_main(arguments: list[str]) -> int:
    env = child_env(**layout_from(os.environ).environment("full"))
    return subprocess.run([str(ensure("main")), *arguments], env=env).returncode
