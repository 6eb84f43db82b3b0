"""Where one machine's stack lives: folders, ports, secrets, environments, and the settings made from them."""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cli.stack.postgres import url_of
from cli.stack.scale import MOST, read_scale
from contracts.errors import BadInput
from contracts.settings import Settings, from_mapping

REPOSITORY = Path(__file__).resolve().parents[2]
SECRETS = ("jwt_key", "importer_key", "postgres_password", "airflow_password")
# Settings that a person chooses; all others follow from the layout.
CHOSEN = (
    "valkey_wait_ms",
    "valkey_memory_mb",
    "outbox_most_entries",
    "answers_retention_days",
    "taskmanager_mb",
    "limit_joins",
    "limit_openings",
    "limit_requests",
    "limit_messages",
    "limit_logins",
    "limit_sign_ups",
    "limit_passwords",
    "limit_uploads",
    "allowed_networks",
    "trusted_proxies",
    "sign_up_roles",
    "cors_origins",
    "media_url",
    "media_endpoint",
    "media_base_url",
)
PORTS = {
    "web": 8080,
    "traefik": 8081,
    **{f"api_{number}": 8100 + number for number in range(1, MOST + 1)},
    "valkey_1": 6401,
    "valkey_2": 6402,
    "valkey_1_replica": 6411,
    "valkey_2_replica": 6412,
    "sentinel_1": 6421,
    "sentinel_2": 6422,
    "sentinel_3": 6423,
    "postgres": 6432,
    "kafka": 9192,
    "kafka_controller": 9193,
    "namenode": 9820,
    "namenode_http": 9870,
    "datanode": 9866,
    "datanode_http": 9864,
    "datanode_ipc": 9867,
    "questdb_http": 9000,
    "questdb_pg": 8812,
    "questdb_min": 9003,
    "questdb_tcp": 9009,
    "flink": 8181,
    "flink_rpc": 8182,
    "flink_blob": 8183,
    "relay_metrics": 8111,
    "airflow": 8280,
    "airflow_logs": 8281,
    "airflow_triggerer_logs": 8282,
}


