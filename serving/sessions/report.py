"""What a host is told of a session: each question, hardest first, and each player. Pure; also the CSV of both.

What would tell a right answer (the answer itself, who chose what) is there once that question cannot be answered any
more. A player whom the host removed is listed and counted nowhere else.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.question_types import TYPED_SPELLING
from contracts.ranking import Total, floor_reached, rank
from contracts.spelling import spelled
from serving.csv_files import csv_text
from serving.sessions.session import CHALLENGE, CLOSED, PAUSED, QUESTION, Question, Session

QUESTIONS, PLAYERS = "questions", "players"
TABLES = (QUESTIONS, PLAYERS)
# Different misspellings of one word that a report lists; a class of thirty rarely finds more.
MOST_TYPED_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """One counted answer. choice, elapsed_ms: None where nobody kept them (answers of an older version's)."""

    question_id: str
    user_id: str
    points: int
    occurred_at_us: int
    correct: bool
    choice: str | None
    elapsed_ms: int | None


@dataclass(frozen=True, slots=True)
class Played:
    """A session as a report sees it. questions: those that were asked, in order. names: user_id → name of who joined.

    hidden: ids of questions that can still be answered. anchor_us, tick_us: of the session's board.
    """

    questions: tuple[Question, ...]
    names: Mapping[str, str]
    removed: frozenset[str]
    hidden: frozenset[str]
    anchor_us: int
    tick_us: int


def asked(session: Session, questions: Sequence[Question]) -> tuple[Question, ...]:
    """The questions that players have been shown; in a challenge all of them may have been."""
    return tuple(questions if session.mode == CHALLENGE else questions[: session.question_index + 1])


def hidden(session: Session, questions: Sequence[Question]) -> frozenset[str]:
    """Ids of the questions that can still be answered, or whose answer is not told yet."""
    if session.over:
        return frozenset()
    if session.mode == CHALLENGE:
        return frozenset(question.question_id for question in questions)
    phase = session.paused_from if session.state == PAUSED else session.state
    return frozenset({session.question_id} if phase in (QUESTION, CLOSED) else ())


def report(played: Played, answers: Iterable[Answered]) -> dict[str, Any]:
    """{answers, participants, questions, players}; one answer a question and user at most. Cost: O(n log n)."""
    by_question: dict[str, list[Answered]] = {}
    by_user: dict[str, list[Answered]] = {}
    for answer in answers:
        by_user.setdefault(answer.user_id, []).append(answer)
        if answer.user_id not in played.removed:
            by_question.setdefault(answer.question_id, []).append(answer)
    rows = [
        _question(number, question, by_question.get(question.question_id, []), played)
        for number, question in enumerate(played.questions, 1)
    ]
    rows.sort(key=_hardest_first)
    return {
        "answers": sum(row["answered"] for row in rows),
        "participants": len({*by_user, *played.names} - played.removed),
        "questions": rows,
        "players": _players(played, by_user),
    }


def _hardest_first(row: Mapping[str, Any]) -> tuple[bool, float, int, int]:
    """Least right first; of equals the one that more have answered, then the earlier. Without an answer: last."""
    return (row["share_right"] is None, row["share_right"] or 0.0, -row["answered"], row["number"])


def _question(number: int, question: Question, answers: Sequence[Answered], played: Played) -> dict[str, Any]:
    right = sum(answer.correct for answer in answers)
    times = [answer.elapsed_ms for answer in answers if answer.elapsed_ms is not None]
    told = question.question_id not in played.hidden
    choices = _typed(question, answers) if question.type == TYPED_SPELLING else _chosen(question, answers)
    wrong = [one for one in choices if not one["right"] and one["count"]]
    return {
        "number": number,
        "question_id": question.question_id,
        "prompt": question.prompt or question.speech,
        "open": not told,
        "answered": len(answers),
        "right": right,
        "share_right": round(right / len(answers), 4) if answers else None,
        "median_ms": round(statistics.median(times)) if times else None,
        "mean_ms": round(statistics.fmean(times)) if times else None,
        "answer": question.answer if told else None,
        "choices": choices if told else [],
        # Of equally wrong ones the first as they are listed.
        "most_chosen_wrong": max(wrong, key=lambda one: one["count"])["choice"] if told and wrong else None,
    }


def _chosen(question: Question, answers: Sequence[Answered]) -> list[dict[str, Any]]:
    counts = Counter(answer.choice for answer in answers if answer.choice is not None)
    # By their texts: the order in which they were shown is the session's own, and gone once it is sealed.
    return [
        {"choice": choice, "count": counts[choice], "right": choice == question.answer}
        for choice in sorted(question.choices)
    ]


def _typed(question: Question, answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """What was typed: the right answer, then the most frequent others, each as it was first written."""
    right = sum(answer.correct for answer in answers)
    written: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for answer in sorted(answers, key=lambda one: one.occurred_at_us):
        if answer.choice is not None and not answer.correct:
            written.setdefault(spelled(answer.choice), answer.choice)
            counts[spelled(answer.choice)] += 1
    wrong = [
        {"choice": written[key], "count": count, "right": False}
        for key, count in counts.most_common(MOST_TYPED_SHOWN)
    ]
    return [{"choice": question.answer, "count": right, "right": True}, *wrong]


def _players(played: Played, by_user: Mapping[str, Sequence[Answered]]) -> list[dict[str, Any]]:
    """One row a player, in the board's order, removed ones at the end without a rank."""

    def total(user_id: str) -> Total:
        mine = [answer for answer in by_user.get(user_id, ()) if answer.points]
        reached = max((answer.occurred_at_us for answer in mine), default=None)
        floored = None if reached is None else floor_reached(reached, played.anchor_us, played.tick_us)
        return Total(user_id, sum(answer.points for answer in mine), floored)

    def row(place: int | None, user_id: str, points: int) -> dict[str, Any]:
        mine = by_user.get(user_id, ())
        return {
            "rank": place,
            "user_id": user_id,
            "name": played.names.get(user_id),
            "answered": len(mine),
            "right": sum(answer.correct for answer in mine),
            "points": points,
            "removed": user_id in played.removed,
        }

    everybody = {*by_user, *played.names}
    ranked = rank(total(user_id) for user_id in everybody - played.removed)
    gone = sorted(everybody & played.removed)
    return [
        *(row(place.rank, place.user_id, place.points) for place in ranked),
        *(row(None, user_id, total(user_id).points) for user_id in gone),
    ]


def as_csv(document: Mapping[str, Any], table: str) -> str:
    """One table of a report as CSV (RFC 4180), with a byte order mark: spreadsheets then read it as UTF-8."""
    rows = document[table]
    fields = [name for name in (rows[0] if rows else ()) if name not in ("choices", "open")]
    # Without rows there is a header all the same: a file with nothing in it looks like an error.
    fields = fields or (["number", "question_id"] if table == QUESTIONS else ["rank", "user_id"])
    return csv_text(fields, rows, head=True)
