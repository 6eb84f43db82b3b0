"""The reference model: every board from a list of answers, slow and obvious; and a seeded generator of days of play.

Shares no code with the boards: it keeps whole lists of counted answers and sums them anew for each question asked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

TICK_SPAN = 2**22
SECOND_US = 1_000_000
TICKS = {"daily": SECOND_US, "weekly": SECOND_US, "monthly": SECOND_US, "all_time": 3600 * SECOND_US}


@dataclass(frozen=True)
class Answer:
    """One answer as it was given, before anyone decided whether it counts."""

    occurred_at_us: int
    user_id: str
    session_id: str
    quiz_id: str
    question_id: str
    correct: bool
    elapsed_ms: int
    session_started_at_us: int
    zone: str = "UTC"
    time_limit_ms: int = 60_000


@dataclass(frozen=True)
class Row:
    """One row of a board."""

    rank: int
    user_id: str
    points: int
    reached_at_us: int | None


def points_of(answer: Answer) -> int:
    """speed@1."""
    if not answer.correct or answer.elapsed_ms > answer.time_limit_ms:
        return 0
    return 500 + int(500 * (answer.time_limit_ms - answer.elapsed_ms) // answer.time_limit_ms)


def counted(answers: list[Answer]) -> list[Answer]:
    """The answers that count when they arrive in this order: the first of each (session, question, user)."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for answer in answers:
        identity = (answer.session_id, answer.question_id, answer.user_id)
        if identity not in seen:
            seen.add(identity)
            kept.append(answer)
    return kept


def local_day(answer: Answer, zone: str) -> date:
    """The day of an answer in a zone."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=answer.occurred_at_us)
    return moment.astimezone(ZoneInfo(zone)).date()


def start_of(period: str, day: date) -> date:
    """First day of the period that holds a day."""
    if period == "weekly":
        return day - timedelta(days=day.isoweekday() - 1)
    if period == "monthly":
        return date(day.year, day.month, 1)
    return day if period == "daily" else date(1970, 1, 1)


def anchor_of(period: str, start: date, zone: str) -> int:
    """First instant of a period, UTC µs."""
    if period == "all_time":
        return 0
    midnight = datetime(start.year, start.month, start.day, tzinfo=ZoneInfo(zone))
    return int(midnight.timestamp()) * SECOND_US


def rows_of(answers: list[Answer], anchor_us: int, tick_us: int) -> list[Row]:
    """Rank the users of some counted answers."""
    found = []
    for user in {answer.user_id for answer in answers}:
        mine = [answer for answer in answers if answer.user_id == user]
        points = sum(points_of(answer) for answer in mine)
        instants = [answer.occurred_at_us for answer in mine if points_of(answer) > 0]
        ticks = max(instants) // tick_us - anchor_us // tick_us if instants else 0
        ticks = min(max(ticks, 0), TICK_SPAN - 1)
        found.append((user, points, (anchor_us // tick_us + ticks) * tick_us if instants else None))
    found.sort(key=lambda row: row[0].encode(), reverse=True)
    found.sort(key=lambda row: row[2] or 0)
    found.sort(key=lambda row: row[1], reverse=True)
    return [Row(rank, *row) for rank, row in enumerate(found, 1)]


def all_boards(answers: list[Answer]) -> dict[tuple[str, str, str], list[Row]]:
    """(scope, period, start) → rows, for every session, quiz and global board these arrivals fill."""
    groups: dict[tuple[str, str, str], list[Answer]] = {}
    settings: dict[tuple[str, str, str], tuple[int, int]] = {}
    for answer in counted(answers):
        for scope, zone in (("global", "UTC"), (f"quiz:{answer.quiz_id}", answer.zone)):
            for period, tick_us in TICKS.items():
                start = start_of(period, local_day(answer, zone))
                name = (scope, period, str(start))
                groups.setdefault(name, []).append(answer)
                settings[name] = (anchor_of(period, start, zone), tick_us)
        name = (f"session:{answer.session_id}", "all_time", "1970-01-01")
        groups.setdefault(name, []).append(answer)
        settings[name] = (answer.session_started_at_us, SECOND_US)
    return {name: rows_of(group, *settings[name]) for name, group in groups.items()}


def play(
    seed: int, *, days: int = 3, users: int = 12, quizzes: int = 3, sessions: int = 8, prefix: str = ""
) -> list[Answer]:
    """Days of play in order of arrival: equal instants, repeats with other content, late and out of order."""
    chance = random.Random(seed)
    zones = ["UTC", "Europe/Paris", "America/New_York"]
    first = int(datetime(2024, 3, 30, tzinfo=UTC).timestamp()) * SECOND_US
    answers = []
    for number in range(sessions):
        quiz = number % quizzes
        started = first + chance.randrange(days * 86_400) * SECOND_US
        for user in range(users):
            for question in range(chance.randrange(1, 5)):
                answers.append(
                    Answer(
                        occurred_at_us=started
                        + chance.choice([0, 1, SECOND_US, chance.randrange(7_200 * SECOND_US)]),
                        user_id=f"{prefix}{chance.choice('uU')}{user}",
                        session_id=f"{prefix}s{number}",
                        quiz_id=f"{prefix}q{quiz}",
                        question_id=f"w{question}",
                        correct=chance.random() < 0.7,
                        elapsed_ms=chance.choice([0, 1, 60_000, 60_001, chance.randrange(60_000)]),
                        session_started_at_us=started,
                        zone=zones[quiz % len(zones)],
                    )
                )
    repeats = [
        replace(a, occurred_at_us=a.occurred_at_us + SECOND_US, correct=not a.correct)
        for a in chance.sample(answers, len(answers) // 5)
    ]
    answers += repeats
    chance.shuffle(answers)
    return answers
