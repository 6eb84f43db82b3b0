"""`bench`: one of the benchmarks, by name; each prints one JSON document and starts what it needs itself."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from cli.environments import child_env, ensure, say
from cli.places import ROOT
from cli.setup import prepare


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file of benchmarks/, with - for _.")],
) -> None:
    """Run a benchmark; what follows NAME goes to it. Results that were kept: benchmarks/RESULTS.md.

    \b
    Example:
      ./lakeboard bench ingest-settle --answers answers.csv.gz --format csv
    """
    module = name.replace("-", "_")
    if not module.isidentifier() or not (ROOT / "benchmarks" / f"{module}.py").exists():
        there = sorted(path.stem.replace("_", "-") for path in (ROOT / "benchmarks").glob("*.py"))
        say(f"no benchmark {name!r}; there are {', '.join(there)}")
        raise typer.Exit(2)
    python = ensure("test")  # first: it holds all of main
    prepare("full")
    command = [str(python), "-m", f"benchmarks.{module}", *context.args]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env=child_env()).returncode)
