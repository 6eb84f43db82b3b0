"""The layout before there were versions: what was in it can be played and reported on after the change, and back."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from serving.migrations import upgrade as module
from serving.migrations.upgrade import sqlalchemy_url
from serving.quizzes.draft import questions_of

pytestmark = pytest.mark.service
# The layout under the one with versions.
QUIZZES = next(Path(module.__file__).parent.glob("versions/*_quizzes.py"))
QUIZZES_BEFORE: str = import_module(f"serving.migrations.versions.{QUIZZES.stem}").down_revision


def to(url: str, revision: str, back: bool = False) -> None:
    """Moves the database to a layout."""
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent))
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, revision)
        connection.commit()
    engine.dispose()


def test_old_quizzes_become_their_first_version(postgres_url: str) -> None:
    to(postgres_url, QUIZZES_BEFORE)
    with psycopg.connect(postgres_url, autocommit=True) as sql:
        sql.execute(
            "INSERT INTO quizzes (quiz_id, title, origin) VALUES ('starter-a1', 'First', 'starter'), ('part-1', '', 'import')"
        )
        sql.execute(
            "INSERT INTO questions VALUES ('starter-a1', 'a1-tea', 1, 'a drink', '[\"milk\", \"tea\", \"egg\"]', 'tea',"
            " 'definition_to_word', '{A1,noun}'), ('starter-a1', 'a1-bread', 0, 'food', '[\"bread\", \"egg\"]', 'bread',"
            " 'definition_to_word', '{}')"
        )
        sql.execute("INSERT INTO questions (quiz_id, question_id, type) VALUES ('part-1', 'q1', 'imported')")
        sql.execute(
            "INSERT INTO sessions (session_id, quiz_id, origin, shard, started_at_us, tick_ms, rule)"
            " VALUES ('s', 'starter-a1', 'live', 0, 1, 10, 'speed@1')"
        )
    to(postgres_url, "head")
    with psycopg.connect(postgres_url, autocommit=True) as sql:
        rows = sql.execute("SELECT quiz_id, version, question_count FROM quizzes ORDER BY 1").fetchall()
        assert [("part-1", None, 0), ("starter-a1", 1, 2)] == rows
        assert [("q1",)] == sql.execute("SELECT question_id FROM questions").fetchall()
        assert (1,) == sql.execute("SELECT quiz_version FROM sessions").fetchone()
        document = sql.execute("SELECT document FROM quiz_versions").fetchone()
        assert document is not None
        bread, tea = questions_of(document[0])
        assert ("a1-bread", "food", {"bread", "egg"}) == (bread.question_id, bread.prompt, set(bread.choices))
        assert ("tea", {"milk", "tea", "egg"}) == (tea.answer, set(tea.choices)) and tea.tags[:2] == (
            "A1",
            "noun",
        )
        with pytest.raises(psycopg.errors.RaiseException, match="never changes"):
            sql.execute("UPDATE quiz_versions SET document = '{}'")
    to(postgres_url, QUIZZES_BEFORE, back=True)
    with psycopg.connect(postgres_url) as sql:
        rows = sql.execute("SELECT question_id, answer FROM questions ORDER BY position").fetchall()
        assert [("a1-bread", "bread"), ("a1-tea", "tea"), ("q1", None)] == rows
