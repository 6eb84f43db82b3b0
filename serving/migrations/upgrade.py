"""Bring the database to the newest layout: `python -m serving.migrations.upgrade --url URL`, or `upgrade(url)`.

Every api and relay process calls it at start; an advisory lock lets one do the work while the others wait.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

# Any fixed number; "lake" in ASCII, so that it is told from other locks.
_LOCK = 0x6C616B65
# boards_since of a fresh deployment: 40 days before it, so that last month's boards are whole.
BOARDS_KEPT_US = 40 * 86_400 * 1_000_000


def sqlalchemy_url(url: str) -> str:
    """A postgresql:// address for SQLAlchemy with psycopg 3."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else url


def upgrade(url: str) -> None:
    """Apply what is missing, and fix `boards_since_us` on the first start. A repeat does nothing."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            since = time.time_ns() // 1_000 - BOARDS_KEPT_US
            connection.execute(
                text("INSERT INTO deployment VALUES ('boards_since_us', :since) ON CONFLICT DO NOTHING"),
                {"since": str(since)},
            )
            connection.commit()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()
    engine.dispose()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    upgrade(parser.parse_args().url)


if __name__ == "__main__":
    main()
