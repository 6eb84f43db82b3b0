"""One frozen object of settings: names, defaults, one URL a system. Pure: callers pass the mapping they read.

Environment names are LAKEBOARD_ + the field in capitals; `lakeboard.toml` uses the fields' own names. An empty URL
means the system is not part of this profile.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from contracts.errors import BadInput

PREFIX = "LAKEBOARD_"
# How long Kafka keeps answers: time enough to mend the lake's ingest; history and the lake keep them for ever.
ANSWERS_RETENTION_DAYS = 30


# Above this the outbox takes no new answers: 480 bytes an entry (measured), half a GB a shard. Lower, and an hour without
# Postgres at 250 answers/s stops play; higher, and the memory ends first, which stops more than answers.
OUTBOX_MOST_ENTRIES = 1_000_000
# Longer than a replica's sync of one batch on a slow disk; a client's socket gives up at 5 s.
REPLICA_WAIT_MS = 1_000
REPLICA_WAIT_MOST_MS = 4_000


@dataclass(frozen=True, slots=True)
class ShardAddress:
    """Where a shard is, and what a write of it waits for.

    url: its primary; where `sentinels` (host:port) know the primary under the name `primary`, only its user, password and
        database count.
    wait_replicas: replicas that must have a write before it is acknowledged: all that the shard has; 0: it has none.
    outbox_entries: with this many in its outbox a shard takes no new answers.
    """

    url: str = field(repr=False)
    sentinels: tuple[str, ...] = ()
    primary: str = ""
    wait_replicas: int = 0
    wait_ms: int = REPLICA_WAIT_MS
    outbox_entries: int = OUTBOX_MOST_ENTRIES


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Secrets are files in `secrets_dir`; addresses that may hold a password are not shown."""

    profile: str = "full"
    valkey_urls: tuple[str, ...] = field(
        default=("redis://127.0.0.1:6401/0", "redis://127.0.0.1:6402/0"), repr=False
    )
    # With sentinels a shard is found by its name there; its URL then says only how to log in, and the database.
    valkey_sentinels: tuple[str, ...] = ()
    valkey_primaries: tuple[str, ...] = ("valkey_1", "valkey_2")
    valkey_wait_replicas: int = 0
    valkey_wait_ms: int = REPLICA_WAIT_MS
    # Each server's memory limit; 0: half of the machine's, shared by the stack's servers.
    valkey_memory_mb: int = 0
    outbox_most_entries: int = OUTBOX_MOST_ENTRIES
    postgres_url: str = field(default="", repr=False)
    kafka_bootstrap: str = ""
    hdfs_url: str = ""
    webhdfs_url: str = ""
    lake_warehouse: str = ""
    questdb_http_url: str = ""
    questdb_pg_url: str = field(default="", repr=False)
    flink_rest_url: str = ""
    airflow_url: str = ""
    public_url: str = "http://127.0.0.1:8080"
    api_ports: tuple[int, ...] = (8101, 8102)
    secrets_dir: str = ""
    cache_dir: str = ""
    data_dir: str = ""
    run_dir: str = ""
    answers_retention_days: int = ANSWERS_RETENTION_DAYS
    # All memory of Flink's TaskManager. docs/capacity.md: how many players in one minute need how much.
    taskmanager_mb: int = 1600
    # What `fresh=true` runs before a board is summed, words as in a shell; empty: by schedule alone.
    ingest_command: str = ""
    # How often, in the notation of the library `limits`; empty: unbounded. By address: joins (two hundred phones behind one
    # address within ten seconds are a school; a stadium raises it) and openings of sessions. By user: HTTP requests of a
    # game, messages on a socket.
    limit_joins: str = "300/10 seconds;2000/hour"
    limit_openings: str = "60/minute;600/hour"
    limit_requests: str = "200/10 seconds"
    limit_messages: str = "100/10 seconds"
    # By address: log-ins and sign-ups (a class that begins its lesson is thirty of each in a minute). By log-in name, whoever
    # tries: passwords. By user: uploads of pictures and media.
    limit_logins: str = "120/minute;1000/hour"
    limit_sign_ups: str = "60/minute;300/hour"
    limit_passwords: str = "10/5 minutes"
    limit_uploads: str = "30/hour"
    # Networks (CIDR) whose requests are taken, by the gateway and by the api; none named, here or by an admin: all.
    allowed_networks: tuple[str, ...] = ()
    # Whose `X-Forwarded-For` and `-Proto` are believed: the gateway's, as the api sees it.
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    # Roles of whoever signs up; none named: only admins and the operator make accounts.
    sign_up_roles: tuple[str, ...] = ("player", "host")
    # Pages of other sites (https://host) that may call the API with a token of their own; never with the cookie.
    cors_origins: tuple[str, ...] = ()
    # Where pictures and media are kept: s3://bucket/prefix, or empty for a folder in `data_dir`. The endpoint is for an S3
    # that is not Amazon's; its key is the secret `media_key` (`ID:SECRET`).
    media_url: str = ""
    media_endpoint: str = ""
    # Where browsers get them: an address of a CDN before that storage; empty: from the api.
    media_base_url: str = ""

    @property
    def shards(self) -> tuple[ShardAddress, ...]:
        """The address of each shard, in order of their numbers."""
        names = self.valkey_primaries if self.valkey_sentinels else ("",) * len(self.valkey_urls)
        return tuple(
            ShardAddress(
                url,
                self.valkey_sentinels,
                name,
                self.valkey_wait_replicas,
                self.valkey_wait_ms,
                self.outbox_most_entries,
            )
            for url, name in zip(self.valkey_urls, names, strict=True)
        )

    def to_env(self) -> dict[str, str]:
        """As environment variables, the form in which processes get it."""

        def text(value: Any) -> str:
            return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

        return {PREFIX + f.name.upper(): text(getattr(self, f.name)) for f in fields(self)}


