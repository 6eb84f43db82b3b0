"""`quizzes.changes` counts changes of what others see, so that a cache can tell an older quiz from a newer one.

It is neither the revision, which rises with each saved draft, nor the version, which archiving leaves as it is.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add it."""
    op.execute("ALTER TABLE quizzes ADD COLUMN changes bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Take it away."""
    op.execute("ALTER TABLE quizzes DROP COLUMN changes")
