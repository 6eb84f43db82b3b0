"""`import lake`: views with comments, a settlement's snapshots, the tables' freshness, and what is said without a lake."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

import lake
from cli.places import ROOT
from contracts import names
from contracts.corrections import Correction, encode
from contracts.errors import BadInput, SystemMissing
from contracts.settings import Settings, without_password
from contracts.tables import TABLE_COMMENTS, TABLES
from serving.migrations.upgrade import upgrade
from tests.small_lake import SmallLake, schema_of

pytestmark = pytest.mark.service
ROW = {"scope": "global", "zone": "UTC", "day": date(2024, 4, 1), "reached_at_us": 1, "plays": 2, "misses": 1}


@pytest.fixture
def small(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallLake:
    """A lake in the environment: two rows in `user_days`, the first of them settled as `7`; the rest is empty."""
    upgrade(postgres_url)
    small = SmallLake(postgres_url, tmp_path / "warehouse")
    small.append("user_days", [{**ROW, "user_no": 1, "points": 700}])
    first = small.catalog.load_table((names.NAMESPACE, "user_days")).current_snapshot()
    assert first is not None
    with psycopg.connect(postgres_url) as sql:
        sql.execute(
            "INSERT INTO settlements (id, from_day, to_day, version, rule, snapshots, last_seq) "
            "VALUES ('7', '2024-04-01', '2024-04-01', 1, 'speed@1', %s, '{}')",
            [json.dumps({"user_days": first.snapshot_id})],
        )
    small.append("user_days", [{**ROW, "user_no": 2, "points": 500}])
    settings = Settings(
        postgres_url=postgres_url, lake_warehouse=small.warehouse, cache_dir=str(tmp_path / "cache")
    )
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    return small


def test_a_table_is_a_view_with_comments_now_or_as_a_settlement_had_it(small: SmallLake) -> None:
    total = "SELECT count(*), sum(points) FROM user_days"
    connection = lake.open()
    assert [(2, 1200)] == connection.sql(total).fetchall()
    assert [(1, 700)] == lake.open(settlement="7").sql(total).fetchall()
    views = dict(
        connection.sql("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
    )
    assert {name: TABLE_COMMENTS[name] for name in TABLES} == {
        name: views[name] for name in views.keys() - {"counted"}
    }
    assert "corrections in force" in views["counted"]
    # Every column, of empty tables too.
    columns = connection.sql(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    assert [] == [column for column in columns if not column[2]]
    said = {(table, column): comment for table, column, comment in columns}
    assert "UTC µs" in said["answers", "occurred_at_us"]
    assert "place in that shard's outbox" == said["answers", "seq"]


def test_counted_has_the_corrections_in_force_or_those_that_a_settlement_knew(small: SmallLake) -> None:
    answer = {
        **dict.fromkeys(schema_of("answers").names),
        "quiz_id": "q",
        "occurred_at_us": 5,
        "correct": True,
    }
    answer |= {"elapsed_ms": 0, "time_limit_ms": 60_000, "points": 1000}
    small.append("answers", [{**answer, "user_id": "u"}, {**answer, "user_id": "v"}])
    corrections = [
        Correction(1, "rule_change", 1, "a gentle week", quiz_id="q", rule="correct@1"),
        Correction(2, "removal", 2, "a bot", user_id="v"),
        Correction(3, "removal", 3, "not published yet", user_id="u"),
    ]
    with psycopg.connect(small.postgres_url) as sql:
        for one in corrections:
            sql.execute(
                "INSERT INTO corrections (id, event, in_force_at) VALUES (%s, %s, CASE WHEN %s < 3 THEN now() END)",
                (one.correction_id, encode(one), one.correction_id),
            )
        sql.execute("UPDATE settlements SET last_correction = 1")
    query = "SELECT user_id, points FROM counted ORDER BY user_id"
    assert [("u", 1)] == lake.open().sql(query).fetchall()
    assert [("u", 1), ("v", 1)] == lake.open(settlement="7").sql(query).fetchall()
    assert [(2000,)] == lake.open().sql("SELECT sum(points) FROM answers").fetchall()


def test_what_is_not_there_is_said(small: SmallLake) -> None:
    with pytest.raises(BadInput, match="no settlement '8'"):
        lake.open("8")
    # An expired snapshot has no files to plan: never an empty table.
    with pytest.raises(BadInput, match="12345 of user_days has expired"):
        lake.open(snapshots={"user_days": 12345})


def test_tables_shows_sizes_and_freshness(small: SmallLake) -> None:
    found = lake.tables()
    assert list(TABLES) == list(found.index)
    days: Any = found.loc["user_days"]
    table = lake.catalog().load_table("lakeboard.user_days")
    tasks = list(table.scan().plan_files())
    assert (2, 2) == (days.rows, days.files) == (sum(task.file.record_count for task in tasks), len(tasks))
    assert sum(task.file.file_size_in_bytes for task in tasks) == days.bytes
    snapshot = table.current_snapshot()
    # As a float it would be another number.
    assert snapshot is not None and snapshot.snapshot_id == int(days.snapshot_id)
    assert abs(datetime.now(UTC) - days.committed_at) < timedelta(minutes=5)
    assert 0 <= days.age_s < 300
    assert "(scope, zone, local day, user_no)" == days.one_row_per
    assert all(len(text) <= 50 for text in found.one_row_per), "pandas would cut it"
    assert 0 == found.loc["rankings"].rows
    assert found.loc["rankings"].isna().committed_at


def test_the_inventory_command(small: SmallLake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from lake.inventory import main

    password = tmp_path / "password"
    password.write_text(urlsplit(small.postgres_url).password or "")
    known = [f"--postgres-url={without_password(small.postgres_url)}", f"--postgres-password-file={password}"]
    known += [f"--warehouse={small.warehouse}", f"--cache={tmp_path / 'cache'}"]
    assert 0 == main([*known, "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (2, 2, None) == (
        rows["user_days"]["rows"],
        rows["user_days"]["files"],
        rows["rankings"]["committed_at"],
    )
    assert 0 == main(known)
    assert "user_days" in capsys.readouterr().out


def test_an_address_without_its_password_takes_it_from_the_file(tmp_path: Path) -> None:
    from lake.addresses import address_of

    (tmp_path / "postgres_password").write_text("p@ss\n")
    settings = Settings(
        postgres_url="postgresql://lakeboard@127.0.0.1:6432/lakeboard",
        lake_warehouse="file:///nowhere",
        cache_dir="/nowhere",
        secrets_dir=str(tmp_path),
    )
    found = address_of(settings.to_env(), tmp_path / "no.toml")
    assert "postgresql://lakeboard:p%40ss@127.0.0.1:6432/lakeboard" == found.postgres_url
    chosen = tmp_path / "lakeboard.toml"
    chosen.write_text(
        'postgres_url = "postgresql://a:b@c/d"\nlake_warehouse = "file:///w"\ncache_dir = "/x"\n'
    )
    assert ("postgresql://a:b@c/d", "file:///w") == (
        address_of({}, chosen).postgres_url,
        address_of({}, chosen).warehouse,
    )
    (tmp_path / "postgres_password").unlink()
    with pytest.raises(SystemMissing, match="password"):
        address_of(settings.to_env(), tmp_path / "no.toml")


def test_without_a_lake_the_error_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTGRES_URL", "LAKE_WAREHOUSE", "CACHE_DIR"):
        monkeypatch.delenv(f"LAKEBOARD_{name}", raising=False)
    for call in (lake.open, lake.tables, lake.catalog):
        with pytest.raises(SystemMissing, match=r"lakeboard notebook.*lakeboard env"):
            call()
    with pytest.raises(AttributeError, match=r"catalog, open, tables"):
        lake.tabels  # type: ignore[attr-defined]  # noqa: B018


def test_a_database_that_is_away_is_a_missing_system(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = small.postgres_url.rpartition("@")[0] + "@127.0.0.1:1/none"
    monkeypatch.setenv("LAKEBOARD_POSTGRES_URL", away)
    for call in (lake.open, lake.tables, lambda: lake.open("7")):
        with pytest.raises(SystemMissing, match="does not answer"):
            call()


def test_no_module_of_the_room_takes_the_place_of_a_function() -> None:
    for module in pkgutil.iter_modules(lake.__path__):
        importlib.import_module(f"lake.{module.name}")
    assert [True] * 3 == [callable(call) for call in (lake.open, lake.tables, lake.catalog)]


def test_importing_it_loads_no_library() -> None:
    program = (
        "import sys, lake, lake as again; print(sorted({'duckdb', 'pyiceberg', 'pyarrow', 'pandas', 'psycopg'}"
        " & set(sys.modules)), 'open' in dir(lake))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "[] True\n" == done.stdout, done.stderr
