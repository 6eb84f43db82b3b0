"""The small data set that ships: a week of simulated learners as csv, made from a seed. No person is behind a line.

    python -m tests.simulated_week          writes examples/simulated_week.csv.gz anew, the same bytes each time

It is untidy on purpose: lines late and out of order, repeats with the same and with other content, games over
midnight and over a month's end, equal instants, ids that have to be hashed, every allowed form of instant and truth.
"""

from __future__ import annotations

import gzip
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "examples" / "simulated_week.csv.gz"
SEED = 20260330
HEADER = "occurred_at,user_id,session_id,quiz_id,question_id,correct,elapsed_ms"
# Monday; Wednesday begins another month.
FIRST_DAY = datetime(2026, 3, 30, tzinfo=UTC)
DAYS = 7
LEARNERS = 48
QUIZZES = ("animals", "kitchen", "travel", "weather", "verbs-1", "verbs-2")
QUESTIONS = 10
# Starts of the day's games, minutes after midnight; the last goes on over midnight (not on Sunday).
GAMES = (7 * 60 + 45, 12 * 60 + 10, 16 * 60 + 30, 20 * 60, 23 * 60 + 57)


def learner(number: int) -> str:
    """Its id. Two differ by case alone; two are no ids of ours, so that the import hashes them."""
    if number in (0, 1):
        return ("sim-learner-a", "sim-learner-A")[number]
    return f"sim learner {number} é" if number in (2, 3) else f"sim-learner-{number:02d}"


def _instant(moment: datetime, chance: random.Random) -> str:
    """One of the allowed forms, to the millisecond."""
    shape = chance.randrange(20)
    if shape == 0:
        return str((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))
    text = moment.isoformat(timespec="milliseconds")
    if shape == 1:
        # The same instant on a clock two hours ahead.
        return (moment + timedelta(hours=2)).isoformat(timespec="milliseconds")[:-6] + "+02:00"
    return text[:-6] + ("" if shape == 2 else "Z")


def _line(
    moment: datetime, user: str, session: str, quiz: str, question: int, skill: float, chance: random.Random
) -> str:
    correct = chance.random() < skill
    truth = chance.choice(("1", "1", "1", "true") if correct else ("0", "0", "0", "false"))
    elapsed_ms = chance.choice(
        [*(chance.randrange(900, 20_000) for _ in range(17)), 0, 60_000, 60_000 + chance.randrange(1, 9_000)]
    )
    return f"{_instant(moment, chance)},{user},{session},{quiz},{quiz}-{question:02d},{truth},{elapsed_ms}"


def _game(number: int, started: datetime, chance: random.Random) -> list[str]:
    """The lines of one game, in the order in which they were given, with its repeats."""
    quiz = chance.choice(QUIZZES)
    session = f"sim-game-{number:03d}"
    lines: list[str] = []
    for user in chance.sample(range(LEARNERS), chance.randrange(5, 13)):
        for question in range(chance.randrange(3, QUESTIONS + 1)):
            shown = started + timedelta(seconds=30 * question)
            # Whole seconds often: several learners then reach a total at the same instant.
            moment = shown + timedelta(milliseconds=chance.choice([4_000, 9_000, chance.randrange(25_000)]))
            skill = 0.35 + 0.6 * user / LEARNERS
            made = _line(moment, learner(user), session, quiz, question, skill, chance)
            lines.append(made)
            repeat = chance.random()
            if repeat < 0.03:
                lines.append(made)
            elif repeat < 0.08:
                # A second try, at the same instant or later: it must not count.
                again = moment + timedelta(milliseconds=chance.choice([0, 1, 700, 45_000]))
                lines.append(_line(again, learner(user), session, quiz, question, skill, chance))
    return lines


def simulated_week() -> str:
    """The file's text: header and lines in order of arrival."""
    chance = random.Random(SEED)
    arrivals: list[tuple[float, int, str]] = []
    number = 0
    for day in range(DAYS):
        for minute in GAMES:
            if day == DAYS - 1 and minute == GAMES[-1]:
                continue
            started = FIRST_DAY + timedelta(days=day, minutes=minute + chance.randrange(3))
            for line in _game(number, started, chance):
                # Most arrive within minutes, out of order; some hours or days late.
                delay_s = chance.choice(
                    [*(chance.uniform(0, 300) for _ in range(19)), chance.uniform(0, 3e5)]
                )
                arrivals.append((started.timestamp() + delay_s, len(arrivals), line))
            number += 1
    return "\n".join([HEADER, *(line for _, _, line in sorted(arrivals))]) + "\n"


def packed(text: str) -> bytes:
    """The gzip form: no name and no time in it, so that equal text gives equal bytes."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_bytes(packed(simulated_week()))
