"""From every earlier layout to the newest, with rows in it: nothing is lost, and what is new has its defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import serving.migrations
from serving.migrations.upgrade import sqlalchemy_url, upgrade

pytestmark = pytest.mark.service
FOLDER = Path(serving.migrations.__file__ or "").parent


def config() -> Config:
    found = Config()
    found.set_main_option("script_location", str(FOLDER))
    return found


def versions() -> list[str]:
    """The oldest first; a fork in the chain fails here."""
    found = [one.revision for one in ScriptDirectory.from_config(config()).walk_revisions("base", "heads")]
    return found[::-1]


def upgrade_to(url: str, version: str) -> None:
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, version)
        connection.commit()
    engine.dispose()


def test_the_chain_is_one_line() -> None:
    assert 1 == len(ScriptDirectory.from_config(config()).get_heads())
    assert versions() == sorted(versions())


@pytest.mark.parametrize("version", versions()[:-1])
def test_rows_of_an_earlier_layout_stay(new_postgres_url: Callable[[], str], version: str) -> None:
    url = new_postgres_url()
    upgrade_to(url, version)
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute(
            "insert into users (user_id, name, origin) values ('u1', 'Ada', 'live'), ('k013', '', 'import')"
        )
        sql.execute("insert into quizzes (quiz_id, title, origin) values ('q1', 'Words', 'starter')")
        sql.execute(
            "insert into sessions (session_id, quiz_id, origin, shard, started_at_us, tick_ms, rule) "
            "values ('s1', 'q1', 'live', 0, 1, 10, 'speed@1')"
        )
        before = sql.execute("select user_id, user_no, name from users order by user_no").fetchall()
    upgrade(url)
    upgrade(url)
    with psycopg.connect(url, autocommit=True) as sql:
        assert before == sql.execute("select user_id, user_no, name from users order by user_no").fetchall()
        assert [("q1", "Words")] == sql.execute("select quiz_id, title from quizzes").fetchall()
        assert [("s1",)] == sql.execute("select session_id from sessions").fetchall()
        found = sql.execute(
            "select version, anonymous, avatar, deleted_at from users where user_id = 'u1'"
        ).fetchone()
        assert (0, False, None, None) == found
        # A guest of then may make an account now, and numbers go on where they were.
        sql.execute("insert into accounts (user_id, login_name, roles) values ('u1', 'ada', '{player}')")
        new = sql.execute(
            "insert into users (user_id, origin) values ('u2', 'live') returning user_no"
        ).fetchone()
        assert new and new[0] == before[-1][1] + 1
