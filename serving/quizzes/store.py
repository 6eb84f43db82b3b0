"""Quizzes in Postgres, and the starter quizzes of our own that a new deployment begins with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from contracts.errors import BadInput
from serving.connections import Connections
from serving.sessions.session import Question

STARTER = Path(__file__).parent / "starter.json"
TYPE = "definition_to_word"


def starter_quizzes() -> list[dict[str, Any]]:
    """The starter content: quizzes of words with definition, example and three wrong choices each."""
    return json.loads(STARTER.read_text(encoding="utf-8"))["quizzes"]


def question_of(level: str, word: dict[str, Any]) -> Question:
    """A word's question: its definition asks, the word is the answer. The order of choices is fixed by the word."""
    choices = [word["word"], *word["wrong"]]
    random.Random(word["word"]).shuffle(choices)
    ident = f"{level.lower()}-{word['word'].replace(' ', '_')}"
    return Question(ident, word["definition"], tuple(choices), word["word"], TYPE, (level, word["part"]))


async def load_starter(connections: Connections) -> int:
    """Puts the starter quizzes into Postgres, each once; returns how many were new. A repeat changes nothing."""
    new = 0
    async with connections.sql() as sql, sql.transaction():
        for quiz in starter_quizzes():
            made = await sql.execute(
                "insert into quizzes (quiz_id, title, zone, origin) values (%s, %s, 'UTC', 'starter')"
                " on conflict (quiz_id) do nothing",
                [quiz["quiz_id"], quiz["title"]],
            )
            if made.rowcount == 0:
                continue
            new += 1
            for position, word in enumerate(quiz["words"]):
                question = question_of(quiz["level"], word)
                await sql.execute(
                    "insert into questions (quiz_id, question_id, position, prompt, choices, answer, type, tags)"
                    " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
                    [
                        quiz["quiz_id"],
                        question.question_id,
                        position,
                        question.prompt,
                        json.dumps(question.choices),
                        question.answer,
                        question.type,
                        list(question.tags),
                    ],
                )
    return new


async def list_quizzes(connections: Connections, limit: int) -> list[dict[str, Any]]:
    """Quizzes that can be played (not imported), with their number of questions, by id."""
    async with connections.sql() as sql:
        found = await sql.execute(
            "select q.quiz_id, q.title, q.zone, q.origin, count(*) from quizzes q join questions using (quiz_id)"
            " where q.origin <> 'import' group by 1, 2, 3, 4 order by 1 limit %s",
            [limit],
        )
        rows = await found.fetchall()
    return [dict(zip(("quiz_id", "title", "zone", "origin", "questions"), row, strict=True)) for row in rows]


async def load_quiz(connections: Connections, quiz_id: str) -> tuple[dict[str, Any], list[Question]]:
    """A quiz (quiz_id, title, zone) and its questions in order. Raises BadInput(unknown_quiz, 404)."""
    async with connections.sql() as sql:
        found = await sql.execute(
            "select title, zone from quizzes where quiz_id = %s and origin <> 'import'", [quiz_id]
        )
        quiz = await found.fetchone()
        if quiz is None:
            raise BadInput("unknown_quiz", f"there is no quiz {quiz_id!r} to play", status=404)
        found = await sql.execute(
            "select question_id, prompt, choices, answer, type, tags from questions where quiz_id = %s"
            " order by position, question_id",
            [quiz_id],
        )
        rows = await found.fetchall()
    questions = [Question(row[0], row[1], tuple(row[2]), row[3], row[4], tuple(row[5] or ())) for row in rows]
    return {"quiz_id": quiz_id, "title": quiz[0], "zone": quiz[1]}, questions
