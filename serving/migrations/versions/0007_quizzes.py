"""Quizzes as authors write them: a draft with a revision, and versions that never change once they are published.

`revision` rises with each saved change of a draft and is its ETag; `version` is the one that is played now. What was
in `questions` becomes version 1, so that sessions played from it keep their reports. `sort_key` orders the library.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    """ALTER TABLE quizzes
        ADD COLUMN owner_id text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN visibility text NOT NULL DEFAULT 'public',
        ADD COLUMN description text NOT NULL DEFAULT '', ADD COLUMN level text COLLATE "C" NOT NULL DEFAULT '',
        ADD COLUMN types text[] NOT NULL DEFAULT '{}', ADD COLUMN question_count int NOT NULL DEFAULT 0,
        ADD COLUMN draft jsonb, ADD COLUMN revision bigint NOT NULL DEFAULT 0, ADD COLUMN version int,
        ADD COLUMN sort_key text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN published_at timestamptz, ADD COLUMN archived_at timestamptz,
        ADD CONSTRAINT quizzes_visibility CHECK (visibility IN ('private', 'unlisted', 'public'))""",
    """CREATE TABLE quiz_versions (
        quiz_id text COLLATE "C" NOT NULL, version int NOT NULL, document jsonb NOT NULL, digest text NOT NULL,
        published_at timestamptz NOT NULL DEFAULT now(), published_by text COLLATE "C" NOT NULL DEFAULT '',
        PRIMARY KEY (quiz_id, version))""",
    """CREATE FUNCTION quiz_version_is_kept() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a published version never changes'; END $$""",
    """CREATE TRIGGER quiz_versions_rows BEFORE UPDATE ON quiz_versions
        FOR EACH ROW EXECUTE FUNCTION quiz_version_is_kept()""",
    # Only what is played is in the library, and imported quizzes are not: they may be many, and have no questions.
    "CREATE INDEX quizzes_library ON quizzes (sort_key, quiz_id) WHERE version IS NOT NULL",
    "CREATE INDEX quizzes_owner ON quizzes (owner_id, updated_at, quiz_id) WHERE owner_id <> ''",
    """CREATE INDEX quizzes_words ON quizzes USING gin (to_tsvector('simple', title || ' ' || description))
        WHERE version IS NOT NULL""",
    "ALTER TABLE sessions ADD COLUMN quiz_version int NOT NULL DEFAULT 1",
    """INSERT INTO quiz_versions (quiz_id, version, document, digest)
        SELECT q.quiz_id, 1, jsonb_build_object('title', left(q.title, 80), 'questions', jsonb_agg(jsonb_build_object(
            'question_id', question_id, 'type', type, 'prompt', left(prompt, 300), 'answer', answer,
            'wrong', coalesce((SELECT jsonb_agg(c) FROM jsonb_array_elements(choices) c WHERE c #>> '{}' <> answer), '[]'),
            'tags', to_jsonb(tags[1:5])) ORDER BY position, question_id)), ''
        FROM quizzes q JOIN questions USING (quiz_id) WHERE answer IS NOT NULL GROUP BY q.quiz_id, q.title""",
    """UPDATE quizzes q SET version = 1, question_count = jsonb_array_length(v.document -> 'questions'),
        published_at = q.created_at FROM quiz_versions v WHERE v.quiz_id = q.quiz_id""",
    # What is left there are the imported ones' ids, which have no text.
    "DELETE FROM questions WHERE answer IS NOT NULL",
)


def upgrade() -> None:
    """Add them, and bring what there was over."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to one table of questions, with those that are played now; drafts and older versions go."""
    op.execute(
        """INSERT INTO questions (quiz_id, question_id, position, prompt, choices, answer, type)
            SELECT quiz_id, one ->> 'question_id', at, one ->> 'prompt',
                jsonb_build_array(one -> 'answer') || coalesce(one -> 'wrong', '[]'), one ->> 'answer', one ->> 'type'
            FROM quizzes JOIN quiz_versions USING (quiz_id, version),
                jsonb_array_elements(document -> 'questions') WITH ORDINALITY AS found (one, at)"""
    )
    op.execute("ALTER TABLE sessions DROP COLUMN quiz_version")
    op.execute("DROP TABLE quiz_versions")
    op.execute("DROP FUNCTION quiz_version_is_kept")
    for index in ("quizzes_words", "quizzes_owner", "quizzes_library"):
        op.execute(f"DROP INDEX {index}")
    op.execute("ALTER TABLE quizzes DROP CONSTRAINT quizzes_visibility")
    columns = (
        "archived_at published_at updated_at sort_key version revision draft question_count types level description "
        "visibility owner_id"
    )
    for column in columns.split():
        op.execute(f"ALTER TABLE quizzes DROP COLUMN {column}")
