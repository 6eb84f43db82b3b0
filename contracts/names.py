"""The name of every key, topic, table and branch: each is built here and nowhere else (a repository test looks)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import date

# Topics. The topic is the version; a breaking change is a new topic beside the old one.
ANSWERS = "answers.v1"
DEAD_LETTERS = "answers.v1.dead_letter"
LATE = "answers.late"
TOPK = "topk.v2"
TOPK_QUIZZES = "topk.quizzes.v1"
TRENDING = "trending.v1"
SKETCHES = "sketches.v1"
POSITIONS = "outbox.positions"
CORRECTIONS = "corrections.v1"
ENROLMENTS = "enrolments.v1"
# The Flink job, by which its submitter and its keeper know it, and the one over a history. Consumer groups too.
STREAMS_JOB = "lakeboard-streams"
BACKFILL_JOB = "lakeboard-backfill"
TO_QUESTDB_GROUP = "lakeboard-to-questdb"
# The transactional ids of what sends corrections and enrolments, and their keys in `outbox.positions`, beside the
# shards' numbers.
CORRECTIONS_TRANSACTIONS = "relay-corrections"
CORRECTIONS_POSITION = "corrections"
ENROLMENTS_TRANSACTIONS = "relay-enrolments"
ENROLMENTS_POSITION = "enrolments"
# The transactional id of what merges sketches.
SKETCHES_TRANSACTIONS = "relay-sketches"
# Key of Postgres' `deployment`: the first offset of `sketches.v1` that the lake may not have.
SKETCHES_IN_LAKE = "sketches_in_lake"
# Key of Postgres' `deployment`: the instant (UTC µs) at which the last ingest of answers that succeeded began.
ANSWERS_INGESTED = "answers_ingested_at_us"
# Key of Postgres' `deployment`: the last UTC day of which enrolments are counted in the lake.
COURSES_COUNTED = "courses_counted_through"
COMPACTED = (TOPK, TOPK_QUIZZES, TRENDING, SKETCHES, POSITIONS)

# Kafka headers of `answers.v1`: what travels beside the event's bytes.
HEADER_TYPE = "type"
HEADER_SHARD = "shard"
HEADER_SEQ = "seq"

# Advisory lock in Postgres (CRC-32 of the name) of whoever moves answers between history and the lake.
ARCHIVE_LOCK = "lakeboard.lake.archive"

# Before the keys of rate limits in Redis.
LIMITS = "limits"

# How a question's word travels in an answer's `skill_tags`: `word:SLUG`.
WORD_TAG = "word:"
# In UTF-8. Longer than any word a quiz asks for; without a bound a sentence would be the key of every stream's state.
MOST_WORD_BYTES = 64

CATALOG = "lake"
NAMESPACE = "lakeboard"

ALL_TIME_START = "1970-01-01"


def table(name: str) -> str:
    """Full Iceberg name of a lake table."""
    return f"{CATALOG}.{NAMESPACE}.{name}"


def audit_branch(settlement_id: str) -> str:
    """Branch that a settlement writes before it is checked."""
    return f"settle_{settlement_id}"


def settlement_tag(settlement_id: str) -> str:
    """Tag that keeps a published settlement's snapshots readable."""
    return f"settled_{settlement_id}"


def archive_tag(month: date) -> str:
    """Tag that keeps the snapshot of `user_sessions` that a month was archived with."""
    return f"archived_{month:%Y_%m}"


def history_partition(month: date) -> str:
    """Postgres' partition of `history` with one UTC month."""
    return f"history_{month:%Y_%m}"


def board(scope: str, period: str, start: date | str) -> str:
    """Redis key of a board, unique because a scope has one zone (CONTRACTS B3)."""
    return f"leaderboard:{scope}:{period}:{start}"


def boards_pattern() -> str:
    """Glob of every board's key, for SCAN."""
    return "leaderboard:*"


def parse_board(key: str) -> tuple[str, str, str]:
    """(scope, period, start) of a board's key: `board` backwards."""
    scope, period, start = key.removeprefix("leaderboard:").rsplit(":", 2)
    return scope, period, start


def rebuilt_board(key: str) -> str:
    """Where a board is made anew before it takes the place of `key`."""
    return f"rebuild:{key}"


def rebuilt_pattern() -> str:
    """Glob of every board being made anew, for SCAN."""
    return "rebuild:*"


def session_scope(session_id: str) -> str:
    return f"session:{session_id}"


def session_board(session_id: str) -> str:
    """A session's board is all-time, counted from the session's start."""
    return board(session_scope(session_id), "all_time", ALL_TIME_START)


