"""Classes and who was a member of them when.

A membership is an interval, [joined_at_us, left_at_us), UTC µs, null while it lasts: boards ask who was a member as at an
answer's `occurred_at`. Ids of users stay where their mapping is deleted, so nothing refers to `users`; `user_no` is kept
for the lake, whose sums are keyed by it. `version` rises with each change of a class, so that it names a list of members.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    """CREATE TABLE classes (
        class_id text COLLATE "C" PRIMARY KEY, name text NOT NULL, owner_id text COLLATE "C" NOT NULL,
        code text COLLATE "C" UNIQUE, version bigint NOT NULL DEFAULT 1, created_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX classes_owner ON classes (owner_id)",
    """CREATE TABLE class_members (
        class_id text COLLATE "C" NOT NULL REFERENCES classes, user_id text COLLATE "C" NOT NULL, user_no bigint NOT NULL,
        joined_at_us bigint NOT NULL, left_at_us bigint CHECK (left_at_us > joined_at_us),
        removed boolean NOT NULL DEFAULT false, PRIMARY KEY (class_id, user_id, joined_at_us))""",
    # One open membership of a user in a class, whoever asks at once.
    "CREATE UNIQUE INDEX class_members_open ON class_members (user_id, class_id) WHERE left_at_us IS NULL",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    op.execute("DROP TABLE class_members")
    op.execute("DROP TABLE classes")
