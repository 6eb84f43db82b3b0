"""`part`: one part of the stack by itself, in the foreground; what a container runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from cli.environments import say
from cli.stack.parts import PARTS, Place
from contracts.settings import from_mapping


def part(name: Annotated[str, typer.Argument(help=", ".join(PARTS))]) -> None:
    """Run one part of profile live by itself, as a container does (docker/README.md).

    \b
    Example:
      LAKEBOARD_SECRETS_DIR=/run/secrets LAKEBOARD_VALKEY_MEMORY_MB=512 ./lakeboard part valkey
    """
    if name not in PARTS:
        say(f"no part {name!r}; there are {', '.join(PARTS)}")
        raise typer.Exit(2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = from_mapping(os.environ)
    home = Path(os.environ["LAKEBOARD_HOME"])
    PARTS[name](settings, Place(home / "data", Path(settings.run_dir or home / "run")))