@dataclass(frozen=True)
class Layout:
    """Folders and ports of one stack; several can live on one machine with another home and port offset."""

    home: Path
    cache: Path
    port_offset: int = 0

    def port(self, name: str) -> int:
        """The port of one door of the stack."""
        return PORTS[name] + self.port_offset

    def data(self, name: str) -> Path:
        """The folder that one daemon keeps its files in; `down --purge` removes them all."""
        return self.home / "data" / name

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.home / "logs" / f"{name}.log"

    @property
    def replicas(self) -> bool:
        """Whether each shard of this home has a replica: once it has, either of the two may hold the newest record."""
        return replicas_file(self.home).exists()

    @property
    def run(self) -> Path:
        """State of the running stack: process ids, heartbeats, generated configuration."""
        return self.home / "run"

    def heartbeat(self, name: str) -> Path:
        """The file that the named process touches while it makes progress."""
        return self.run / "heartbeats" / name

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The secrets by name, made on first use as files only their owner can read."""
        return make_secrets(self.home / "secrets", SECRETS)

    def python(self, environment: str) -> Path:
        """The interpreter of one of the locked environments (live, main, flink, airflow, test)."""
        lock = REPOSITORY / "requirements" / f"{environment}.lock"
        short = hashlib.sha256(lock.read_bytes()).hexdigest()[:8] if lock.exists() else ""
        for name in (f"{environment}-{short}", environment):
            path = self.cache / "envs" / name / "bin" / "python"
            if path.exists():
                return path
        if environment == "main":  # test = main and the tools
            return self.python("test")
        raise FileNotFoundError(
            f"environment {environment} is not installed under {self.cache}; run ./lakeboard doctor"
        )

    def jars(self, group: str) -> Path:
        """The folder of one group of jars."""
        folder = self.cache / "jars" / group
        if not folder.is_dir():
            raise FileNotFoundError(f"jars {group} are not under {folder}; run ./lakeboard doctor")
        return folder

    def settings(self, profile: str) -> Settings:
        """The settings that every process of ours gets; a system outside the profile has an empty URL."""
        full, chosen = profile == "full", chosen_settings()
        hdfs = f"hdfs://127.0.0.1:{self.port('namenode')}"

        def http(door: str) -> str:
            return f"http://127.0.0.1:{self.port(door)}"

        return Settings(
            profile=profile,
            valkey_urls=tuple(f"redis://127.0.0.1:{self.port(f'valkey_{n}')}/0" for n in (1, 2)),
            valkey_sentinels=tuple(f"127.0.0.1:{self.port(f'sentinel_{n}')}" for n in (1, 2, 3))
            if self.replicas
            else (),
            valkey_wait_replicas=int(self.replicas),
            postgres_url=url_of(self.port("postgres"), self.secrets["postgres_password"]),
            kafka_bootstrap=f"127.0.0.1:{self.port('kafka')}" if full else "",
            hdfs_url=hdfs if full else "",
            webhdfs_url=http("namenode_http") if full else "",
            lake_warehouse=f"{hdfs}/lakeboard/warehouse" if full else "",
            questdb_http_url=http("questdb_http") if full else "",
            questdb_pg_url=f"postgresql://admin:quest@127.0.0.1:{self.port('questdb_pg')}/qdb"
            if full
            else "",
            flink_rest_url=http("flink") if full else "",
            airflow_url=http("airflow") if full else "",
            public_url=http("web"),
            api_ports=tuple(
                self.port(f"api_{number}") for number in range(1, read_scale(self.run).count + 1)
            ),
            secrets_dir=str(self.home / "secrets"),
            cache_dir=str(self.cache),
            data_dir=str(self.home / "data"),
            run_dir=str(self.run),
            **{name: getattr(chosen, name) for name in CHOSEN},
            ingest_command=shlex.join([str(REPOSITORY / "lakeboard"), "job", "ingest_answers"])
            if full
            else "",
        )

    def environment(self, profile: str) -> dict[str, str]:
        """Environment variables of every process of the stack and of every command that talks to it."""
        return {
            **self.settings(profile).to_env(),
            "LAKEBOARD_HOME": str(self.home),
            "LAKEBOARD_CACHE_DIR": str(self.cache),
            "LAKEBOARD_PORT_OFFSET": str(self.port_offset),
            "PYTHONUNBUFFERED": "1",
        }


def make_secrets(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The secrets of these names, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = {}
    for name in names:
        path = folder / name
        if not path.exists():
            # Written beside and renamed: a cut never leaves an empty secret, which would be accepted for ever.
            draft = folder / f".{name}.{os.getpid()}"
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
            draft.rename(path)
        found[name] = path.read_text().strip()
    return found


def chosen_settings(file: Path = REPOSITORY / "lakeboard.toml") -> Settings:
    """What a person has chosen, by LAKEBOARD_* or by lakeboard.toml in the clone. Raises BadInput."""
    try:
        values = tomllib.loads(file.read_text()) if file.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise BadInput("invalid_field", f"{file} is not TOML: {error}") from error
    return from_mapping(os.environ, values)


def offset_file(home: Path) -> Path:
    """The port offset that a home's data was made with: Iceberg's metadata keeps the NameNode's port for ever."""
    return home / "data" / "port_offset"


def replicas_file(home: Path) -> Path:
    """There if the home's shards have replicas."""
    return home / "data" / "replicas"


def keep_replicas(layout: Layout) -> None:
    """Give the home's shards replicas from now on."""
    replicas_file(layout.home).parent.mkdir(parents=True, exist_ok=True)
    replicas_file(layout.home).touch()


def keep_offset(layout: Layout) -> None:
    """Write the offset beside new data. Raises BadInput if the data was made with another one."""
    kept = offset_file(layout.home)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"{layout.port_offset}\n")
    elif int(kept.read_text()) != layout.port_offset:
        raise BadInput(
            "invalid_field",
            f"LAKEBOARD_PORT_OFFSET is {layout.port_offset}, but the data in {layout.home} was made with "
            f"{kept.read_text().strip()}, and the lake's paths hold its ports",
            next_step="leave the variable out, or name another LAKEBOARD_HOME, or ./lakeboard down --purge",
        )


def layout_from(environment: Mapping[str, str]) -> Layout:
    """Reads LAKEBOARD_HOME, LAKEBOARD_CACHE_DIR and LAKEBOARD_PORT_OFFSET; defaults lie in the clone.

    Without an offset the one of the home's data counts, so that each command finds the stack that `up` started.
    """
    home = Path(environment.get("LAKEBOARD_HOME") or REPOSITORY / ".lakeboard").resolve()
    cache = Path(environment.get("LAKEBOARD_CACHE_DIR") or REPOSITORY / ".lakeboard" / "cache").resolve()
    given = environment.get("LAKEBOARD_PORT_OFFSET")
    kept = offset_file(home)
    return Layout(home, cache, int(given or (kept.read_text() if kept.exists() else 0)))
