"""Courses: quizzes in an order, who is enrolled, and the enrolments as an outbox of their own.

`enrolments` is the record (dense id, bytes), sent to Kafka in the order of ids; `course_members` is who is enrolled now.
The counter's row is locked by whoever takes an id until the transaction ends: so ids have no gap, none is seen before an
earlier one, and `last_us`, which rises with each, makes instants follow them wherever a clock was set.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    """CREATE TABLE courses (
        course_id text COLLATE "C" PRIMARY KEY, owner_id text COLLATE "C" NOT NULL, title text NOT NULL,
        description text NOT NULL DEFAULT '', level text COLLATE "C" NOT NULL DEFAULT '',
        quizzes text[] NOT NULL, visibility text NOT NULL DEFAULT 'private'
            CHECK (visibility IN ('private', 'unlisted', 'public')), revision bigint NOT NULL DEFAULT 1,
        sort_key text COLLATE "C" NOT NULL, archived_at timestamptz, created_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX courses_library ON courses (sort_key, course_id) WHERE archived_at IS NULL",
    "CREATE INDEX courses_owner ON courses (owner_id) WHERE owner_id <> ''",
    """CREATE TABLE course_members (
        course_id text COLLATE "C" NOT NULL REFERENCES courses, user_id text COLLATE "C" NOT NULL,
        enrolled_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (course_id, user_id))""",
    "CREATE INDEX course_members_user ON course_members (user_id)",
    "CREATE TABLE enrolments (id bigint PRIMARY KEY, event bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now())",
    """CREATE TABLE enrolment_counter (
        last bigint NOT NULL, last_us bigint NOT NULL, one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row))""",
    "INSERT INTO enrolment_counter (last, last_us) VALUES (0, 0)",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    for table in ("enrolment_counter", "enrolments", "course_members", "courses"):
        op.execute(f"DROP TABLE {table}")
