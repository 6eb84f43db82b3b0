"""The first layout: users, quizzes, sessions, history, relay positions, settlements.

`history` is partitioned by month of `occurred_at` (the relay makes partitions as they are needed) and holds barriers
too, with the answer's columns null; `event` is the bytes as they were built, the truth of the row.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """CREATE TABLE users (
        user_id text COLLATE "C" PRIMARY KEY, user_no bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 1 MAXVALUE 4294967295),
        name text NOT NULL DEFAULT '', origin text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (user_no))""",
    """CREATE TABLE quizzes (
        quiz_id text COLLATE "C" PRIMARY KEY, title text NOT NULL DEFAULT '', zone text NOT NULL DEFAULT 'UTC',
        origin text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE questions (
        quiz_id text COLLATE "C" NOT NULL, question_id text COLLATE "C" NOT NULL, position int,
        prompt text NOT NULL DEFAULT '', choices jsonb NOT NULL DEFAULT '[]', answer text, type text NOT NULL,
        tags text[] NOT NULL DEFAULT '{}', PRIMARY KEY (quiz_id, question_id))""",
    """CREATE TABLE quiz_rules (
        quiz_id text COLLATE "C" NOT NULL, rule text COLLATE "C" NOT NULL, PRIMARY KEY (quiz_id, rule))""",
    """CREATE TABLE sessions (
        session_id text COLLATE "C" PRIMARY KEY, quiz_id text COLLATE "C" NOT NULL, pin text, host_id text COLLATE "C",
        origin text NOT NULL, shard int NOT NULL, started_at_us bigint NOT NULL, tick_ms int NOT NULL,
        rule text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz, sealed_at timestamptz)""",
    """CREATE TABLE history (
        shard int NOT NULL, seq bigint NOT NULL, type text NOT NULL, event_id uuid NOT NULL,
        occurred_at timestamptz NOT NULL, origin text COLLATE "C", occurred_at_us bigint, user_id text COLLATE "C",
        user_no bigint, session_id text COLLATE "C", session_started_at_us bigint, session_tick_ms bigint,
        quiz_id text COLLATE "C", quiz_zone text COLLATE "C", quiz_version bigint, question_id text COLLATE "C",
        question_type text COLLATE "C", skill_tags text[], choice text, correct boolean, elapsed_ms bigint,
        time_limit_ms bigint, rule text COLLATE "C", points bigint, mode text NOT NULL, event bytea NOT NULL,
        UNIQUE (event_id, occurred_at)) PARTITION BY RANGE (occurred_at)""",
    "CREATE INDEX history_user ON history (user_id, occurred_at)",
    "CREATE INDEX history_seq ON history (shard, seq)",
    """CREATE TABLE relay_position (
        sink text NOT NULL, shard int NOT NULL, position bigint NOT NULL, lease_epoch bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (sink, shard))""",
    """CREATE TABLE settlements (
        id text PRIMARY KEY, from_day date NOT NULL, to_day date NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        version int NOT NULL, rule text NOT NULL, reason text NOT NULL DEFAULT '', snapshots jsonb NOT NULL,
        last_seq jsonb NOT NULL)""",
    """CREATE TABLE settlement_periods (
        settlement_id text NOT NULL REFERENCES settlements (id), period text NOT NULL, start date NOT NULL,
        zone text NOT NULL DEFAULT 'UTC', version int NOT NULL, PRIMARY KEY (period, start, zone, version))""",
    "CREATE TABLE deployment (key text PRIMARY KEY, value text NOT NULL)",
)


def upgrade() -> None:
    """Create everything."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything."""
    for table in (
        "deployment",
        "settlement_periods",
        "settlements",
        "relay_position",
        "history",
        "sessions",
        "quiz_rules",
        "questions",
        "quizzes",
        "users",
    ):
        op.execute(f"DROP TABLE {table}")