def outbox() -> str:
    """Stream of counted answers and barriers of one shard; ids are `{seq}-0`."""
    return "outbox"


def outbox_seq() -> str:
    """Counter behind `seq`: the last one given out."""
    return "outbox:seq"


def session(session_id: str) -> str:
    return f"session:{session_id}"


def session_answers(session_id: str) -> str:
    """Hash of a session's duplicate keys: field `question_id:user_id`."""
    return f"session:{session_id}:answers"


def session_questions(session_id: str) -> str:
    """The session's own copy of its quiz, so that it goes on while Postgres is away."""
    return f"session:{session_id}:questions"


def session_players(session_id: str) -> str:
    return f"session:{session_id}:players"


def session_removed(session_id: str) -> str:
    """Set of the players whom the host removed."""
    return f"session:{session_id}:removed"


def session_places(session_id: str) -> str:
    """Hash of a challenge's players: which question each was shown last, and when."""
    return f"session:{session_id}:places"


def session_present(session_id: str, role: str) -> str:
    """Set of who is connected in a role: members `user_id|handler`."""
    return f"session:{session_id}:present:{role}"


def session_handlers(session_id: str) -> str:
    """Set of the handlers that have a socket of the session."""
    return f"session:{session_id}:handlers"


def present_member(user_id: str, handler: str) -> str:
    return f"{user_id}|{handler}"


def duplicate_field(question_id: str, user_id: str) -> str:
    return f"{question_id}:{user_id}"


def answer_detail(elapsed_ms: int, choice: str | None) -> str:
    """What the value of a live answer's duplicate key ends with: time taken, and the choice if one is known."""
    return f"{elapsed_ms}|{'' if choice is None else choice}"


def channel(session_id: str) -> str:
    """Pub/sub channel on which a session's changes are told."""
    return f"session:{session_id}:changed"


def pin(code: str) -> str:
    return f"pin:{code}"


def idle_sessions() -> str:
    """Sorted set of sessions by their last write (UTC µs): what the relay seals next."""
    return "sessions:last_write"


def due_sessions() -> str:
    """Sorted set of sessions by the instant (UTC µs) at which a move may be due by itself."""
    return "sessions:due"


def handlers() -> str:
    """Hash of the processes that hold sockets: id → JSON of address, load and last beat; each shard has it."""
    return "handlers"


def barriers() -> str:
    """Hash of barriers already written on a shard: field `zone|day` → seq."""
    return "barriers"


def relay_lag() -> str:
    """The lag of a shard's relay by sink, JSON, with an expiry."""
    return "relay_lag"


def replication_mark() -> str:
    """Pub/sub channel that nobody hears: a message moves the replication offset, so that WAIT covers what was read."""
    return "replication_mark"


def user_profile(user_id: str) -> str:
    """What others see of a user, `version|JSON`, on the user's shard; `version|` while that version is being written."""
    return f"user:{user_id}:profile"


def shown_quiz(quiz_id: str) -> str:
    """What others see of a published quiz, `changes|JSON`, on the quiz' shard; `changes|` while they are being written."""
    return f"quiz:{quiz_id}:shown"


def lease(name: str) -> str:
    return f"lease:{name}"


def global_position(source: int) -> str:
    """Position of one source shard's outbox in this target's global boards."""
    return f"global:position:{source}"


def boards_since() -> str:
    """A shard's copy of the deployment's `boards_since_us`, as the relay last read it from Postgres."""
    return "global:boards_since"


def heartbeat(name: str) -> str:
    return f"heartbeat:{name}"


def transactional_id(shard: int) -> str:
    """Stable over restarts, so that a new relay fences the old one (CONTRACTS C4)."""
    return f"relay-{shard}"


def word_tag(word: str) -> str:
    """The tag of a question's word: `word:` and its slug, or `word:` alone for a word without a visible character.

    slug: NFC, lower case, no control characters, runs of white space are one `-`, cut to 64 bytes of UTF-8 at a
    character. Same word, same bytes, in every engine that groups by it.
    """
    shown = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in word)
    slug = "-".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", shown).lower()).split())
    return WORD_TAG + slug.encode()[:MOST_WORD_BYTES].decode(errors="ignore")


def word_of(tags: Iterable[str]) -> str | None:
    """The slug of the first tag that names a word, None if none does. Twin: flink_jobs/answers.sql."""
    for tag in tags:
        if tag.startswith(WORD_TAG) and len(tag) > len(WORD_TAG):
            return tag.removeprefix(WORD_TAG)
    return None
