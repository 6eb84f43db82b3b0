"""One part of profile `live` by itself, where something else than our supervisor starts processes: a container's platform.

Flags are those of the one-machine stack: the definitions are the same (valkey.py, postgres.py, traefik.py). A part becomes
its program (exec), so that signals and exit codes are the program's own; only the gateway stays beside its own.
Addresses come as LAKEBOARD_VALKEY_URLS and LAKEBOARD_POSTGRES_URL without passwords, which are files in LAKEBOARD_SECRETS_DIR.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cli.stack.gateway import name_of, run_gateway
from cli.stack.layout import REPOSITORY, make_secrets
from cli.stack.postgres import create_alone, let_in_from_afar, postgres
from cli.stack.valkey import valkey
from contracts.errors import BadInput, SystemMissing
from contracts.settings import Settings, has_password, with_password

# What each part needs; whoever has none of his own lets the part `secrets` make them.
SECRETS = ("jwt_key", "importer_key", "postgres_password", "valkey_password")
VALKEY_PORT, POSTGRES_PORT, API_PORT, RELAY_PORT, WEB_PORT = 6379, 5432, 8101, 8111, 8080
EVERY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Place:
    """A part's folders. data: kept over restarts, of this part alone; run: made anew, may be in memory."""

    data: Path
    run: Path


def secret(settings: Settings, name: str) -> str:
    """A secret's text. Raises SystemMissing naming its file."""
    path = Path(settings.secrets_dir or "/run/secrets") / name
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SystemMissing(
            "system_missing",
            f"secret {path} cannot be read: {error.strerror}",
            next_step="see docker/README.md",
        ) from error


def with_passwords(settings: Settings) -> Settings:
    """The settings with passwords in the addresses that lack them."""

    def filled(url: str, name: str) -> str:
        return url if has_password(url) else with_password(url, secret(settings, name))

    return replace(
        settings,
        postgres_url=filled(settings.postgres_url, "postgres_password"),
        valkey_urls=tuple(filled(url, "valkey_password") for url in settings.valkey_urls),
    )


def become(command: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
    """Replaces this process by the program."""
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, **(environment or {})})


def run_secrets(settings: Settings, place: Place) -> None:
    """Makes the secrets that are not there, and ends."""
    make_secrets(Path(settings.secrets_dir or "/run/secrets"), SECRETS)


def run_valkey(settings: Settings, place: Place) -> None:
    """Becomes one shard's server. Raises BadInput without a memory limit: the machine's is not the container's."""
    if not settings.valkey_memory_mb:
        raise BadInput(
            "invalid_field",
            "valkey_memory_mb is 0: a part has no share of a machine to go by",
            next_step="set LAKEBOARD_VALKEY_MEMORY_MB to half of what the container may use",
        )
    place.run.mkdir(parents=True, exist_ok=True)
    folder, file = place.data / "valkey", place.run / "valkey.conf"
    folder.mkdir(parents=True, exist_ok=True)
    # In a file: everybody on the machine may read a process' arguments.
    file.touch(mode=0o600)
    file.write_text(f"requirepass {secret(settings, 'valkey_password')}\n")
    options = {"bind": EVERY_ADDRESS, "maxmemory": f"{settings.valkey_memory_mb}mb"}
    program, *arguments = valkey("valkey", folder, VALKEY_PORT, options).command
    become((program, str(file), *arguments))


def run_postgres(settings: Settings, place: Place) -> None:
    """Becomes the server; its cluster and database are made first, once."""
    folder, password = place.data / "postgres", secret(settings, "postgres_password")
    process = postgres(folder, POSTGRES_PORT, password, listen=EVERY_ADDRESS)
    if process.prepare:
        process.prepare()
    create_alone(folder, "lakeboard")
    let_in_from_afar(folder)
    # A platform that hands a volume over to a group opens what is in it, and the server refuses an open folder.
    folder.chmod(0o700)
    become(process.command)


def _become_ours(settings: Settings, place: Place, name: str, *arguments: str) -> None:
    environment = replace(with_passwords(settings), profile="live", run_dir=str(place.run)).to_env()
    environment |= {"LAKEBOARD_PROCESS": name, "PYTHONPATH": str(REPOSITORY)}
    become((sys.executable, "-P", "-m", *arguments), environment)


def run_api(settings: Settings, place: Place) -> None:
    """Becomes an api process, under the name that the gateway makes of its address."""
    name = name_of(socket.gethostbyname(socket.gethostname()))
    listen = ("--host", EVERY_ADDRESS, "--port", str(API_PORT), "--name", name)
    _become_ours(settings, place, name, "serving.api", *listen)


def run_relay(settings: Settings, place: Place) -> None:
    """Becomes a relay; of several one leads each shard, by its lease."""
    listen = ("--metrics-host", EVERY_ADDRESS, "--metrics-port", str(RELAY_PORT))
    _become_ours(settings, place, "relay", "serving.relay.run", *listen)


def run_door(settings: Settings, place: Place) -> None:
    """Runs the gateway until a signal."""
    host, _, port = os.environ.get("LAKEBOARD_GATEWAY_TO", f"api:{API_PORT}").rpartition(":")
    raise SystemExit(run_gateway(settings, place.run / "traefik", WEB_PORT, host, int(port)))


PARTS: dict[str, Callable[[Settings, Place], None]] = {
    "secrets": run_secrets,
    "valkey": run_valkey,
    "postgres": run_postgres,
    "api": run_api,
    "relay": run_relay,
    "gateway": run_door,
}
