"""The archive: which months of history are in the lake alone, and what was put back by command.

A month's row is inserted in the transaction that drops its partition. `through` is how far history was by shard when
the month was proven: what comes later is a late answer of an archived month, and waits in a new partition.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """CREATE TABLE archived_months (
        month date PRIMARY KEY, entries bigint NOT NULL, checksum numeric NOT NULL, through jsonb NOT NULL,
        snapshots jsonb NOT NULL, archived_at timestamptz NOT NULL DEFAULT clock_timestamp())""",
    """CREATE TABLE restored (
        kind text NOT NULL, id text COLLATE "C" NOT NULL, month date NOT NULL REFERENCES archived_months,
        answers bigint NOT NULL, restored_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (kind, id, month))""",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away; months that were archived stay in the lake."""
    op.execute("DROP TABLE restored")
    op.execute("DROP TABLE archived_months")