def without_password(url: str) -> str:
    """A URL that may be seen by others, such as an argument of a process."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}" if parts.username else host))


def has_password(url: str) -> bool:
    """Whether a client can log in with the URL as it is."""
    return urlsplit(url).password is not None


def with_password(url: str, password: str) -> str:
    """The URL with a password, as a client takes it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}"))


def _parse(name: str, default: Any, raw: Any) -> Any:
    if isinstance(default, tuple):
        items = [item.strip() for item in raw.split(",")] if isinstance(raw, str) else list(raw)
        kind = type(default[0]) if default else str
        try:
            return tuple(kind(item) for item in items if str(item))
        except ValueError as error:
            raise BadInput(
                "invalid_field", f"setting {name}: {raw!r} is not a list of {kind.__name__}"
            ) from error
    if isinstance(default, int):
        try:
            return int(raw)
        except ValueError as error:
            raise BadInput("invalid_field", f"setting {name}: {raw!r} is not a whole number") from error
    return str(raw)


def from_mapping(env: Mapping[str, str], file: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment over `lakeboard.toml` over the defaults.

    Raises BadInput for an unknown profile, a name in the file that is no setting, and a value that does not fit.
    """
    defaults = Settings()
    unknown = set(file or ()) - {known.name for known in fields(Settings)}
    if unknown:
        raise BadInput("unknown_field", f"lakeboard.toml: no setting is called {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {}
    for known in fields(Settings):
        raw = env.get(PREFIX + known.name.upper(), (file or {}).get(known.name))
        if raw is not None:
            values[known.name] = _parse(known.name, getattr(defaults, known.name), raw)
    settings = Settings(**values)
    if settings.profile not in ("live", "full"):
        raise BadInput("invalid_field", f"profile {settings.profile!r} is neither live nor full")
    _check_access(settings)
    _check_shards(settings)
    return settings


def _check_access(settings: Settings) -> None:
    """Raises BadInput where addresses, roles or origins are none."""
    for name in ("allowed_networks", "trusted_proxies"):
        for network in getattr(settings, name):
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise BadInput(
                    "invalid_field", f"setting {name}: {network!r} is no network such as 192.0.2.0/24"
                ) from error
    for role in settings.sign_up_roles:
        if role not in ("player", "host", "analyst"):
            raise BadInput("invalid_field", f"setting sign_up_roles: {role!r} is given by an admin alone")
    for name in ("cors_origins", "media_base_url"):
        value = getattr(settings, name)
        for origin in value if isinstance(value, tuple) else (value,) if value else ():
            parts = urlsplit(origin)
            bare = name == "media_base_url" or not (parts.path or parts.query)
            if parts.scheme not in ("http", "https") or not parts.netloc or not bare:
                raise BadInput("invalid_field", f"setting {name}: {origin!r} is not like https://example.org")
    if settings.media_url and urlsplit(settings.media_url).scheme != "s3":
        raise BadInput(
            "invalid_field", f"setting media_url: {settings.media_url!r} is not like s3://bucket/prefix"
        )


def _check_shards(settings: Settings) -> None:
    """Raises BadInput where shards and their replicas do not fit together."""
    if settings.valkey_sentinels and len(settings.valkey_primaries) != len(settings.valkey_urls):
        raise BadInput(
            "invalid_field",
            f"{len(settings.valkey_primaries)} names in valkey_primaries for {len(settings.valkey_urls)} shards",
        )
    if any(not one.rpartition(":")[2].isdigit() for one in settings.valkey_sentinels):
        raise BadInput("invalid_field", "valkey_sentinels is a list of host:port")
    limits = {
        "valkey_wait_replicas": (0, 5),
        "valkey_wait_ms": (1, REPLICA_WAIT_MOST_MS),
        "valkey_memory_mb": (0, 10**8),
        "outbox_most_entries": (1, 10**8),
        "taskmanager_mb": (1_400, 10**6),
    }
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise BadInput("invalid_field", f"{name} is {value}, not in {least}..{most}")
