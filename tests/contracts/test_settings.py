"""Settings: environment over file over defaults; secrets are not shown; what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stack.layout import chosen_settings
from contracts.errors import BadInput
from contracts.settings import Settings, from_mapping, with_password, without_password

pytestmark = pytest.mark.unit
URL = "postgresql://lakeboard:pa%40ss9@127.0.0.1:6432/lakeboard"


def test_the_environment_wins_over_the_file() -> None:
    file = {"answers_retention_days": 7, "public_url": "http://a"}
    found = from_mapping({"LAKEBOARD_ANSWERS_RETENTION_DAYS": "3", "LAKEBOARD_API_PORTS": "1, 2"}, file)
    assert (3, "http://a", (1, 2)) == (found.answers_retention_days, found.public_url, found.api_ports)
    assert found == from_mapping(found.to_env())


@pytest.mark.parametrize(
    ("env", "file"),
    [
        ({"LAKEBOARD_PROFILE": "huge"}, {}),
        ({"LAKEBOARD_ANSWERS_RETENTION_DAYS": "soon"}, {}),
        ({"LAKEBOARD_API_PORTS": "a"}, {}),
        ({}, {"no_such_setting": 1}),
        ({"LAKEBOARD_VALKEY_SENTINELS": "a:1,b"}, {}),
        ({"LAKEBOARD_VALKEY_SENTINELS": "a:1", "LAKEBOARD_VALKEY_PRIMARIES": "one"}, {}),
        ({"LAKEBOARD_VALKEY_WAIT_MS": "0"}, {}),  # WAIT would wait for ever
        ({"LAKEBOARD_TRUSTED_PROXIES": "everybody"}, {}),
        ({"LAKEBOARD_OUTBOX_MOST_ENTRIES": "0"}, {}),
    ],
)
def test_what_does_not_fit_is_refused(env: dict[str, str], file: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        from_mapping(env, file)


def test_a_shard_is_found_by_its_url_or_by_its_name() -> None:
    plain = from_mapping({"LAKEBOARD_VALKEY_URLS": "redis://a:1/0, redis://b:2/0"})
    assert ["redis://a:1/0", "redis://b:2/0"] == [shard.url for shard in plain.shards]
    assert {(0, ())} == {(shard.wait_replicas, shard.sentinels) for shard in plain.shards}
    named = from_mapping({"LAKEBOARD_VALKEY_SENTINELS": "a:1,b:2", "LAKEBOARD_VALKEY_WAIT_REPLICAS": "1"})
    assert [("valkey_1", 1), ("valkey_2", 1)] == [(s.primary, s.wait_replicas) for s in named.shards]
    assert ("a:1", "b:2") == named.shards[0].sentinels
    assert named == from_mapping(named.to_env())


def test_the_file_is_read_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "lakeboard.toml"
    assert 30 == chosen_settings(file).answers_retention_days
    file.write_text("answers_retention_days = 9\n")
    assert 9 == chosen_settings(file).answers_retention_days
    file.write_text("answers_retention_days = \n")
    with pytest.raises(BadInput, match="not TOML"):
        chosen_settings(file)


def test_passwords_are_not_shown() -> None:
    shards = from_mapping({"LAKEBOARD_VALKEY_URLS": "redis://:pa9@a:1/0"})
    assert "pa9" not in f"{shards!r} {shards.shards!r} {from_mapping({'LAKEBOARD_POSTGRES_URL': URL})!r}"
    assert "ss9" not in repr(Settings(postgres_url=URL))
    assert "postgresql://lakeboard@127.0.0.1:6432/lakeboard" == without_password(URL)
    assert URL == with_password(without_password(URL), "pa@ss9")
