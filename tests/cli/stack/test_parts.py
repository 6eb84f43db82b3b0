"""Parts by themselves: passwords come from files, the gateway's names are the processes' own, mistakes are said."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli.stack import gateway, parts
from contracts.errors import BadInput, SystemMissing
from contracts.settings import Settings

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Addresses as a platform writes them, and secrets in a folder."""
    found = Settings(
        postgres_url="postgresql://lakeboard@postgres:5432/lakeboard",
        valkey_urls=("redis://valkey-1:6379/0", "redis://:own@valkey-2:6379/0"),
        secrets_dir=str(tmp_path / "secrets"),
    )
    parts.run_secrets(found, parts.Place(tmp_path, tmp_path))
    return found


def test_addresses_get_the_passwords_that_they_lack(settings: Settings) -> None:
    postgres, shard = (parts.secret(settings, name) for name in ("postgres_password", "valkey_password"))
    found = parts.with_passwords(settings)
    assert f"postgresql://lakeboard:{postgres}@postgres:5432/lakeboard" == found.postgres_url
    assert (f"redis://:{shard}@valkey-1:6379/0", "redis://:own@valkey-2:6379/0") == found.valkey_urls


def test_secrets_are_made_once_for_their_owner_alone(settings: Settings, tmp_path: Path) -> None:
    folder = Path(settings.secrets_dir)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(parts.SECRETS) == set(made) and len(set(made.values())) == len(made)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    parts.run_secrets(settings, parts.Place(tmp_path, tmp_path))
    assert made == {path.name: path.read_text() for path in folder.iterdir()}


def test_what_a_part_lacks_is_said_before_it_starts(settings: Settings, tmp_path: Path) -> None:
    place = parts.Place(tmp_path, tmp_path)
    with pytest.raises(BadInput, match="valkey_memory_mb"):
        parts.run_valkey(settings, place)
    (Path(settings.secrets_dir) / "postgres_password").unlink()
    for part in ("api", "relay", "postgres"):
        with pytest.raises(SystemMissing, match="postgres_password"):
            parts.PARTS[part](settings, place)
    assert not (tmp_path / "postgres").exists()


def test_a_process_is_called_by_its_address() -> None:
    assert {"api-10-0-0-7": "http://10.0.0.7:8101"} == gateway.servers_of(["10.0.0.7"], 8101)
    assert ["127.0.0.1"] == gateway.addresses_of("localhost", 1)
    with pytest.raises(OSError):
        gateway.addresses_of("no-such-name.invalid", 1)
