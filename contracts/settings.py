"""One frozen object of settings: names, defaults, one URL a system. Pure: callers pass the mapping they read.

Environment names are LAKEBOARD_ + the field in capitals; `lakeboard.toml` uses the fields' own names. An empty URL
means the system is not part of this profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from contracts.errors import BadInput

PREFIX = "LAKEBOARD_"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Secrets are files in `secrets_dir`, never values here, so that this object may be logged."""

    profile: str = "full"
    valkey_urls: tuple[str, ...] = ("redis://127.0.0.1:6401/0", "redis://127.0.0.1:6402/0")
    postgres_url: str = ""
    kafka_bootstrap: str = ""
    hdfs_url: str = ""
    webhdfs_url: str = ""
    lake_warehouse: str = ""
    questdb_http_url: str = ""
    questdb_pg_url: str = ""
    flink_rest_url: str = ""
    airflow_url: str = ""
    public_url: str = "http://127.0.0.1:8080"
    api_ports: tuple[int, ...] = (8101, 8102)
    secrets_dir: str = ""
    cache_dir: str = ""
    data_dir: str = ""
    run_dir: str = ""

    def to_env(self) -> dict[str, str]:
        """As environment variables, the form in which processes get it."""

        def text(value: Any) -> str:
            return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

        return {PREFIX + f.name.upper(): text(getattr(self, f.name)) for f in fields(self)}


def _parse(name: str, default: Any, raw: Any) -> Any:
    if isinstance(default, tuple):
        items = [item.strip() for item in raw.split(",")] if isinstance(raw, str) else list(raw)
        kind = type(default[0])
        try:
            return tuple(kind(item) for item in items if str(item))
        except ValueError as error:
            raise BadInput(
                "invalid_field", f"setting {name}: {raw!r} is not a list of {kind.__name__}"
            ) from error
    return str(raw)


def from_mapping(env: Mapping[str, str], file: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment over `lakeboard.toml` over the defaults. Raises BadInput for an unknown profile."""
    defaults = Settings()
    values: dict[str, Any] = {}
    for field in fields(Settings):
        raw = env.get(PREFIX + field.name.upper(), (file or {}).get(field.name))
        if raw is not None:
            values[field.name] = _parse(field.name, getattr(defaults, field.name), raw)
    settings = Settings(**values)
    if settings.profile not in ("live", "full"):
        raise BadInput("invalid_field", f"profile {settings.profile!r} is neither live nor full")
    return settings
