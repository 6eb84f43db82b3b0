"""The time-series tables (QuestDB) of what the streams say and how they fare: definition, meaning, key, retention.

One tuple a table, from which its DDL is rendered; docs/tsdb.md says the same for people, and a test holds the two
together. QuestDB keeps no comments on columns: the ones here are all there are. `ts` is the designated timestamp, the
start of the window, UTC. Writing a row again under its key replaces it, so a repeat changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """kind: QuestDB's type. A `symbol` has few values, a `varchar` any number."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """key: the columns that with `ts` tell rows apart. keep: how long a partition stays,
    counted from the newest row (QuestDB's TTL, a multiple of the partition): older windows that a backfill brings go at once."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: str
    keep: str

    def ddl(self) -> str:
        """CREATE TABLE, safe to repeat."""
        columns = ", ".join(f"{column.name} {column.kind}" for column in (_TS, *self.columns))
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} ({columns}) TIMESTAMP(ts) PARTITION BY {self.partition} "
            f"TTL {self.keep} WAL DEDUP UPSERT KEYS(ts, {', '.join(self.key)})"
        )


@dataclass(frozen=True, slots=True)
class Rollup:
    """A materialized view that keeps an interval's `select` of a table for longer than the table keeps its rows."""

    name: str
    doc: str
    base: str
    select: str
    every: str
    partition: str
    keep: str

    def ddl(self) -> str:
        """CREATE MATERIALIZED VIEW, safe to repeat; QuestDB refreshes it as rows come."""
        return (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {self.name} WITH BASE {self.base} AS ("
            f"SELECT ts, {self.select} FROM {self.base} SAMPLE BY {self.every}"
            f") PARTITION BY {self.partition} TTL {self.keep}"
        )


_TS = Column("ts", "TIMESTAMP", "start of the window, or when the sample was taken")
_LEVEL = Column("level", "SYMBOL", "length of the window: minute, ten_minutes, hour, day (so far)")
_WINDOW_END = Column("window_end", "TIMESTAMP", "end of the window, exclusive; of a day, how far it has come")
_TOP_K = (
    Column("kind", "SYMBOL", "users (points), quizzes (plays), questions, words, types (misses), health"),
    Column("scope", "SYMBOL", "global or quiz:ID"),
    _LEVEL,
    Column("place", "INT", "1 is the first; in the order of every board; no two share one"),
    Column("subject_id", "VARCHAR", "the user, quiz, question, word or type; of health, the reason"),
    Column("amount", "LONG", "points, plays or misses in the window; of health, records skipped that day"),
    Column(
        "reached_at", "TIMESTAMP", "users: when the points were reached, floored to 1 s; null at 0 points"
    ),
    _WINDOW_END,
)
_TOP_K_KEY = ("kind", "scope", "level", "place")
TOP_K = Table(
    "top_k",
    "Top 10 of each minute over all quizzes, exact over the answers that came in time; and health, by day.",
    _TOP_K,
    _TOP_K_KEY,
    "DAY",
    "90 DAYS",
)
TOP_K_LONGER = Table(
    "top_k_longer",
    "The same of ten minutes (every two), of an hour and of the day so far (every ten): what is kept of the minutes.",
    _TOP_K,
    _TOP_K_KEY,
    "MONTH",
    "24 MONTHS",
)
TOP_K_QUIZZES = Table(
    "top_k_quizzes",
    "Top 10 users of each quiz, in windows of every length.",
    _TOP_K,
    _TOP_K_KEY,
    "DAY",
    "14 DAYS",
)
TRENDING = Table(
    "trending",
    "Quizzes and words whose share of all play grew most surely against their own past hour (flink_jobs/trending.sql).",
    (
        Column("kind", "SYMBOL", "quizzes or words"),
        Column("place", "INT", "1 has the highest score"),
        Column("subject_id", "VARCHAR", "the quiz or word"),
        Column("plays", "LONG", "answers in the ten minutes"),
        Column("expected", "DOUBLE", "answers that its past and all play let expect"),
        Column("score", "DOUBLE", "standard deviations above it (Li & Ma 1983, eq. 17); at least 3"),
        _WINDOW_END,
    ),
    ("kind", "place"),
    "DAY",
    "90 DAYS",
)
MISSED_QUESTIONS = Table(
    "missed_questions",
    "The most missed questions of each minute, by its Count-Min; beside `estimates`, which has every sketch.",
    (
        Column("question_id", "SYMBOL", "QUIZ/QUESTION, as quizzes number their own"),
        Column("level", "SYMBOL", "minute"),
        Column("estimate", "LONG", "how often it was missed, estimated; never below the truth"),
        Column("lower", "LONG", "the truth is at least this, at `confidence`"),
        Column("upper", "LONG", "the truth is at most this"),
        Column("bound", "LONG", "how far the estimate may lie above the truth"),
        Column("confidence", "DOUBLE", "with which the bound holds for one question"),
        Column("total", "LONG", "misses of all questions"),
        Column("answers", "LONG", "answers in the window"),
        _WINDOW_END,
    ),
    ("question_id", "level"),
    "DAY",
    "90 DAYS",
)
ESTIMATES = Table(
    "estimates",
    "What each sketch of a window says: its heaviest keys, quantiles or number of keys, and how far it may be off.",
    (
        Column("sketch", "SYMBOL", "kind in contracts/sketched.py: missed_questions, points, participants …"),
        Column("level", "SYMBOL", "length of the window: minute, hour, day (so far)"),
        Column("subject_id", "VARCHAR", "the heavy question, quiz, type or word; p50 … p99; all"),
        Column("estimate", "LONG", "how often it was missed; ms; points; number of different users"),
        Column("lower", "LONG", "the truth is at least this, at `confidence`"),
        Column("upper", "LONG", "the truth is at most this, at `confidence`"),
        Column("bound", "LONG", "how far truth and estimate may lie apart, the wider side"),
        Column("confidence", "DOUBLE", "with which the interval holds for one figure"),
        Column("answers", "LONG", "answers in the window"),
        Column("late", "LONG", "of these, how many came after it had closed and are in the sketch"),
        _WINDOW_END,
    ),
    ("sketch", "level", "subject_id"),
    "DAY",
    "90 DAYS",
)
PIPELINE_HEALTH = Table(
    "pipeline_health",
    "How the pipeline fares: one row per look (every ten seconds), measure and source (serving/relay/pipeline_health.py).",
    (
        Column(
            "measure",
            "SYMBOL",
            "relay_lag_seconds, or a name of MEASURES there; instants as ages at the look",
        ),
        Column("source", "SYMBOL", "the shard, shard/sink, consumer group, job or system that it is of"),
        Column("value", "DOUBLE", "in the unit that the measure ends with"),
    ),
    ("measure", "source"),
    "DAY",
    "90 DAYS",
)
TABLES = (TOP_K, TOP_K_LONGER, TOP_K_QUIZZES, TRENDING, MISSED_QUESTIONS, ESTIMATES, PIPELINE_HEALTH)
ROLLUPS = (
    Rollup(
        "pipeline_health_hours",
        "Mean and worst of an hour.",
        "pipeline_health",
        "measure, source, avg(value) AS mean, max(value) AS worst, count() AS samples",
        "1h",
        "MONTH",
        "24 MONTHS",
    ),
    Rollup(
        "trending_days",
        "Each subject's best score of a day and how long it was listed (windows).",
        "trending",
        "kind, subject_id, max(score) AS best_score, max(plays) AS most_plays, count() AS windows",
        "1d",
        "MONTH",
        "24 MONTHS",
    ),
)


def top_k_table(kind: str, scope: str, level: str) -> Table:
    """The table of a top 10."""
    if scope != "global":
        return TOP_K_QUIZZES
    return TOP_K if level == "minute" or kind == "health" else TOP_K_LONGER
