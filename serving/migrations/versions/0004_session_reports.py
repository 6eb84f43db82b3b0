"""Reports of sealed sessions: their answers by the session's start, and what else only the shard knew of them.

The index is on the start, not on the id: starts come in order, so inserts go to its right edge, and one session's rows
share one entry. Ids are random; an index on them would touch a page for each new session.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    "CREATE INDEX history_session ON history (session_started_at_us)",
    "ALTER TABLE sessions ADD COLUMN at_seal jsonb",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    op.execute("ALTER TABLE sessions DROP COLUMN at_seal")
    op.execute("DROP INDEX history_session")
