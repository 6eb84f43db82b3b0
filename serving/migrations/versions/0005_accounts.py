"""Accounts, log-ins, keys, address lists, what admins did; and what a user shows of itself.

A user may have an account; a guest has none, and one that makes an account keeps its id. Secrets are kept as digests
(tokens, tickets, keys: random, so SHA-256 is enough) or as argon2 hashes (passwords). `audit_log` takes new rows alone.
`users.version` counts changes of what others see, so that a cache can tell an older profile from a newer one.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "ALTER TABLE users ADD COLUMN avatar text",
    "ALTER TABLE users ADD COLUMN anonymous boolean NOT NULL DEFAULT false",
    "ALTER TABLE users ADD COLUMN version bigint NOT NULL DEFAULT 0",
    "ALTER TABLE users ADD COLUMN deleted_at timestamptz",
    # Whether a picture that somebody gives up is another's too.
    "CREATE INDEX users_avatar ON users (avatar) WHERE avatar IS NOT NULL",
    """CREATE TABLE accounts (
        user_id text COLLATE "C" PRIMARY KEY REFERENCES users, login_name text COLLATE "C" NOT NULL UNIQUE,
        password text, roles text[] NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), password_at timestamptz,
        blocked_at timestamptz, used_at timestamptz)""",
    "CREATE INDEX accounts_created ON accounts (created_at, user_id)",
    """CREATE TABLE logins (
        login_id text COLLATE "C" PRIMARY KEY, user_id text COLLATE "C" NOT NULL REFERENCES accounts ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL, ended_at timestamptz, why text)""",
    "CREATE INDEX logins_user ON logins (user_id)",
    """CREATE TABLE refresh_tokens (
        digest bytea PRIMARY KEY, login_id text COLLATE "C" NOT NULL REFERENCES logins ON DELETE CASCADE,
        issued_at timestamptz NOT NULL DEFAULT now(), used_at timestamptz)""",
    "CREATE INDEX refresh_tokens_login ON refresh_tokens (login_id)",
    """CREATE TABLE tickets (
        digest bytea PRIMARY KEY, user_id text COLLATE "C" NOT NULL REFERENCES accounts ON DELETE CASCADE,
        expires_at timestamptz NOT NULL, used_at timestamptz)""",
    """CREATE TABLE api_keys (
        key_id text COLLATE "C" PRIMARY KEY, user_id text COLLATE "C" NOT NULL REFERENCES accounts ON DELETE CASCADE,
        name text NOT NULL, scopes text[] NOT NULL, digest bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz, ended_at timestamptz, used_at timestamptz)""",
    "CREATE INDEX api_keys_user ON api_keys (user_id)",
    """CREATE TABLE address_rules (
        network cidr PRIMARY KEY, verdict text NOT NULL CHECK (verdict IN ('allow', 'deny')), note text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(), created_by text COLLATE "C" NOT NULL)""",
    """CREATE TABLE audit_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
        actor text COLLATE "C" NOT NULL, action text NOT NULL, subject text NOT NULL, detail jsonb NOT NULL DEFAULT '{}')""",
    """CREATE FUNCTION audit_log_is_kept() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'audit_log takes new rows alone'; END $$""",
    """CREATE TRIGGER audit_log_rows BEFORE UPDATE OR DELETE ON audit_log
        FOR EACH ROW EXECUTE FUNCTION audit_log_is_kept()""",
    """CREATE TRIGGER audit_log_whole BEFORE TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_kept()""",
    # What is still to be taken away outside Postgres, written with what made it superfluous: a crash loses none of it.
    """CREATE TABLE erasures (
        kind text NOT NULL, what text COLLATE "C" NOT NULL, noted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, what))""",
)


def upgrade() -> None:
    """Add them."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away; users stay, as guests."""
    for table in ("erasures", "audit_log"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION audit_log_is_kept")
    for table in ("address_rules", "api_keys", "tickets", "refresh_tokens", "logins", "accounts"):
        op.execute(f"DROP TABLE {table}")
    for column in ("deleted_at", "version", "anonymous", "avatar"):
        op.execute(f"ALTER TABLE users DROP COLUMN {column}")
