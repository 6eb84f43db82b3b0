"""Corrections as an outbox of their own, and what a settlement knows of them.

`event` is the bytes as they were built; the relay sends them in the order of the dense ids. A correction is in force
once the boards of its whole span are published with it: from then on whoever reads answers applies it.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """CREATE TABLE corrections (
        id bigint PRIMARY KEY, event bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        in_force_at timestamptz)""",
    "ALTER TABLE settlements ADD COLUMN last_correction bigint NOT NULL DEFAULT 0",
    "ALTER TABLE settlements ADD COLUMN changes jsonb NOT NULL DEFAULT '{}'",
    # Answers of sealed sessions: they enter boards through an adjustment alone, and Redis' through a rebuild.
    "CREATE INDEX history_late ON history (shard, seq) WHERE mode = 'late'",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    op.execute("DROP INDEX history_late")
    op.execute("ALTER TABLE settlements DROP COLUMN changes")
    op.execute("ALTER TABLE settlements DROP COLUMN last_correction")
    op.execute("DROP TABLE corrections")
