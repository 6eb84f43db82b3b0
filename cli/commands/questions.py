"""`sql` and `notebook`: questions to the lake, in the main environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from cli.environments import child_env, ensure
from cli.places import ROOT
from cli.stack.layout import layout_from
from contracts.settings import without_password


def sql(context: typer.Context, query: Annotated[str, typer.Argument(help="One SELECT.")]) -> None:
    """Ask the lake in SQL (DuckDB over the tables' present snapshots).

    \b
    Example:
      ./lakeboard sql 'select count(*) from answers'
    """
    place = layout_from(os.environ)
    settings = place.settings("full")
    known = [
        f"--postgres-url={without_password(settings.postgres_url)}",
        f"--warehouse={settings.lake_warehouse}",
    ]
    known.append(f"--postgres-password-file={settings.secrets_dir}/postgres_password")
    known.append(f"--cache={Path(settings.cache_dir) / 'lake'}")
    raise typer.Exit(_in_main(["-m", "lake.sql", query, *known, *context.args]))


def notebook(context: typer.Context) -> None:
    """Open the notebooks (JupyterLab, on loopback)."""
    raise typer.Exit(_in_main(["-m", "jupyterlab", "--ip=127.0.0.1", str(ROOT / "notebooks"), *context.args]))


def _in_main(arguments: list[str]) -> int:
    env = child_env(**layout_from(os.environ).environment("full"))
    return subprocess.run([str(ensure("main")), *arguments], env=env).returncode
