"""How a session is played, in its row from the beginning: a history is filtered by it while the session runs, too.

Rows from before have none: sealing notes it in `at_seal`, and what is running then counts as hosted until it is sealed.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add it."""
    op.execute("ALTER TABLE sessions ADD COLUMN mode text")


def downgrade() -> None:
    """Take it away."""
    op.execute("ALTER TABLE sessions DROP COLUMN mode")
