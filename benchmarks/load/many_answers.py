"""Millions of answers by arithmetic on their number, the same in Flink SQL (which puts them into Kafka) and in DuckDB.

Numbers 0 … N-1 come at `rate` a second of event time, each up to 2 s before its turn (out of order), so that they
begin at START_US less half of the whole: the middle of the play is a full hour, where windows of every length close. A
player stays in one quiz; a tenth of all players are in the hot one, the others in quizzes of u³ (few large ones). A
quiz has 20 questions, each with a word (of 20,000) and one of four types.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# 2026-03-02 12:00:00 UTC.
MIDDLE_US = 1_772_452_800_000_000
QUESTIONS = 20
WORDS = 20_000
TYPES = 4
TIME_LIMIT_MS = 20_000
# Primes below 2^21: products with numbers below 10^8 stay far below 2^63, in both engines.
_PRIME, _FACTOR = 1_999_993, 1_664_525


@dataclass(frozen=True, slots=True)
class Play:
    """How much, how fast in event time, by how many players in how many quizzes."""

    answers: int
    rate: int
    players: int
    quizzes: int

    @property
    def start_us(self) -> int:
        """The first answer's turn."""
        return MIDDLE_US - self.answers * 1_000_000 // self.rate // 2

    @property
    def closed_us(self) -> int:
        """Windows that end here or before are closed once all is read: the newest answer less what may be late."""
        return self.start_us + (self.answers - 1) * 1_000_000 // self.rate - 13_000_000


def spread(number: str, salt: int) -> str:
    """SQL of a number in 0 … _PRIME-1 that looks random in `number`."""
    product = f"({number}) * {_FACTOR + 2 * salt} + {salt * 7919}"
    return mod(f"{product} + {mod(f'({number}) * 31 + {salt}', 104_729)} * 613", _PRIME)


def mod(number: str, by: int) -> str:
    """SQL of a remainder, in 64 bits: Flink's has the type of its second operand, and products of it would overflow."""
    return f"CAST(MOD({number}, {by}) AS BIGINT)"


def columns(play: Play, text: str) -> dict[str, str]:
    """SQL of each field of answer number `n`. text: the type that numbers become text as (STRING, VARCHAR).

    `player`, `quiz` and `question` are columns of a subquery, see `rows`.
    """

    def string(prefix: str, number: str) -> str:
        return f"CONCAT('{prefix}', CAST({number} AS {text}))"

    elapsed = mod(spread("n", 5), 21_000)
    correct = f"{mod(spread('n', 6), 10)} < 7"
    at = f"{play.start_us} + {_divided('n * 1000000', play.rate)} - {spread('n', 7)}"
    return {
        "event_id": f"CONCAT('00000000-0000-5000-8000-', LPAD(CAST(n AS {text}), 12, '0'))",
        "origin": "'live'",
        "occurred_at_us": at,
        "user_id": string("u", "player"),
        "user_no": "player",
        "session_id": string("s", "quiz"),
        "session_started_at_us": str(play.start_us),
        "session_tick_ms": "10",
        "quiz_id": string("quiz", "quiz"),
        "quiz_zone": "'UTC'",
        "quiz_version": "1",
        "question_id": string("q", "question"),
        "question_type": string("type", f"MOD(question, {TYPES})"),
        "skill_tags": f"ARRAY['verbs', CONCAT('word:w', CAST(MOD(quiz * {QUESTIONS} + question, {WORDS}) AS {text}))]",
        "choice": "'apple'",
        "correct": correct,
        "elapsed_ms": elapsed,
        "time_limit_ms": str(TIME_LIMIT_MS),
        "rule": "'speed@1'",
        "points": f"CASE WHEN {correct} AND {elapsed} <= {TIME_LIMIT_MS} "
        f"THEN 500 + {_divided(f'500 * ({TIME_LIMIT_MS} - {elapsed})', TIME_LIMIT_MS)} ELSE 0 END",
    }


def _divided(number: str, by: int) -> str:
    """Whole division, which the engines write differently."""
    return f"(({number}) - {mod(number, by)}) / {by}"


def rows(play: Play, numbers: str) -> str:
    """A FROM clause with n, player, quiz, question. numbers: a table with a column n."""
    player = mod(f"{spread('n', 1)} * 7 + {mod('n', 7)}", play.players)
    # In parts of a thousand, cubed: few quizzes have many players.
    part = mod(spread("player", 3), 1_000)
    large = _divided(f"{play.quizzes} * {part} * {part} * {part}", 1_000_000_000)
    quiz = f"CASE WHEN {mod(spread('player', 2), 10)} = 0 THEN CAST(0 AS BIGINT) ELSE CAST({large} AS BIGINT) END"
    question = mod(spread("n", 4), QUESTIONS)
    return f"(SELECT *, {quiz} AS quiz FROM (SELECT n, {player} AS player, {question} AS question FROM {numbers}) AS a) AS b"


