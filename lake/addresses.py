"""Where the lake is: from the environment (people, notebooks) or from a command's arguments (processes of ours)."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import BadInput, SystemMissing
from contracts.settings import from_mapping, has_password, with_password
from lake.views import Lake

# A clone's file of choices lies beside this room; in an installed package there is none.
_FILE = Path(__file__).resolve().parents[1] / "lakeboard.toml"
_NEXT_STEP = 'use ./lakeboard notebook, or run eval "$(./lakeboard env)" in the shell that starts Python'


@dataclass(frozen=True, slots=True)
class Address:
    """The catalog's database (with its password), the folder of the tables, and where fetched files are kept."""

    postgres_url: str
    warehouse: str
    cache: Path

    def lake(self) -> Lake:
        """The lake that lies there."""
        return Lake(self.postgres_url, self.warehouse, self.cache)


def address_of(environment: Mapping[str, str], file: Path = _FILE) -> Address:
    """The lake that LAKEBOARD_* names, over `lakeboard.toml`; a password that the URL lacks is read from secrets_dir.

    Raises SystemMissing where no lake is named (a message says what to run), BadInput where a value does not fit.
    """
    try:
        chosen = tomllib.loads(file.read_text()) if file.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise BadInput("invalid_field", f"{file} is not TOML: {error}") from error
    settings = from_mapping(environment, chosen)
    if not (settings.postgres_url and settings.lake_warehouse and settings.cache_dir):
        raise SystemMissing(
            "system_missing", f"this process was not told where a lake is: {_NEXT_STEP}", next_step=_NEXT_STEP
        )
    url = settings.postgres_url
    if not has_password(url) and settings.secrets_dir:
        url = _with_password_of(url, Path(settings.secrets_dir) / "postgres_password")
    return Address(url, settings.lake_warehouse, Path(settings.cache_dir) / "lake")


def here() -> Address:
    """The lake of this process' environment. Raises what `address_of` does."""
    return address_of(os.environ)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a lake; a password comes as a file, since everybody can read arguments."""
    for name in ("postgres-url", "warehouse"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--postgres-password-file", type=Path, help="where the URL has no password")
    parser.add_argument("--cache", required=True, type=Path, help="folder of fetched files")


def from_arguments(args: argparse.Namespace) -> Address:
    """The lake that a command's arguments name. Raises SystemMissing if the password's file cannot be read."""
    url = args.postgres_url
    if args.postgres_password_file:
        url = _with_password_of(url, args.postgres_password_file)
    return Address(url, args.warehouse, args.cache)


def _with_password_of(url: str, file: Path) -> str:
    try:
        return with_password(url, file.read_text().strip())
    except OSError as error:
        raise SystemMissing(
            "system_missing",
            f"the password of Postgres cannot be read: {error}",
            next_step="./lakeboard status",
        ) from error