def prefill_statements(play: Play, bootstrap: str, topic: str, columns_sql: str) -> list[str]:
    """Flink SQL that puts all answers into the topic, by user. columns_sql: the event's, from contracts.events."""
    values = columns(play, "STRING")
    kinds = dict(line.strip().rstrip(",").replace("`", "").split(" ", 1) for line in columns_sql.splitlines())
    shown = ", ".join(f"CAST({value} AS {kinds[name]})" for name, value in values.items())
    return [
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10000000', "
        f"'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{play.answers - 1}')",
        f"CREATE TABLE filled (\n{columns_sql}\n) WITH ('connector' = 'kafka', 'topic' = '{topic}', "
        f"'properties.bootstrap.servers' = '{bootstrap}', 'properties.linger.ms' = '50', "
        "'properties.batch.size' = '262144', 'properties.compression.type' = 'none', 'key.format' = 'raw', "
        "'key.fields' = 'user_id', 'value.format' = 'json', 'value.fields-include' = 'ALL', "
        "'sink.delivery-guarantee' = 'at-least-once')",
        f"INSERT INTO filled SELECT {shown} FROM {rows(play, 'numbers')}",
    ]


# One statement a length: what top_k.sql says, as one would write it in DuckDB. Parameters: windows (each answer's), until.
_DUCKDB_TOP = """
WITH parts AS (
  SELECT 'users' AS kind, 'global' AS scope, user_id AS subject_id, points AS amount, occurred_at_us,
    CASE WHEN points > 0 THEN occurred_at_us // 1000000 END AS reached_s FROM answers
  UNION ALL SELECT 'users', 'quiz:' || quiz_id, user_id, points, occurred_at_us,
    CASE WHEN points > 0 THEN occurred_at_us // 1000000 END FROM answers
  UNION ALL SELECT 'quizzes', 'global', quiz_id, 1, occurred_at_us, NULL FROM answers
  UNION ALL SELECT 'questions', 'global', quiz_id || '/' || question_id, (NOT correct)::INT, occurred_at_us, NULL
    FROM answers
  UNION ALL SELECT 'types', 'global', question_type, (NOT correct)::INT, occurred_at_us, NULL FROM answers
  UNION ALL SELECT 'words', 'global', skill_tags[2][6:], (NOT correct)::INT, occurred_at_us, NULL FROM answers
), steps AS (
  SELECT kind, scope, subject_id, occurred_at_us // 1000000 // {slide} * {slide} AS step, sum(amount)::BIGINT AS amount,
    max(reached_s) AS reached_s FROM parts GROUP BY ALL
), sums AS (
  SELECT kind, scope, subject_id, {start} AS start_s, {end} AS end_s, sum(amount)::BIGINT AS amount,
    max(reached_s) AS reached_s
  FROM steps, range({windows}) w(w) GROUP BY ALL HAVING end_s * 1000000 <= {until}
)
SELECT kind, scope, start_s * 1000000 AS start_us, end_s * 1000000 AS end_us, subject_id, amount, reached_s * 1000000,
  row_number() OVER (PARTITION BY kind, scope, start_s, end_s
    ORDER BY amount DESC, coalesce(reached_s, 0), subject_id DESC) AS place
FROM sums WHERE amount > 0 OR kind = 'users' QUALIFY place <= 10
"""
_LENGTHS = {
    "minute": {"slide": 60, "start": "step", "end": "step + 60", "windows": 1},
    "ten_minutes": {"slide": 120, "start": "step - 120 * w", "end": "step - 120 * w + 600", "windows": 5},
    "hour": {"slide": 600, "start": "step - 600 * w", "end": "step - 600 * w + 3600", "windows": 6},
    "day": {
        "slide": 600,
        "start": "step // 86400 * 86400",
        "end": "step + 600 * (w + 1)",
        "windows": 144,
    },
}
TopRow = tuple[str, str, int, int, str, int, int | None, int]


def in_duckdb(play: Play, folder: Path) -> Any:
    """A DuckDB with all answers as JSON lines in `folder`, one file, and as the view `answers` over it."""
    import duckdb

    connection = duckdb.connect(str(folder / "answers.duckdb"))
    values = columns(play, "VARCHAR")
    shown = ", ".join(f"{value.replace(') / ', ') // ')} AS {name}" for name, value in values.items())
    shown = shown.replace("ARRAY[", "[")
    source = rows(play, f"(SELECT range AS n FROM range({play.answers})) AS r").replace(") / ", ") // ")
    connection.execute(f"COPY (SELECT {shown} FROM {source}) TO '{folder}/answers.json' (FORMAT json)")
    connection.execute(f"CREATE VIEW answers AS SELECT * FROM read_json('{folder}/answers.json')")
    return connection


def duckdb_top(connection: Any, level: str, until_us: int) -> list[TopRow]:
    """Every top 10 of a length. Days so far: each step."""
    return list(connection.execute(_DUCKDB_TOP.format(**_LENGTHS[level], until=until_us)).fetchall())
